"""A tiny model of each family goes through all seven stages by the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dpd_core import STAGES
from dpd_core.cli import main
from dpd_core.models import weights as adapter_weights
from dpd_core.models.families.registry import family_of
from dpd_core.project import Project
from dpd_core.students import ridge
from dpd_core.synthesize.sets import DistilledSet
from dpd_core.train import adapters
from tests.dpd_core.pipeline.test_whole_run import SMALL
from tests.support.models import save_model_3, save_model_xl

pytestmark = pytest.mark.slow

MODELS: dict[str, Callable[[Path], Path]] = {"xl": save_model_xl, "3": save_model_3}


@pytest.mark.parametrize("kind", MODELS)
def test_all_seven_stages(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ridge, "NETWORKS", 1)
    monkeypatch.setattr(ridge, "NETWORK_STEPS", 8)
    model, root = MODELS[kind](tmp_path / "model"), tmp_path / "project"
    words = ["--model", str(model), "--image-size", "32", "--set", "train.decoder_steps=2"]
    chosen = ["--set", "synthesize.strategy=dpd+", "--set", "synthesize.scheduler=dpm++"]
    assert main(["run", "--project", str(root), *SMALL, *words, *chosen, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert list(summary["results"]) == list(STAGES)
    project = Project.open(root)
    images = DistilledSet.load(project, "latest")
    assert len(images.slots) == 6
    (adapter,) = adapters.list_adapters(project)
    family = family_of(model)
    names = {path.name for path in adapter.files}
    assert (adapter_weights.KOHYA in names) is family.kohya
    assert {adapter_weights.LORA, adapter_weights.DECODER} <= names
    # The other strategies, each by a preview of one image.
    for strategy in ("dpd", "d4m", "mgd3", "influence"):
        tried = ["--prompt", "a river", "--prototype", "river/0", "--strategy", strategy]
        small = ["--images", "1", "--steps", "2", "--json"]
        assert main(["preview", "--project", str(root), *tried, *small]) == 0
        made = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        assert (root / made["results"]["preview"]["prompts"][0]["files"][0]).is_file()
