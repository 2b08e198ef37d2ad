"""The whole path by hand-like clicks: from a new project to a data set that loads."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpd_core import STAGES
from tests.support.studio_app import App, open_app

pytestmark = [pytest.mark.ui, pytest.mark.slow]

MINUTES = 10 * 60_000


def go(page: Any, tab: str) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()


def unfold(page: Any, fold: str) -> None:
    page.locator(f"#{fold} > button").click()


def fill(page: Any, stage: str, **values: object) -> None:
    """Write into fields of a stage's form."""
    for name, value in values.items():
        field = page.locator(f"#{stage}-{name}").locator("input, textarea").first
        field.fill(str(value))
        field.press("Tab")


def run(page: Any, stage: str, button: str | None = None) -> None:
    """Press the stage's button and wait until the sidebar says that it is done."""
    page.locator(button or f"#{stage}-run").click()
    page.locator("#stage-list li.done", has_text=stage).wait_for(timeout=MINUTES)


def test_from_a_new_project_to_a_data_set_that_loads(
    page: Any, start_app: Callable[..., App], small_project: Path, tmp_path: Path
) -> None:
    app = start_app(small_project)
    open_app(page, app)
    page.locator("#project-new").click()
    page.locator("#project-name textarea, #project-name input").fill("my first set")
    page.locator("#project-confirm").click()
    page.wait_for_function("() => document.querySelectorAll('#stage-list li.open').length === 7")

    go(page, "Dataset")
    page.locator("#dataset-source").get_by_text("Demo images").click()
    fill(page, "dataset", classes="forest, highway, river", max_per_class=12)
    run(page, "dataset")
    page.locator("#dataset-grid img").first.wait_for()

    go(page, "Prototypes")
    unfold(page, "prototypes-settings")
    fill(page, "prototypes", ipc=2, neighbors=5)
    run(page, "prototypes")

    go(page, "Captions")
    unfold(page, "captions-make")
    run(page, "captions")
    page.locator(".caption-card").first.wait_for()
    assert page.locator(".caption-card").count() == 6

    go(page, "Train")
    unfold(page, "train-more")
    fill(page, "train", steps=4, decoder_steps=2, batch_size=4, classifier_steps=2)
    run(page, "train")

    go(page, "Synthesize")
    page.wait_for_function(
        "() => document.querySelector('#synthesize-strategy input')?.value === 'dpd+'"
    )
    unfold(page, "synthesize-more")
    fill(
        page,
        "synthesize",
        steps=3,
        candidates=2,
    )
    run(page, "synthesize")

    go(page, "Evaluate")
    unfold(page, "evaluate-more")
    fill(page, "evaluate", seeds=2, student_steps=4)
    run(page, "evaluate")
    page.locator("#evaluate-chart tr.ours .point").first.wait_for()
    assert page.locator("#evaluate-verdicts li").count() >= 2

    go(page, "Export")
    page.locator("#export-plan", has_text="6 images of 3 classes").wait_for()
    run(page, "export")
    done = page.locator("#stage-list li.done span").all_inner_texts()
    assert done == list(STAGES)
    with page.expect_download() as download:
        page.locator("#export-downloads a").first.click()
    archive = tmp_path / "set.zip"
    download.value.save_as(archive)

    from datasets import load_dataset

    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "unpacked")
    (folder,) = (tmp_path / "unpacked").iterdir()
    loaded = load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == 6
    assert set(loaded["label"]) == {"forest", "highway", "river"}
    assert all(row["image"].size[0] > 0 and row["caption"] for row in loaded)
