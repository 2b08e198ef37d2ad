"""The settings of each stage, and the presets: named sets of values for one kind of machine.

Every setting is declared once, here, by :func:`dpd_core.settings.setting`. A value given by hand
wins over the preset, and the preset over the default.
"""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from dpd_core.errors import ConfigError
from dpd_core.settings import StageConfig, setting, suggestion

BUNDLED = ("bundled",)
"""The word for the models that come with the program."""

STUDENTS = ("convnet", "vgg", "mixer", "resnet18", "pretrained")
"""Student networks of our own."""

PUBLIC_DATA = ("eurosat", "ucmerced", "aid", "nwpu-resisc45")
"""Public data sets that are known by a short name (see :mod:`dpd_core.dataset.hub`)."""


class ProjectConfig(StageConfig):
    """What every stage of one project shares."""

    model: str = setting(
        "bundled",
        "Text-to-image model: 'bundled', a Hub id or a local folder.",
        path="model",
        hub=True,
        words=BUNDLED,
    )
    image_size: int = setting(
        0,
        "Side of the square images the model sees; 0 takes the model's own.",
        low=0,
        high=1024,
        unit="px",
        advanced=True,
    )
    device: str = setting(
        "auto", "Device to compute on.", choices=("auto", "cpu", "cuda", "mps"), advanced=True
    )
    dtype: str = setting(
        "auto",
        "Number format of the frozen networks.",
        choices=("auto", "float32", "bfloat16", "float16"),
        advanced=True,
    )
    seed: int = setting(0, "Every random choice of the project derives from it.", low=0)


class DatasetConfig(StageConfig):
    """Where the labelled images come from and how they are split."""

    data: str = setting(
        "",
        "Image folder (one folder a class), zip or tar, Parquet, Hub data set id, or one of "
        f"{', '.join(PUBLIC_DATA)}.",
        path="folder",
        hub=True,
        words=PUBLIC_DATA,
    )
    demo: bool = setting(False, "Use the demo images (ten classes of EuroSAT) instead of data.")
    demo_per_class: int = setting(80, "Demo images a class.", low=4, high=80)
    layout: str = setting(
        "",
        "How the files are to be understood: top, leaf or path (which folders are the classes), "
        "table, names, sidecars or parquet; FOLDER/ takes only such folders, table:NAME one table "
        "or column. Empty: recognised, and said.",
    )
    encoding: str = setting(
        "",
        "Code page of the names in an archive that does not say it, like gbk. Empty: recognised.",
        advanced=True,
    )
    test_data: str = setting("", "A separate folder or archive of test images.", path="folder")
    classes: tuple[str, ...] = setting(
        (), "Use only these classes, as the data names them; empty: all. Quote names with commas."
    )
    test_fraction: float = setting(
        0.25, "Share of each class kept for testing, if there is no test data.", low=0.0, high=0.9
    )
    validation: bool = setting(
        False,
        "Leave the test images out, and test on a part of the training images instead (the "
        "share test_fraction): for choosing settings, which must not be done on test images.",
        advanced=True,
    )
    max_per_class: int = setting(0, "Use at most this many images a class; 0: all.", low=0)
    bands: tuple[str, ...] = setting(
        (),
        "What is shown of a multi-band image: three bands by number or name (4,3,2 or "
        "swir2,nir,red), or true, nir, swir, agriculture, urban, or an index (ndvi, ndwi, ndbi, "
        "ndmi, nbr, ndsi). Empty: true colour where the bands are known.",
        advanced=True,
    )

    @field_validator("bands", mode="before")
    @classmethod
    def _bands_as_text(cls, value: Any) -> Any:
        """Bands may be given as numbers too."""
        if isinstance(value, list | tuple):
            return tuple(str(part) if isinstance(part, int) else part for part in value)
        return value


class PrototypesConfig(StageConfig):
    """Clustering each class in the latent space and choosing the representatives."""

    ipc: int = setting(
        5, "Images per class: clusters, prototypes and distilled images.", low=1, high=500
    )
    choice: str = setting(
        "typical",
        "Which member stands for each cluster; typical: the one with the largest margin (as "
        "published); taught: exchanged within the cluster for what teaches a classifier most.",
        choices=("typical", "taught"),
    )
    alpha: float = setting(
        1.0,
        "Weight of the distance to the own centre in the margin min|z-c_j| - α|z-c_k|.",
        low=0.0,
        high=100.0,
    )
    pool: int = setting(
        8, "Latents are average-pooled to pool × pool before clustering.", low=1, high=128
    )
    file: str = setting(
        "",
        "Take the prototypes from this file in the published format instead of clustering.",
        path="file",
        advanced=True,
    )
    remove_outliers: bool = setting(False, "Leave out local outliers (LOF) before clustering.")
    project_map: bool = setting(True, "Also compute the UMAP map of the latents.", advanced=True)
    neighbors: int = setting(15, "UMAP neighbours.", low=2, high=200, advanced=True)


class CaptionsConfig(StageConfig):
    """Putting each cluster into words."""

    mode: str = setting(
        "aggregated",
        "template: class name only; vlm: caption of the prototype image; "
        "aggregated: the cluster's captions made one text; group: a chat model (SmolVLM, Qwen-VL) "
        "sees the cluster's images together and says what they share.",
        choices=("template", "vlm", "aggregated", "group"),
    )
    template: str = setting(
        "A satellite image of {class}", "Sentence in which {class} is the readable class name."
    )
    captioner: str = setting(
        "bundled",
        "Vision-language model: 'bundled', a Hub id or a local folder.",
        path="model",
        hub=True,
        words=BUNDLED,
    )
    name_class: bool = setting(
        True,
        "Tell the captioner the class, so that it describes the image as what it is.",
        advanced=True,
    )
    nearest: int = setting(5, "Images nearest each centre that are captioned.", low=1, high=100)
    max_words: int = setting(
        40, "Longest caption asked of the captioner.", low=3, high=300, unit="words", advanced=True
    )
    batch_size: int = setting(16, "Images captioned at once.", low=1, high=512, advanced=True)
    only: tuple[str, ...] = setting(
        (),
        "Write only these, and those that have none yet: class names, or CLASS/NUMBER for one "
        "cluster; empty: all.",
        once=True,
    )
    rewrite: bool = setting(
        False,
        "Also write over captions that people wrote; their texts stay in the history.",
        once=True,
    )


class TrainConfig(StageConfig):
    """Fine-tuning with the classification-consistency loss."""

    steps: int = setting(
        20000, "How long to train, in steps of the optimizer.", low=1, high=10_000_000
    )
    batch_size: int = setting(
        8, "Images a training step looks at, over all processes.", low=1, high=4096
    )
    learning_rate: float = setting(
        5e-4, "How far a step of training goes: the peak learning rate of AdamW.", low=0.0, high=1.0
    )
    rank: int = setting(4, "How much the adapter can hold: the rank of LoRA.", low=1, high=512)
    targets: str = setting(
        "attention",
        "What is trained: LoRA on the attention projections (as published), LoRA on "
        "all linear and convolution layers, or the whole UNet itself, which wants a smaller "
        "learning rate.",
        choices=("attention", "all", "whole"),
        advanced=True,
    )
    decoder_steps: int = setting(
        0,
        "Steps of fine-tuning the autoencoder's decoder on the training images beforehand; 0: "
        "none. A small autoencoder, such as the bundled one, blurs images unlike those it was "
        "trained on.",
        low=0,
        high=1_000_000,
        unit="steps",
        advanced=True,
    )
    consistency_weight: float = setting(
        0.1,
        "Weight of the classification-consistency loss, which makes a frozen classifier name "
        "the class of what the model is about to draw; 0 is plain diffusion training.",
        low=0.0,
        high=100.0,
    )
    consistency_max_noise: float = setting(
        0.6,
        "Consistency is asked only on this first share of the noise levels, where the "
        "predicted clean latent means something.",
        low=0.0,
        high=1.0,
        advanced=True,
    )
    representativeness: float = setting(
        0.0,
        "Weight of being near the class's least similar real latents (minimax).",
        low=0.0,
        high=100.0,
        advanced=True,
    )
    diversity: float = setting(
        0.0,
        "Weight of keeping the class's predicted latents apart (minimax).",
        low=0.0,
        high=100.0,
        advanced=True,
    )
    warmup_steps: int = setting(200, "Learning-rate warm-up.", low=0, unit="steps", advanced=True)
    schedule: str = setting(
        "constant",
        "Learning rate after the warm-up.",
        choices=("constant", "cosine"),
        advanced=True,
    )
    min_snr_gamma: float = setting(
        5.0,
        "Min-SNR loss weighting (flow models draw middle noise levels more often); 0 turns it off.",
        low=0.0,
        high=100.0,
        advanced=True,
    )
    caption_dropout: float = setting(
        0.0, "Share of samples trained without words.", low=0.0, high=1.0, advanced=True
    )
    flips: bool = setting(False, "Mirror latents at random while training.", advanced=True)
    classifier_steps: int = setting(
        0,
        "Most optimizer steps of the latent classifier; 0: as many as its 200 epochs take.",
        low=0,
        unit="steps",
        advanced=True,
    )
    checkpoint_steps: int = setting(
        500, "Save a checkpoint this often.", low=1, unit="steps", advanced=True
    )
    preview_steps: int = setting(
        500, "Make preview images this often; 0: never.", low=0, unit="steps", advanced=True
    )
    gradient_checkpointing: bool = setting(
        False, "Trade time for memory on large models.", advanced=True
    )


class SynthesizeConfig(StageConfig):
    """Sampling under prototype guidance and choosing among candidates."""

    strategy: str = setting("dpd", "Named start + guidance + selection.")
    strength: float | None = setting(
        None,
        "Share of the noise schedule that is sampled, from the noised prototype on; auto: the "
        "strategy's own.",
        low=0.001,
        high=1.0,
        advanced=True,
    )
    selection: str | None = setting(
        None,
        "Rule that keeps one candidate a slot; set: those of all slots are chosen together; "
        "auto: the strategy's own.",
        choices=("margin", "first", "correct", "difficulty", "diverse", "set"),
        advanced=True,
    )
    max_similarity: float | None = setting(
        None,
        "Candidates that come nearer to a real training image than this share of the training "
        "images come to one another are refused; 1: none, auto: the strategy's own.",
        low=0.5,
        high=1.0,
    )
    decoder: str | None = setting(
        None,
        "Decoder of the autoencoder: the model's own, or the one that the train stage has tuned "
        "to the training images (--decoder-steps); auto: the strategy's choice.",
        choices=("model", "tuned"),
        advanced=True,
    )
    adapter: str = setting("latest", "Adapter id, 'latest', or 'none' for the plain model.")
    steps: int = setting(50, "Sampling steps.", low=1, high=1000)
    scheduler: str = setting(
        "ddim",
        "How noise becomes an image: ddim, as published, or a solver that needs fewer steps.",
        choices=("ddim", "dpm++", "unipc"),
    )
    cfg: float | None = setting(
        7.5,
        "How strictly an image follows its caption (classifier-free guidance scale); 1: the plain "
        "model, auto: the strategy's own.",
        low=1.0,
        high=50.0,
    )
    guidance_scale: float = setting(
        1.0,
        "How strongly an image is pulled towards its prototype (the guidance's strength s).",
        low=0.0,
        high=100.0,
    )
    guidance_end: float = setting(
        0.8, "Share of the steps after which guidance ends.", low=0.0, high=1.0, advanced=True
    )
    spherical: bool = setting(False, "Aim at a random point near the prototype.", advanced=True)
    candidates: int | None = setting(
        None,
        "Images sampled for each prototype, of which one is kept; auto: the strategy's own.",
        low=1,
        high=1000,
    )
    batch_size: int = setting(20, "Candidates sampled at once.", low=1, high=4096, advanced=True)
    keep_pinned: str = setting(
        "",
        "Take the pinned images over from this set instead of sampling those slots; empty: "
        "sample all.",
        advanced=True,
    )
    set_name: str = setting("", "Name of the distilled set; empty makes one.", once=True)


class EvaluateConfig(StageConfig):
    """Students, distribution metrics and privacy of a distilled set."""

    set_name: str = setting("latest", "Distilled set to measure.")
    baselines: tuple[str, ...] = setting(
        ("random", "medoid"),
        "Real training sets to compare with: random, medoid, herding, "
        "kcenter, rded, exchanged (of the same size), full.",
    )
    student: str = setting(
        "convnet",
        "Student network: 'convnet', 'vgg', 'mixer', 'resnet18', 'pretrained' (ridge regression "
        "on pretrained features, which is always reported beside the others) or a Hub id.",
        path="model",
        hub=True,
        words=STUDENTS,
    )
    student_size: int = setting(
        64, "Side of the images students see.", low=16, high=512, unit="px", advanced=True
    )
    student_steps: int = setting(600, "Training steps of each student.", low=1, high=10_000_000)
    student_batch: int = setting(32, "Student batch size.", low=2, high=4096, advanced=True)
    seeds: int = setting(3, "Students trained for each set.", low=1, high=100)
    soft_labels: bool = setting(
        False,
        "Also train students on a teacher's probabilities in place of the classes; reported apart.",
    )
    distribution: bool = setting(
        True, "Also measure FID, KID, coverage, grain, and how near the set comes to real images."
    )
    features: str = setting(
        "bundled",
        "Network of FID, KID, coverage and the pretrained student: 'bundled' (EfficientNet-lite0), "
        "or the Hub id or folder of a vision model such as DINOv2 or CLIP.",
        path="model",
        hub=True,
        words=BUNDLED,
        advanced=True,
    )
    clip: str = setting(
        "",
        "Also measure how well the images fit their texts, by this CLIP: Hub id or folder in the "
        "transformers format (OpenAI's, RemoteCLIP, GeoRSCLIP); empty: do not.",
        path="model",
        hub=True,
        advanced=True,
    )


class ExportConfig(StageConfig):
    """Writing the distilled set for others."""

    set_name: str = setting("latest", "Distilled set to export.")
    output: str = setting("", "Folder to write; empty: export/ in the project.", path="output")
    licence: str = setting("other", "Licence of the exported data, as a Hub licence id.")
    title: str = setting("", "Title of the data set; empty takes the project's name.")
    parquet: bool = setting(True, "Also write Parquet files with the images inside.")
    adapter: bool = setting(True, "Put the adapter beside the images.")
    text_files: bool = setting(
        False,
        "Also write each caption into a .txt file beside its image, as trainers of adapters read "
        "them.",
    )
    soft_labels: bool = setting(
        False,
        "Put a teacher's class probabilities of each image into a file beside them; the "
        "teacher has seen all real training images.",
    )
    push: str = setting("", "Hub data set id to push to; empty: do not push.", advanced=True)


class PreviewConfig(StageConfig):
    """Trying a prompt: a few images, beside those of another prompt from the same noise."""

    prompt: str = setting("", "Text to try.")
    before: str = setting("", "Text to compare it with; empty: none.")
    prototype: str = setting("", "CLASS/NUMBER: sample as for this prototype; empty: for none.")
    strategy: str = setting("template", "Named start + guidance; 'template' shows words alone.")
    adapter: str = setting(
        "latest", "Adapter id, 'latest' (before any training: the plain model), or 'none'."
    )
    images: int = setting(2, "Images of each text.", low=1, high=16)
    steps: int = setting(25, "Sampling steps.", low=1, high=1000)
    scheduler: str = setting("dpm++", "Solver.", choices=("ddim", "dpm++", "unipc"))
    cfg: float | None = setting(
        4.0,
        "Classifier-free guidance scale; 1: none, auto: the strategy's own.",
        low=1.0,
        high=50.0,
    )
    guidance_scale: float = setting(
        1.0, "Strength s of the prototype guidance.", low=0.0, high=100.0
    )


class ResampleConfig(StageConfig):
    """Sampling slots of a distilled set anew, with the set's own settings and other seeds."""

    set_name: str = setting("latest", "Distilled set.")
    slots: tuple[str, ...] = setting(
        (), "Slots that get new candidates, as CLASS/NUMBER; the best new one is chosen."
    )


class BenchmarkConfig(StageConfig):
    """Strategies and real subsets side by side, with one protocol for all."""

    ipc: tuple[int, ...] = setting((5, 10, 20), "Numbers of images per class.")
    strategies: tuple[str, ...] = setting(
        ("dpd+", "dpd", "d4m", "mgd3", "template"),
        "Strategies; NAME@SETTING=VALUE changes settings of one of them.",
    )
    baselines: tuple[str, ...] = setting(
        ("random", "medoid", "full"),
        "Real training sets: random, medoid, herding, kcenter, rded, exchanged, full.",
    )
    students: tuple[str, ...] = setting(
        ("convnet",),
        "Student networks: 'convnet', 'vgg', 'mixer', 'resnet18', 'pretrained' or Hub ids.",
        path="model",
        hub=True,
        words=STUDENTS,
    )
    seeds: int = setting(3, "Students trained for each set.", low=1, high=100)
    student_steps: int = setting(
        600, "Training steps of each student, the same for all sets.", low=1, high=10_000_000
    )
    soft_labels: bool = setting(False, "Also measure with a teacher's soft labels, apart.")
    preset: str = setting(
        "standard",
        "Settings of the stages to start from.",
        choices=("quick", "standard", "published"),
    )
    out: str = setting("out/benchmark", "Folder of projects, results and report.", path="output")


class RunConfig(StageConfig):
    """All seven stages, in order; finished ones are skipped."""

    preset: str = setting(
        "published",
        "Settings of the stages to start from.",
        choices=("quick", "standard", "published"),
    )
    update: bool = setting(
        False,
        "Run each stage with what it was last run with; the preset is for those that never ran.",
    )
    set: tuple[str, ...] = setting(
        (), "Any setting of a stage, as STAGE.NAME=VALUE; can be repeated.", repeated=True
    )
    keep: tuple[str, ...] = setting(
        (), "Stages that are left as they are, out of date or not yet run."
    )
    force: bool = setting(False, "Run finished stages again.")


CONFIGS: dict[str, type[StageConfig]] = {
    "project": ProjectConfig,
    "dataset": DatasetConfig,
    "prototypes": PrototypesConfig,
    "captions": CaptionsConfig,
    "train": TrainConfig,
    "synthesize": SynthesizeConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "preview": PreviewConfig,
    "resample": ResampleConfig,
    "benchmark": BenchmarkConfig,
    "run": RunConfig,
}
"""Settings class by stage name; ``"project"`` holds what all stages share, the last four are no
stages but commands beside them."""


PRESET_NOTES: dict[str, str] = {
    "quick": "Minutes on two CPU cores: see the whole way through, with rough images.",
    "standard": "An hour or two on a CPU, minutes on a GPU: the bundled model, properly adapted.",
    "published": "The published hyper-parameters: for a GPU and a full-size model.",
}
"""For whom each preset is, one sentence a preset."""

_TRAIN = {
    "targets": "all",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "caption_dropout": 0.1,
    "flips": True,
}
_PROTOTYPES = {"choice": "taught"}
_SYNTHESIZE = {"strategy": "dpd+", "steps": 25, "scheduler": "dpm++", "cfg": None}
"""What the presets for the bundled model have in common; they differ in how much is computed."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "prototypes": _PROTOTYPES,
        "train": {
            **_TRAIN,
            "steps": 200,
            "decoder_steps": 400,
            "batch_size": 24,
            "rank": 16,
            "warmup_steps": 20,
            "classifier_steps": 120,
            "checkpoint_steps": 50,
            "preview_steps": 100,
        },
        "synthesize": {**_SYNTHESIZE, "candidates": 12},
        "evaluate": {"student_steps": 200, "seeds": 3},
    },
    "standard": {
        "prototypes": _PROTOTYPES,
        "train": {
            **_TRAIN,
            "steps": 1200,
            "decoder_steps": 1200,
            "batch_size": 32,
            "rank": 32,
            "warmup_steps": 50,
            "classifier_steps": 1000,
            "checkpoint_steps": 100,
            "preview_steps": 300,
        },
        "synthesize": _SYNTHESIZE,
        "evaluate": {"student_steps": 600, "seeds": 3},
    },
    "published": {},
}
"""Values by preset and stage. ``quick``: minutes on two CPU cores; ``standard``: an hour or
two; ``published``: the published hyper-parameters, which are the defaults, for a GPU."""


def resolve(stage: str, preset: str | None = None, **given: Any) -> StageConfig:
    """The settings of a stage: defaults, then the preset's values, then those given.

    Args:
        stage: A name in :data:`CONFIGS`.
        preset: A name in :data:`PRESETS`, or ``None``.
        given: Values by setting name; ``None`` means not given.

    Raises:
        ConfigError: unknown preset or setting, or a bad value.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(
            f"unknown preset {preset!r}.",
            fix=f"{suggestion(preset, PRESETS)}Known presets: {', '.join(PRESETS)}.",
        )
    values = dict(PRESETS[preset].get(stage, {})) if preset else {}
    values.update({name: value for name, value in given.items() if value is not None})
    return CONFIGS[stage].from_dict(values)
