"""Views of the sidebar: the stages of a project and its current job."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.ui.job_status import duration
from dpd_core import STAGES
from dpd_core.pipeline.staleness import is_current
from dpd_core.project import Project

if TYPE_CHECKING:
    from app.server.jobs import JobView

STAGE_LIST_TEMPLATE = """<ol class='stages'>
{{#each value}}<li class='{{this.state}}'><span>{{this.stage}}</span><em>{{this.note}}</em></li>
{{/each}}</ol>"""

JOB_TEMPLATE = """<div class='job {{value.status}}' role='status'>
<p><b>{{value.title}}</b> <span>{{value.note}}</span></p>
<progress max='100' value='{{value.percent}}' aria-label='progress'></progress>
<p class='small'>{{value.detail}}</p></div>"""

RECENT_JOBS_TEMPLATE = """<ol class='recent'>
{{#each value}}<li class='{{this.status}}'><b>{{this.stage}}</b> <em>{{this.status}}</em>
<time>{{this.when}}</time>{{#if this.error}}<p class='small'>{{this.error}}</p>{{/if}}</li>
{{else}}<li>No job has run in this project yet.</li>{{/each}}</ol>"""


def stage_list(project: Project) -> list[dict[str, str]]:
    """Each stage with ``state`` (``done``, ``stale`` or ``open``) and a ``note``."""
    rows = []
    for stage in STAGES:
        state = "open"
        if project.record(stage) is not None:
            state = "done" if is_current(project, stage) else "stale"
        note = {"done": "done", "stale": "out of date", "open": ""}[state]
        rows.append({"stage": stage, "state": state, "note": note})
    return rows


def job(view: JobView | None) -> dict[str, Any]:
    """The job panel's values."""
    if view is None:
        return {"status": "none", "title": "No job yet", "note": "", "percent": 0, "detail": ""}
    percent = round(100 * view.done / view.total) if view.total else 0
    if view.status == "done":
        percent = 100
    detail = view.message
    if view.status == "queued":
        detail = f"{_count(view.position)} before it on the waiting list"
    elif view.stopping:
        detail = "stopping after this step; what is finished is kept"
    elif view.error:
        detail = view.error
    elif view.status == "done":
        detail = ""
    elif view.total and view.active:
        detail = f"{view.message} {view.done}/{view.total}"
        if view.eta is not None:
            detail += f", {duration(view.eta)} left"
    return {
        "status": view.status,
        "title": view.stage,
        "note": view.status,
        "percent": percent,
        "detail": detail,
    }


def recent_jobs(views: Sequence[JobView]) -> list[dict[str, str]]:
    """The last jobs, newest first: ``stage``, ``status``, ``when`` (UTC) and ``error``."""
    return [
        {"stage": view.stage, "status": view.status, "when": _when(view.id), "error": view.error}
        for view in views
    ]


def _when(job_id: str) -> str:
    """The time that the id of a job begins with."""
    try:
        begun = datetime.datetime.strptime(job_id[:15], "%Y%m%d-%H%M%S")
    except ValueError:
        return ""
    return f"{begun:%d %b %H:%M}"


def _count(jobs: int) -> str:
    return "no job" if jobs == 0 else "1 job" if jobs == 1 else f"{jobs} jobs"
