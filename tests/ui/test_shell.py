"""The page around the tabs: projects, jobs, and what survives a refresh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.server.jobs import JobQueue
from app.server.settings import Settings
from dpd_core import STAGES
from dpd_core.config import resolve
from dpd_core.pipeline.jobs import Job
from dpd_core.project import Project
from tests.support.studio_app import PROJECT, App, open_app

pytestmark = pytest.mark.ui


def test_the_page_shows_the_project_and_its_finished_stages(page: Any, app: App) -> None:
    open_app(page, app)
    assert page.locator("#project input").input_value() == PROJECT
    stages = page.locator("#stage-list li.done span").all_inner_texts()
    assert stages == list(STAGES)


def test_projects_are_made_copied_renamed_and_deleted(
    page: Any, start_app: Callable[..., App], small_project: Path
) -> None:
    app = start_app(project=small_project)
    open_app(page, app)

    def do(action: str, name: str, expected: str) -> None:
        page.locator(f"#project-{action}").click()
        page.locator("#project-confirm").wait_for()
        page.locator("#project-name textarea, #project-name input").fill(name)
        page.locator("#project-confirm").click()
        page.wait_for_function(
            "name => document.querySelector('#project input').value === name", arg=expected
        )

    do("duplicate", "copy", "copy")
    page.locator("#stage-list li.done").nth(6).wait_for()
    do("rename", "renamed", "renamed")
    do("new", "empty", "empty")
    page.wait_for_function("document.querySelectorAll('#stage-list li.open').length === 7")
    page.locator("#project-delete").click()
    typed = page.locator("#project-delete-name textarea, #project-delete-name input")
    typed.fill("renamed")  # not the open one
    page.locator("#project-delete-confirm").click()
    page.get_by_text("nothing was deleted").first.wait_for()
    assert app.project("empty").exists()
    typed.fill("empty")
    page.locator("#project-delete-confirm").click()
    page.wait_for_function("document.querySelector('#project input').value !== 'empty'")
    assert sorted(path.name for path in app.project().parent.glob("[a-z]*")) == ["renamed", PROJECT]
    page.locator("#project-undelete").click()
    page.wait_for_function("document.querySelector('#project input').value === 'empty'")
    assert app.project("empty").exists()
    # A bad name is explained and changes nothing.
    page.locator("#project-new").click()
    page.locator("#project-name textarea, #project-name input").fill("../up")
    page.locator("#project-confirm").click()
    page.get_by_text("as a project name").first.wait_for()
    assert not (app.home / "up").exists()


def test_project_tab_and_theme_survive_refresh_and_restart(
    page: Any, start_app: Callable[..., App], small_project: Path
) -> None:
    app = start_app(project=small_project)
    open_app(page, app)
    stored = page.evaluate("JSON.stringify(localStorage)")
    page.get_by_role("tab", name="Train", exact=True).click()
    # The server is told of the tab, and its answer is what a refresh finds.
    page.wait_for_function("before => JSON.stringify(localStorage) !== before", arg=stored)
    dark = page.evaluate("document.body.classList.contains('dark')")
    page.locator("#theme").click()
    for again in ("refresh", "restart"):
        if again == "restart":
            app.kill()
            app.start()
        open_app(page, app)
        page.locator(
            "#tab-train-button[aria-selected=true], [role=tab][aria-selected=true]",
            has_text="Train",
        ).wait_for()
        assert page.locator("#project input").input_value() == PROJECT
        page.wait_for_function(f"document.body.classList.contains('dark') !== {str(dark).lower()}")
    second = page.context.new_page()
    open_app(second, app)
    assert second.locator("#project input").input_value() == PROJECT


def test_a_job_is_followed_paused_resumed_and_stopped(
    page: Any, start_app: Callable[..., App], small_project: Path
) -> None:
    app = start_app(project=small_project)
    queue = JobQueue(Settings(home=app.home))
    project = Project.open(app.project())
    open_app(page, app)
    job = queue.start(
        project, "train", resolve("train", steps=2000, batch_size=2, targets="all", preview_steps=0)
    )
    panel = page.locator("#job")
    # The time that is left is known from the second step on.
    page.wait_for_function(
        r"/[1-9]\d*\/2000[^]*left/.test(document.querySelector('#job').innerText)",
        timeout=120_000,
    )
    page.locator("#job-command-fold button").first.click()
    assert "--steps 2000" in page.locator("#job-command").inner_text().replace("\n", " ")
    page.locator("#job-pause").click()
    panel.get_by_text("paused").wait_for()
    page.reload()
    page.locator("#job-resume").click()
    panel.get_by_text("running").wait_for()
    page.locator("#job-stop").click()
    panel.get_by_text("stopped", exact=True).wait_for(timeout=60_000)
    assert Job(project.path("jobs", job)).status == "stopped"
    page.locator("#job-recent-fold button").first.click()
    page.locator("#job-recent li.stopped", has_text="train").wait_for()


def test_the_seed_is_changed_and_the_stages_are_out_of_date(
    page: Any, start_app: Callable[..., App], small_project: Path
) -> None:
    app = start_app(project=small_project)
    open_app(page, app)
    page.locator("#project-settings button").first.click()
    page.get_by_label("Seed").fill("7")
    page.locator("#project-apply").click()
    page.locator("#stage-list li.stale").nth(6).wait_for()
    assert Project.open(app.project()).config.seed == 7
    page.get_by_label("Device").click()
    page.get_by_role("option", name="mps").click()
    page.locator("#project-apply").click()
    page.get_by_text("no mps device was found").first.wait_for()
    assert Project.open(app.project()).config.device == "auto"


def test_visitors_of_a_served_app_do_not_see_each_other(
    new_page: Callable[..., Any], start_app: Callable[..., App]
) -> None:
    app = start_app(DPD_HOSTED="1")
    first, second = new_page(), new_page(width=768)
    for page in (first, second):
        open_app(page, app)
    first.locator("#project-new").click()
    first.locator("#project-name textarea, #project-name input").fill("private")
    first.locator("#project-confirm").click()
    first.wait_for_function("document.querySelector('#project input').value === 'private'")
    second.reload()
    open_app(second, app)
    second.locator("#sidebar .toggle-button").click()  # folded: the window is narrow
    second.get_by_label("Project", exact=True).click()
    second.get_by_role("option", name="demo").wait_for()
    assert second.get_by_role("option", name="private").count() == 0
    assert second.get_by_label("Folder on this computer").count() == 0
    visitors = [path for path in (app.home / "visitors").iterdir() if path.is_dir()]
    assert len(visitors) == 2
    assert "Traceback" not in app.log.read_text()
