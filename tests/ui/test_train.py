"""The Train tab in a browser: a run that is watched, reloaded, killed and gone on with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from dpd_core.config import resolve
from dpd_core.project import Project
from dpd_core.train import adapters
from tests.support.job_list import list_jobs
from tests.support.studio_app import App, open_app, open_settings, visit, wait_for

pytestmark = [pytest.mark.ui, pytest.mark.slow]

LONG = {"steps": "4000", "decoder_steps": "0", "batch_size": "1", "rank": "2"}
"""Settings of a run that no test waits for the end of."""

CHART = "document.querySelector('#train-chart figure .plot')"


def fill(page: Any, name: str, value: str) -> None:
    page.locator(f"#train-{name} input").fill(value)
    page.locator(f"#train-{name} input").press("Tab")


def start(page: Any, **more: str) -> None:
    for name, value in {**LONG, **more}.items():
        fill(page, name, value)
    page.locator("#train-run").click()


def steps_shown(page: Any) -> list[int]:
    return page.evaluate(
        "() => [...document.querySelectorAll('#train-previews [data-step]')]"
        ".map((one) => Number(one.dataset.step))"
    )


def curve_length(page: Any) -> int:
    """Points of the last curve of the first chart."""
    return page.evaluate(f"() => {CHART}?.data?.at(-1)?.x.length ?? 0")


def open_more(page: Any) -> None:
    open_settings(page, "train")
    page.locator("#train-more").get_by_text("Advanced").click()


def test_a_run_is_watched_reloaded_and_stopped(
    start_app: Callable[..., App], small_project: Path, new_page: Callable[..., Any]
) -> None:
    app = start_app(small_project)
    page = new_page()
    open_app(page, app, "Train")
    open_more(page)
    fill(page, "preview_steps", "0")
    start(page)
    page.locator("#train-stop").wait_for(timeout=600_000)
    wait_for(lambda: curve_length(page) >= 2)
    page.evaluate(f"() => {{ {CHART}.dataset.mine = 'kept'; }}")
    before = curve_length(page)
    page.evaluate(f"() => window.Plotly.relayout({CHART}, {{'xaxis.range': [0, 77]}})")
    wait_for(lambda: curve_length(page) > before)
    assert page.evaluate(f"() => {CHART}.dataset.mine") == "kept", "the chart is the same element"
    assert page.evaluate(f"() => {CHART}._fullLayout.xaxis.range") == [0, 77], "the zoom stays"
    assert "peak memory" in page.locator("#train-status").inner_text()

    assert steps_shown(page) == []
    page.locator("#train-sample").click()
    wait_for(lambda: steps_shown(page))
    length, previews = curve_length(page), steps_shown(page)

    page.reload()
    page.locator("#train-stop").wait_for()
    wait_for(lambda: curve_length(page) >= length)
    assert steps_shown(page) == previews
    assert page.locator("#train-steps input").input_value() == LONG["steps"]

    page.locator("#train-stop").click()
    page.locator("#train-resume").wait_for(timeout=600_000)
    folder = app.project()
    assert list_jobs(Project.open(folder))[-1].status == "stopped"
    assert list(folder.glob("adapters/*/checkpoint.safetensors"))


def test_a_killed_server_and_a_killed_run_lose_nothing(
    start_app: Callable[..., App], small_project: Path, new_page: Callable[..., Any]
) -> None:
    steps = 60
    app = start_app(small_project)
    page = new_page()
    open_app(page, app, "Train")
    open_more(page)
    fill(page, "checkpoint_steps", "5")
    fill(page, "preview_steps", "0")
    start(page, steps=str(steps))
    wait_for(lambda: list(app.project().glob("adapters/*/checkpoint.safetensors")))
    app.kill()
    project = Project.open(app.project())
    job = list_jobs(project)[-1]
    assert job.status == "running", "it outlives the server"
    process = psutil.Process(int(_state(job.folder)["pid"]))
    process.kill()
    process.wait(20)
    assert job.status == "interrupted"

    app.start()
    visit(page, app.url)
    page.get_by_role("tab", name="Train", exact=True).click()
    page.locator("#train-resume").wait_for()
    page.locator("#train-resume").click()
    page.locator("#train-status b", has_text="Finished.").wait_for(timeout=600_000)
    run = next(run for run in adapters.list_runs(project) if run.settings["steps"] == steps)
    assert run.finished
    assert [point["step"] for point in run.curve()] == list(range(10, steps + 1, 10))
    first = next(
        event
        for event in list_jobs(project)[-1].events()
        if event["event"] == "Progress" and event["message"] == "training"
    )
    assert first["done"] >= 5, "it went on from a checkpoint"


def test_earlier_runs_are_compared_and_used_again(
    start_app: Callable[..., App], small_project: Path, new_page: Callable[..., Any]
) -> None:
    app = start_app(small_project)
    project = Project.open(app.project())
    before = adapters.find_adapter(project).id
    page = new_page()
    open_app(page, app, "Train")
    open_more(page)
    fill(page, "steps", "12")
    fill(page, "rank", "3")
    page.locator("#train-run").click()
    page.locator("#train-stop").wait_for(timeout=600_000)
    page.locator("#train-status b", has_text="Finished.").wait_for(timeout=600_000)
    rows = page.locator("#train-runs tbody tr")
    wait_for(lambda: rows.count() == 2)
    old = page.locator(f"#train-runs tr[data-run='{before}']")
    assert page.locator("#train-chart .legend li").count() == 1
    old.get_by_role("checkbox").check()
    wait_for(lambda: page.locator("#train-chart .legend li").count() == 2)
    old.get_by_role("button", name="Load settings").click()
    wait_for(lambda: page.locator("#train-steps input").input_value() == "4")
    assert adapters.find_adapter(project).id != before
    old.get_by_role("button", name="Use for synthesis").click()
    old.get_by_text("used for synthesis").wait_for()
    assert adapters.find_adapter(project).id == before
    page.locator("#train-preset").get_by_text("Quick").click()
    quick = resolve("train", "quick").to_dict()["steps"]
    wait_for(lambda: page.locator("#train-steps input").input_value() == str(quick))


def _state(folder: Path) -> dict[str, Any]:
    from dpd_core import storage

    return storage.read_json(folder / "state.json")
