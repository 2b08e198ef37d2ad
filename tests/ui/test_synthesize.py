"""The Synthesize tab in a browser: candidates, pins, new samples, two sets side by side."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpd_core.config import SynthesizeConfig
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.settings import command_words
from dpd_core.synthesize.records import SlotRecord
from dpd_core.synthesize.sets import DistilledSet
from tests.support.studio_app import ROOT, App, open_app, open_settings, wait_for

pytestmark = [pytest.mark.ui, pytest.mark.slow]

GRID = "#synthesize-grid .cells"


def cell(page: Any, class_name: str, slot: int) -> Any:
    return page.locator(f"{GRID} li[data-key='{class_name}/{slot}']")


def open_cell(page: Any, class_name: str, slot: int) -> Any:
    cell(page, class_name, slot).locator("button.face").click()
    dialog = page.locator("#synthesize-grid dialog[open]")
    dialog.wait_for()
    return dialog


def slot_record(project: Project, class_name: str, slot: int) -> SlotRecord:
    return DistilledSet.load(project).find(Slot(class_name, slot))


def files_of(distilled: DistilledSet) -> dict[str, bytes]:
    """Every image of a set, candidates too, and its manifest."""
    found = {
        path.relative_to(distilled.root).as_posix(): path.read_bytes()
        for path in distilled.root.rglob("*.png")
    }
    return {**found, "manifest.json": (distilled.root / "manifest.json").read_bytes()}


def set_by_command_line(app: App, made: DistilledSet) -> dict[str, bytes]:
    """The files of the set that the command line makes of the same project and settings."""
    copy = app.home / "copy" / "small"
    shutil.copytree(app.project(), copy)
    shutil.rmtree(copy / "distilled" / made.root.name)
    config = SynthesizeConfig.from_dict(made.manifest.settings)
    words = command_words("synthesize", config, Project.open(copy).root)
    result = subprocess.run(
        [sys.executable, *words[1:], "--quiet"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return files_of(DistilledSet.load(Project.open(copy), made.name))


def test_another_candidate_a_pin_and_new_samples(
    start_app: Callable[..., App], small_project: Path, new_page: Callable[..., Any]
) -> None:
    app = start_app(small_project)
    project = Project.open(app.project())
    page = new_page()
    open_app(page, app, "Synthesize")
    wait_for(lambda: page.locator(f"{GRID} li").count() == 6)
    loaded = "one => one.complete && one.naturalWidth > 0"
    for image in page.locator(f"{GRID} img").all():
        wait_for(lambda image=image: image.evaluate(loaded))
    source = cell(page, "forest", 1).locator("img").nth(1).get_attribute("src")

    before = slot_record(project, "forest", 1)
    other = next(c.index for c in before.candidates if c is not before.image)
    dialog = open_cell(page, "forest", 1)
    assert dialog.locator(".candidates li").count() == 3
    dialog.locator(f"[data-index='{other}']").click()
    dialog.locator(f".chosen [data-index='{other}']").wait_for()
    record = slot_record(project, "forest", 1)
    assert (record.chosen, record.chosen_by) == (other, "hand")
    wait_for(lambda: cell(page, "forest", 1).get_by_text("by hand").count())
    assert cell(page, "forest", 1).locator("img").nth(1).get_attribute("src") != source
    page.locator("#stage-list li.stale", has_text="evaluate").wait_for()

    dialog.locator("[data-act='pin']").click()
    wait_for(lambda: slot_record(project, "forest", 1).pinned)
    wait_for(lambda: dialog.locator("[data-act='anew']").is_disabled())
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.evaluate("() => document.activeElement.className") == "face", "focus goes back"

    dialog = open_cell(page, "highway", 0)
    dialog.locator("[data-act='anew']").click()
    wait_for(lambda: dialog.locator(".candidates li").count() == 6)
    record = slot_record(project, "highway", 0)
    assert record.round == 1
    assert record.chosen >= 3
    assert verify(project).differences == []
    page.reload()
    page.get_by_role("tab", name="Synthesize", exact=True).click()
    cell(page, "forest", 1).get_by_text("pinned").wait_for()


def test_a_set_fills_while_it_is_made_and_is_compared(
    start_app: Callable[..., App], small_project: Path, new_page: Callable[..., Any]
) -> None:
    app = start_app(small_project)
    project = Project.open(app.project())
    first = DistilledSet.load(project)
    page = new_page()
    open_app(page, app, "Synthesize")
    wait_for(lambda: page.locator(f"{GRID} li").count() == 6)
    open_settings(page, "synthesize")
    page.locator("#synthesize-more > button").click()
    # The fields are filled with the last run's settings a moment after the tab is opened.
    wait_for(lambda: page.locator("#synthesize-steps input").input_value() == "3")
    page.locator("#synthesize-cfg input").fill("2")
    page.locator("#synthesize-cfg input").press("Tab")
    page.locator("#synthesize-run").click()
    wait_for(lambda: project.result("synthesize")["set"] != first.name)
    second = DistilledSet.load(project)
    assert second.manifest.settings["cfg"] == 2.0
    assert set_by_command_line(app, second) == files_of(second), "the page and the command agree"
    page.locator("#synthesize-grid .note", has_text="6 images").wait_for()
    page.locator("#synthesize-beside input").click()
    page.get_by_role("option", name=first.name).click()
    wait_for(lambda: cell(page, "river", 0).locator("img").count() == 3)
    sources = [image.get_attribute("src") for image in cell(page, "river", 0).locator("img").all()]
    assert second.root.name in sources[1]
    assert first.root.name in sources[2]
    with page.expect_download() as download:
        page.locator("#synthesize-grid .sheet").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"\x89PNG"

    page.locator("#synthesize-order input").click()
    page.get_by_role("option", name="lowest score first").click()

    def scores() -> list[float]:
        texts = page.locator(f"{GRID} li figure:nth-child(2) .score").all_inner_texts()
        return [float(text) for text in texts]

    wait_for(lambda: len(scores()) == 6 and scores() == sorted(scores()))
