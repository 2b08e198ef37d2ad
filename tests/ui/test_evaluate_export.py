"""The tabs Evaluate and Export as a person uses them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpd_core import storage
from dpd_core.dataset.index import rename_class
from dpd_core.evaluate.report import save_report
from dpd_core.project import Project
from dpd_core.synthesize.sets import DistilledSet
from tests.support.evaluation_report import make_report
from tests.support.fake_hub import fake_hub
from tests.support.studio_app import CLASSES, App, open_app, open_settings

pytestmark = pytest.mark.ui

TOKEN = "hf_TypedIntoTheBrowser0123456789"
HOSTILE = "<img src=x onerror=window.hacked=1>"


def finished(page: Any, stage: str, seconds: float = 300) -> None:
    """Wait until the job that was just started has ended well."""
    page.locator("#job .job.done", has_text=stage).wait_for(timeout=1000 * seconds)


def write_report(app: App, runs: dict[str, tuple[float, ...]] | None = None) -> Project:
    """Give the project's set a report with chosen numbers, nearest to its own prototypes."""
    project = Project.open(app.project())
    distilled = DistilledSet.load(project)
    report = make_report(
        distilled.name,
        runs
        and {
            distilled.name: runs["ours"],
            **{name: values for name, values in runs.items() if name != "ours"},
        },
        classes=CLASSES,
    )
    prototypes = {record.slot: record.prototype_id for record in distilled.slots}
    assert report.privacy is not None
    nearest = [
        replace(pair, image_id=prototypes[pair.class_name, pair.slot])
        for pair in report.privacy.nearest
    ]
    digest = storage.file_digest(distilled.root / "manifest.json")
    privacy = replace(report.privacy, nearest=nearest)
    save_report(project, replace(report, privacy=privacy, manifest=digest))
    return project


def test_an_evaluation_is_started_and_its_report_is_read(page: Any, app: App) -> None:
    open_app(page, app, "Evaluate")
    open_settings(page, "evaluate")
    page.locator("#evaluate-baselines label", has_text="full: ").locator("input").check()
    page.locator("#evaluate-seeds input").fill("2")
    page.locator("#evaluate-student_steps input").fill("3")
    page.locator("#evaluate-work", has_text="= 8 students of 3 steps").wait_for()
    page.locator("#evaluate-run").click()
    page.locator("#evaluate-chart tr.full", has_text="all real images").first.wait_for(
        timeout=300_000
    )
    rows = page.locator("#evaluate-chart tbody tr")
    assert rows.count() == 8, "each set with the student and with the pretrained one"
    assert rows.first.locator(".point").count() == 2
    assert "2 seeds" in page.locator("#evaluate-chart .legend").inner_text()
    assert "33.3 %" in page.locator("#evaluate-chart .legend").inner_text()


def test_a_loss_is_shown_as_one_and_hostile_names_are_text(page: Any, app: App) -> None:
    project = write_report(app, {"ours": (0.3, 0.31, 0.32), "random": (0.5, 0.51, 0.52)})
    rename_class(project, "highway", HOSTILE)
    try:
        open_app(page, app, "Evaluate")
        verdict = page.locator("#evaluate-verdicts li.bad")
        verdict.wait_for()
        assert "loses to 6 random real images" in verdict.inner_text()
        page.locator("#evaluate-confusion th", has_text=HOSTILE).first.wait_for()
        cell = page.locator("#evaluate-confusion td.right").nth(1)
        cell.hover()
        tip = cell.locator(".tip")
        assert "recognised" in tip.inner_text()
        box = tip.bounding_box()
        assert box is not None
        assert box["width"] > 20, "the counts appear under the pointer"
        page.get_by_role("tab", name="By class").click()
        page.locator("#evaluate-classes th", has_text=HOSTILE).wait_for()
        assert page.evaluate("window.hacked") is None
    finally:
        rename_class(project, "highway", "highway")


def test_each_distilled_image_stands_beside_its_nearest_real_one(page: Any, app: App) -> None:
    write_report(app)
    open_app(page, app, "Evaluate")
    page.get_by_role("tab", name="Privacy").click()
    pairs = page.locator("#evaluate-pairs li")
    pairs.first.wait_for()
    texts = page.locator("#evaluate-pairs li b").all_inner_texts()
    shown = [float(text.split(" / ")[0]) for text in texts]
    assert len(shown) == 6
    assert shown == sorted(shown, reverse=True)
    assert pairs.first.locator("figcaption").all_inner_texts() == ["distilled", "its own prototype"]
    for pair in pairs.all():
        pair.scroll_into_view_if_needed()  # pictures are fetched when they come into sight
    page.wait_for_function(
        "() => [...document.querySelectorAll('#evaluate-pairs img')].every(i => i.naturalWidth > 0)"
    )
    assert "unusually near" in page.locator("#evaluate-privacy").inner_text()


def test_metrics_say_what_they_mean(page: Any, app: App) -> None:
    write_report(app)
    open_app(page, app, "Evaluate")
    page.get_by_role("tab", name="Metrics").click()
    table = page.locator("#evaluate-metrics tbody")
    table.wait_for()
    assert table.locator(".mark").all_inner_texts() == [
        "↓ lower is better",
        "↓ lower is better",
        "↑ higher is better",
        "nearest 1 is best",
    ]


def test_an_export_is_looked_at_made_and_downloaded(page: Any, app: App, tmp_path: Path) -> None:
    open_app(page, app, "Export")
    page.locator("#export-plan", has_text="6 images of 3 classes").wait_for()
    open_settings(page, "export")
    page.locator("#export-title input, #export-title textarea").fill(HOSTILE)
    page.locator("#export-title input, #export-title textarea").press("Enter")
    page.locator("#export-card-fold > button").click()
    page.locator("#export-card h1", has_text=HOSTILE).wait_for()
    assert page.evaluate("window.hacked") is None
    page.get_by_label("Licence").click()
    page.get_by_role("option", name="CC0 1.0").click()
    page.locator("#export-card", has_text="license: cc0-1.0").wait_for()
    page.locator("#export-run").click()
    finished(page, "export")
    link = page.locator("#export-downloads a", has_text=".zip").first
    page.locator("#export-downloads li", has_text="cc0-1.0").wait_for()
    with page.expect_download() as download:
        link.click()
    target = tmp_path / "set.zip"
    download.value.save_as(target)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert sum(name.endswith(".png") for name in archive.namelist()) == 6


@pytest.mark.slow
def test_a_push_sends_the_set_and_the_token_stays_nowhere(
    page: Any, start_app: Callable[..., App], small_project: Path, tmp_path: Path
) -> None:
    with fake_hub(TOKEN) as hub:
        app = start_app(
            small_project,
            HF_ENDPOINT=hub.url,
            HF_HUB_OFFLINE="0",
            HF_TOKEN="",
            HF_HOME=str(tmp_path / "hf"),
        )
        open_app(page, app, "Export")
        page.locator("#export-push-fold > button").click()
        page.locator("#export-repository").locator("input, textarea").fill("me/tiny")
        field = page.locator("#export-token input")
        assert field.get_attribute("type") == "password"
        field.fill(TOKEN)
        page.locator("#export-push").click()
        page.locator("#export-pushed", has_text="me/tiny").wait_for(timeout=300_000)
        assert hub.repositories == {"me/tiny": True}
        assert {"README.md", "train/metadata.jsonl"} <= set(hub.files)
        assert field.input_value() == ""
        page.locator("#job-command-fold button").first.click()
        page.locator("#job-command", has_text="--push me/tiny").wait_for()
        assert TOKEN not in page.content()
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert TOKEN not in kept
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
