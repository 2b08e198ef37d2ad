"""Trying prompts: same noise, kept by content, nothing put on record."""

from pathlib import Path

import pytest
from PIL import Image

from dpd_core.config import PreviewConfig, ProjectConfig
from dpd_core.errors import CaptionError, ConfigError, StageMissing
from dpd_core.events import Log, Preview
from dpd_core.models.tokens import load_prompt_tokenizer
from dpd_core.pipeline.jobs import run_stage
from dpd_core.project import Project
from dpd_core.synthesize.preview import run
from tests.support.caption_project import make_project
from tests.support.models import save_model

FEW = {"steps": 2, "cfg": 2.0, "images": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("tiny"), prediction_type="v_prediction")


@pytest.fixture
def project(tmp_path: Path, model: Path) -> Project:
    made = make_project(tmp_path / "project")
    made.configure(
        ProjectConfig(model=str(model), image_size=32, device="cpu", dtype="float32", seed=3)
    )
    return made


def pixels(project: Project, result: dict, text: str) -> list[bytes]:
    files = next(prompt["files"] for prompt in result["prompts"] if prompt["text"] == text)
    return [Image.open(project.path(file)).tobytes() for file in files]


def test_two_texts_from_the_same_noise(project: Project) -> None:
    events: list = []
    config = PreviewConfig(prompt="many red boats", before="boats", prototype="harbor/1", **FEW)
    result = run(project, config, events.append)
    assert [prompt["text"] for prompt in result["prompts"]] == ["boats", "many red boats"]
    before, after = (pixels(project, result, text) for text in ("boats", "many red boats"))
    assert before[0] != before[1] and before[0] != after[0]
    assert [event.caption for event in events if isinstance(event, Preview)] == [
        "boats",
        "many red boats",
    ]
    assert any("plain model" in event.message for event in events if isinstance(event, Log))
    alone = run(project, config.replace(prompt="boats", before=""))
    assert pixels(project, alone, "boats") == before


def test_a_text_tried_before_is_not_sampled_again(project: Project) -> None:
    config = PreviewConfig(prompt="boats", **FEW)
    result = run(project, config)
    path = project.path(result["prompts"][0]["files"][0])
    made = path.stat().st_mtime_ns
    project.configure(project.config.replace(device="auto"))
    assert run(project, config) == result
    assert path.stat().st_mtime_ns == made
    assert run(project, config.replace(steps=3))["folder"] != result["folder"]


@pytest.mark.parametrize("strategy", ["dpd", "d4m"])
def test_a_prototype_shapes_the_image_if_the_strategy_uses_it(
    project: Project, strategy: str
) -> None:
    config = PreviewConfig(prompt="boats", prototype="harbor/0", **FEW)
    words = run(project, config)
    shaped = run(project, config.replace(strategy=strategy))
    assert pixels(project, words, "boats") != pixels(project, shaped, "boats")
    with pytest.raises(ConfigError, match="needs a prototype"):
        run(project, config.replace(strategy=strategy, prototype=""))


def test_each_strategy_is_guided_by_its_own_term(project: Project) -> None:
    config = PreviewConfig(prompt="boats", prototype="harbor/0", **FEW)
    shown = {
        strategy: pixels(project, run(project, config.replace(strategy=strategy)), "boats")
        for strategy in ("dpd", "mgd3", "template")
    }
    assert len({images[0] for images in shown.values()}) == 3


def test_a_strategy_led_by_the_latent_classifier_needs_one(project: Project) -> None:
    config = PreviewConfig(prompt="boats", prototype="harbor/0", strategy="classifier", **FEW)
    with pytest.raises(StageMissing, match="latent classifier"):
        run(project, config)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({}, CaptionError, "empty"),
        ({"prompt": "boats", "prototype": "harbor/9"}, CaptionError, "no cluster 9"),
        ({"prompt": "boats", "prototype": "harbor"}, ConfigError, "one cluster"),
        ({"prompt": "boats", "before": "\x00"}, CaptionError, "control character"),
    ],
)
def test_what_cannot_be_tried_is_refused(
    project: Project, settings: dict, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        run(project, PreviewConfig(**settings))


def test_as_a_job_it_leaves_images_but_no_record(project: Project) -> None:
    before = project.manifest_path.read_bytes()
    result = run_stage(project, "preview", PreviewConfig(prompt="boats", **FEW))
    assert project.path(result["folder"], "0.png").exists()
    assert project.manifest_path.read_bytes() == before


def test_the_tokenizer_splits_as_the_encoder_reads(model: Path) -> None:
    tokens = load_prompt_tokenizer(str(model))
    text = " ".join(["harbour"] * 30)
    chunks = tokens.chunks(text)
    assert [len(chunk) for chunk in chunks] == [75, 75, 60]
    assert tokens.chunks("") == [[]]
    assert "".join(tokens.pieces(text)).replace(" ", "") == text.replace(" ", "")
