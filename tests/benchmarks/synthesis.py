"""Synthesis, images a second: ours, against the published loop and against a diffusers pipeline.

*Published loop*: for one prototype after the other a batch of 5 candidates, its prompt encoded each
time, 50 DDIM steps with classifier-free guidance 7.5 and the prototype's pull in the first 80 %.
*Ours* are the settings of the preset ``quick``: candidates of several slots share a batch, prompts
are encoded once, 25 steps of DPM-Solver++. *Pipeline*: ``StableDiffusionPipeline`` at the very
steps, solver, guidance scale and batch of ours, without any prototype and without a choice. All
compute in float32. What the images are worth is measured by the command ``benchmark``, not here.
"""

from __future__ import annotations

import torch

from dpd_core.config import ProjectConfig, SynthesizeConfig, resolve
from dpd_core.hardware import choose_hardware
from dpd_core.models.backbone import Backbone
from dpd_core.models.files import BUNDLED
from dpd_core.models.latents import Latents
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize.resolved import ResolvedSynthesis, resolved
from dpd_core.synthesize.sampler import Sampler, SlotTask
from dpd_core.train.classifier import LatentClassifier
from tests.benchmarks.harness import Cost, Options, Row, interleaved, timed

SIZES = {"toy": (1, 2, 10), "small": (4, 1, 1), "full": (8, 2, 1)}
"""Classes, slots of each, and by what the numbers of steps are divided."""
PLAIN = {"steps": 50, "scheduler": "ddim", "cfg": 7.5, "batch_size": 5}


def run(options: Options) -> list[Row]:
    """Three rows: the strategies dpd and dpd+, and the pipeline."""
    classes, slots, divisor = SIZES[options.size]
    backbone = Backbone.load(hardware=choose_hardware(ProjectConfig(device="cpu", dtype="float32")))
    names = [f"class {number}" for number in range(classes)]
    tasks = [_task(name, slot) for name in names for slot in range(slots)]
    draws = torch.Generator().manual_seed(0)
    mean = torch.randn(len(tasks), *backbone.latent_shape, generator=draws)
    latents = Latents([task.prototype_id for task in tasks], mean, torch.zeros_like(mean), "key")
    classifier = LatentClassifier([*names, "other"], backbone.latent_shape[0])

    def sampler(strategy: str, **settings: object) -> Sampler:
        config = resolve("synthesize", "quick", strategy=strategy, **settings)
        assert isinstance(config, SynthesizeConfig)
        how = resolved(config.replace(steps=max(config.steps // divisor, 2)))
        return Sampler(backbone, how, 0, latents=latents, classifier=classifier)

    plain = sampler("dpd", **PLAIN)

    def published() -> Cost:
        return timed(lambda: [list(plain.fill([task])) for task in tasks])

    quick, images = sampler("dpd").resolved, len(tasks)
    sizes = f"{images} slots × 5 candidates, 64 px"
    rows = []
    for name, goal in (("dpd", "≥ 4×"), ("dpd+", "≥ 4×")):
        filling = sampler(name, detail=0.0)
        found = interleaved(
            lambda filling=filling: timed(lambda: list(filling.fill(tasks))),
            published,
            options.repeats,
        )
        rows.append(
            _row(
                f"synthesis, {name} quick against the published loop",
                images,
                found,
                goal,
                sizes,
                "" if name == "dpd" else "without refining the set",
            )
        )
    pipeline = _pipeline(backbone, quick)
    prompts = [task.caption for task in tasks for _ in range(quick.candidates)]

    def by_pipeline() -> Cost:
        return timed(
            lambda: [
                pipeline(
                    prompts[start : start + quick.batch_size],
                    guidance_scale=quick.cfg,
                    num_inference_steps=quick.steps,
                    output_type="np",
                )
                for start in range(0, len(prompts), quick.batch_size)
            ]
        )

    filling = sampler("dpd")
    found = interleaved(
        lambda: timed(lambda: list(filling.fill(tasks))), by_pipeline, options.repeats
    )
    rows.append(
        _row(
            "synthesis, dpd quick against a plain pipeline",
            images,
            found,
            "≥ 1×",
            sizes,
            f"both {quick.steps} steps of {quick.scheduler}, batch {quick.batch_size}",
        )
    )
    return rows


def _row(
    work: str,
    images: int,
    found: tuple[float, float, float, float],
    goal: str,
    sizes: str,
    note: str,
) -> Row:
    ours, theirs, *ratios = found
    return Row(work, images / ours, images / theirs, *ratios, goal, sizes, "slots/s", note)


def _task(name: str, number: int) -> SlotTask:
    text = f"A satellite image of {name}"
    return SlotTask(Slot(name, number), text, f"{name}/{number}.png")


def _pipeline(backbone: Backbone, config: ResolvedSynthesis) -> object:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(BUNDLED, torch_dtype=torch.float32)
    pipeline.scheduler = backbone.schedule.solver(config.scheduler, config.steps, backbone.device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
