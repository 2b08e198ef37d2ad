"""The start page in a browser: from first sight to a data set, and what is out of date."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpd_core.captions import edits
from dpd_core.project import Project
from dpd_core.prototypes.files import load_prototypes
from tests.support.distilled_project import CLASSES, save_scene
from tests.support.studio_app import App, open_app

pytestmark = [pytest.mark.ui, pytest.mark.slow]

MINUTES = 30 * 60_000


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder of three folders of images."""
    folder = tmp_path / "scenes"
    for name, colour in CLASSES.items():
        for number in range(12):
            save_scene(folder / name / f"{number:02d}.png", colour, 64)
    return folder


def test_a_folder_is_read_as_soon_as_it_is_there_and_a_plan_is_stopped_and_resumed(
    page: Any, start_app: Callable[..., App], small_project: Path, scenes: Path
) -> None:
    app = start_app(small_project)
    open_app(page, app)
    page.locator("#start-hero .hero-pairs img").first.wait_for()
    assert page.locator("#start-hero .hero-pairs li").count() == 3
    assert page.locator("#start-hero .hero-figures b").count() == 2
    page.locator("#start-use").click()
    page.wait_for_function("document.querySelector('#project input').value === 'my images'")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(str(scenes))
    page.locator("#start-drop", has_text="36 images of 3 classes").wait_for()
    assert re.search(
        r"Quick: .* here, images of 64 × 64 px", page.locator("#start-quality").inner_text()
    )
    page.locator("#start-make").click()
    page.locator("#start-plan", has_text=re.compile(r"\d+ of \d+: .* left in all")).wait_for()
    assert page.locator("#start-plan .phases li").count() >= 8
    page.reload()
    page.locator("#start-plan .phases li.running").wait_for()
    page.locator("#start-stop").click()
    page.locator("#start-plan", has_text="Stopped").wait_for()
    page.locator("#start-resume").click()
    page.locator("#start-plan", has_text="left in all").wait_for()
    page.locator("#start-stop").click()
    page.locator("#start-plan", has_text="Stopped").wait_for()


def test_an_edit_is_taken_up_and_the_set_downloaded(
    page: Any, start_app: Callable[..., App], small_project: Path, tmp_path: Path
) -> None:
    app = start_app(small_project)
    project = Project.open(app.project())
    name, prototypes = next(iter(load_prototypes(project).items()))
    edits.edit(project, name, prototypes[0].cluster_id, "an edited caption of this place")
    open_app(page, app)
    page.locator("#start-stale", has_text="captions were edited").wait_for()
    page.locator("#start-download", has_text="as it was before").wait_for()
    page.locator("#start-update").click()
    page.locator("#start-plan", has_text="left in all").wait_for()
    page.locator("#start-plan", has_text="Your data set is ready").wait_for(timeout=MINUTES)
    with page.expect_download() as download:
        page.locator("#start-download a").click()
    assert re.fullmatch(r"small-\d{4}-\d\d-\d\d\.zip", download.value.suggested_filename)
    archive = tmp_path / "set.zip"
    download.value.save_as(archive)
    with zipfile.ZipFile(archive) as packed:
        texts = [
            packed.read(member)
            for member in packed.namelist()
            if member.endswith((".jsonl", ".csv"))
        ]
    assert any(b"an edited caption of this place" in text for text in texts)


def test_the_demo_is_a_click_away(page: Any, start_app: Callable[..., App]) -> None:
    app = start_app()
    open_app(page, app)
    page.locator("#start-look").click()
    page.locator("#prototypes-changes").wait_for()
    assert page.locator("#project input").input_value() == "demo"
