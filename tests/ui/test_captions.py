"""The Captions tab as a person uses it: typed text is never lost, every change can be undone."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpd_core.captions.current import current_captions
from dpd_core.captions.edits import edit, history
from dpd_core.project import Project
from tests.support.studio_app import App, open_app

pytestmark = pytest.mark.ui

BOX = "#caption-text"
HOSTILE = "<img src=x onerror=window.hacked=1> a river"


def card(page: Any, text: str) -> Any:
    return page.locator(".caption-card", has_text=text)


def open_caption(page: Any, class_name: str, cluster: int) -> None:
    name = f".caption-card[data-class='{class_name}'][data-cluster='{cluster}'] .text"
    page.locator(name).click()
    page.locator("#captions-editor h3", has_text=f"{class_name}, prototype {cluster}").wait_for()


def status(page: Any, text: str) -> None:
    page.locator("#caption-status", has_text=text).wait_for()


def shut(accordion: str) -> str:
    return f"#{accordion} > button"


def open_replace(page: Any) -> None:
    """Unfold the panel; what is typed before its fields listen is seen by nobody."""
    page.locator(shut("captions-replace")).click()
    page.locator("#replace-apply").wait_for()
    page.wait_for_timeout(2000)


def texts(app: App) -> dict[str, dict[int, str]]:
    captions = current_captions(Project.open(app.project()))
    return {
        name: {k: caption.text for k, caption in found.items()} for name, found in captions.items()
    }


def test_an_edit_is_saved_and_an_unsaved_one_survives_a_refresh(page: Any, app: App) -> None:
    open_app(page, app, "Captions")
    # By keyboard alone: the card's button takes the focus and Enter opens it.
    page.locator(".caption-card[data-class='highway'][data-cluster='0'] .text").focus()
    page.keyboard.press("Enter")
    page.locator("#captions-editor h3", has_text="highway, prototype 0").wait_for()
    page.locator(BOX).fill("A satellite image of highway: white foam on dark sand")
    page.locator("#captions-tokens", has_text="tokens").wait_for()
    page.locator(BOX).press("Control+Enter")
    status(page, "Saved.")
    card(page, "white foam on dark sand").locator(".badge.human").wait_for()
    page.locator("#captions-details .history li", has_text="human").wait_for()

    page.locator(BOX).fill("A highway, but I am not sure yet")
    open_caption(page, "forest", 1)
    assert "forest" in page.locator(BOX).input_value()
    page.locator(".caption-card[data-class='highway'] .unsaved:visible").wait_for()
    page.reload()
    # The caption that was open is open again, and the other one's unsaved text is still there.
    page.locator("#captions-editor h3", has_text="forest, prototype 1").wait_for()
    open_caption(page, "highway", 0)
    assert page.locator(BOX).input_value() == "A highway, but I am not sure yet"
    assert texts(app)["highway"][0] == "A satellite image of highway: white foam on dark sand"
    page.locator("[data-part=discard]").click()
    assert page.locator(BOX).input_value() == texts(app)["highway"][0]
    page.locator(".unsaved:visible").wait_for(state="detached")


def test_a_change_by_somebody_else_never_costs_typed_text(page: Any, app: App) -> None:
    project = Project.open(app.project())
    open_app(page, app, "Captions")
    open_caption(page, "river", 1)
    page.locator(BOX).fill("A river: my own words")
    edit(project, "river", 1, "A river: written elsewhere")
    page.locator("[data-part=conflict]:visible", has_text="written elsewhere").wait_for()
    assert page.locator(BOX).input_value() == "A river: my own words"
    # Saving what was written without seeing the other text is refused ...
    page.locator("[data-part=save]").click()
    status(page, "Not saved")
    assert texts(app)["river"][1] == "A river: written elsewhere"
    assert page.locator(BOX).input_value() == "A river: my own words"
    # ... and done on purpose.
    page.locator("[data-part=mine]").click()
    status(page, "Saved.")
    assert texts(app)["river"][1] == "A river: my own words"
    page.locator("[data-part=conflict]:visible").wait_for(state="detached")
    # An earlier text can be restored; this is an edit like others.
    page.locator(".history li", has_text="written elsewhere").locator("button").click()
    card(page, "written elsewhere").wait_for()
    page.wait_for_function(
        "() => document.querySelector('#caption-text').value.includes('written elsewhere')"
    )
    assert len(history(project, "river", 1)) == 4


def test_a_bulk_replacement_is_shown_done_and_undone_after_a_restart(
    page: Any, start_app: Callable[..., App], small_project: Path
) -> None:
    app = start_app(project=small_project)
    before = texts(app)
    open_app(page, app, "Captions")
    page.locator(".caption-card").first.wait_for()
    open_replace(page)
    page.locator("#replace-find textarea, #replace-find input").fill("(satell)ite (image)")
    page.get_by_label("Regular expression").check()
    page.locator("#replace-by textarea, #replace-by input").fill(r"\2 from a \1ite")
    button = page.locator("#replace-apply", has_text="Replace 6 matches in 6 captions")
    button.wait_for()
    assert page.locator("#replace-table tbody tr").count() == 6
    page.locator("#replace-table ins", has_text="from").first.wait_for()
    assert texts(app) == before, "the preview must change nothing"
    page.locator("#replace-scope label", has_text="The selected").click()
    page.locator("#replace-apply", has_text="Nothing to replace").wait_for()
    page.locator(".caption-card[data-class='forest'] input").first.check()
    page.locator(".caption-card[data-class='river'] input").first.check()
    page.locator("#replace-apply", has_text="Replace 2 matches in 2 captions").click()
    page.locator(".caption-card", has_text="image from a satellite").nth(1).wait_for()
    after = texts(app)
    changed = {
        (name, k) for name in after for k in after[name] if after[name][k] != before[name][k]
    }
    assert changed == {("forest", 0), ("river", 0)}
    page.locator("#captions-summary", has_text="Captions have changed since").wait_for()

    app.kill()
    app.start()
    open_app(page, app, "Captions")
    undo = page.locator("#captions-undo", has_text="(2 captions)")
    undo.click()
    page.locator("#captions-redo", has_text="Redo: replace").wait_for()
    assert texts(app) == before
    page.locator("#captions-summary", has_text="up to date").wait_for()


def test_markup_in_captions_is_text_everywhere(page: Any, app: App) -> None:
    open_app(page, app, "Captions")
    open_caption(page, "river", 0)
    page.locator(BOX).fill(HOSTILE)
    page.locator("[data-part=save]").click()
    status(page, "Saved.")
    card(page, HOSTILE).wait_for()
    page.locator(".history li", has_text=HOSTILE).wait_for()
    edit(Project.open(app.project()), "river", 0, f"{HOSTILE} ${{alert(1)}} {{{{value}}}}")
    card(page, "${alert(1)} {{value}}").wait_for()
    open_replace(page)
    page.locator("#replace-find textarea, #replace-find input").fill("river")
    page.locator("#replace-by textarea, #replace-by input").fill("<b onclick=x>port</b>")
    page.locator("#replace-table td", has_text="<b onclick=x>port</b>").first.wait_for()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0


def test_captions_leave_and_come_back_as_a_table(page: Any, app: App, tmp_path: Path) -> None:
    open_app(page, app, "Captions")
    page.locator(".caption-card").first.wait_for()
    page.locator(shut("captions-files")).click()
    with page.expect_download() as waiting:
        page.locator("#export-csv").click()
    path = tmp_path / "captions.csv"
    waiting.value.save_as(path)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert len(rows) == 6
    row = next(row for row in rows if row["class"] == "forest")
    row["caption"] = "A forest, as a spreadsheet has it"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    page.locator("#captions-import input[type=file], input[type=file]#captions-import").or_(
        page.locator("#captions-files input[type=file]")
    ).first.set_input_files(path)
    page.locator("#import-table tbody tr").wait_for()
    assert page.locator("#import-table tbody tr").count() == 1
    assert texts(app)["forest"][int(row["cluster_id"])] != row["caption"]
    page.locator("#import-apply").click()
    card(page, "as a spreadsheet has it").locator(".badge.import").wait_for()
    assert texts(app)["forest"][int(row["cluster_id"])] == row["caption"]


@pytest.mark.slow
def test_the_captioner_writes_the_selected_only_and_a_caption_is_tried(
    page: Any, start_app: Callable[..., App], small_project: Path
) -> None:
    app = start_app(project=small_project)
    project = Project.open(app.project())
    for k in range(2):
        edit(project, "highway", k, f"A highway by hand {k}")
    open_app(page, app, "Captions")
    page.locator(".caption-card[data-class='highway'][data-cluster='1'] input").check()
    page.locator(shut("captions-make")).click()
    page.locator("#captions-scope label", has_text="The selected").click()
    page.get_by_label("Also write over captions by people").check()
    page.locator("#captions-run", has_text="Write 1 caption").click()
    page.locator(".caption-card[data-class='highway'][data-cluster='1'] .badge.vlm").wait_for(
        timeout=180_000
    )
    assert texts(app)["highway"][0] == "A highway by hand 0"
    assert texts(app)["highway"][1].startswith("A satellite image of highway")

    open_caption(page, "highway", 0)
    page.locator(BOX).fill("A highway with two piers")
    page.wait_for_function("!document.querySelector('#job .running')", timeout=60_000)
    page.locator("[data-part=try]").click()
    page.locator("#captions-trial figure").nth(1).wait_for(timeout=180_000)
    page.wait_for_function(
        """() => [...document.querySelectorAll('#captions-trial img')].filter(
            (image) => image.complete && image.naturalWidth > 0).length === 4"""
    )
    assert "A highway by hand 0" in page.locator("#captions-trial figure").first.inner_text()
    assert page.locator(BOX).input_value() == "A highway with two piers", "trying saves nothing"
    assert texts(app)["highway"][0] == "A highway by hand 0"
