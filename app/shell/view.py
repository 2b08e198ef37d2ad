"""Views of the sidebar: the stages of a project and its current job."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.ui.job_status import duration
from app.ui.messages import of_job
from dpd_core import STAGES
from dpd_core.pipeline.staleness import current_stages
from dpd_core.project import Project

if TYPE_CHECKING:
    from app.server.jobs import JobView

STAGE_LIST_TEMPLATE = """<ol class='stages'>
{{#each value}}<li class='{{this.state}}{{#if this.runs}} at-work{{/if}}'><span>{{this.stage}}</span
><em>{{this.note}}</em></li>
{{/each}}</ol>"""

JOB_TEMPLATE = """<div class='job {{value.status}}' role='status'>
<p><b>{{value.title}}</b> <span>{{value.note}}</span></p>
{{#if value.counted}}<progress max='100' value='{{value.percent}}' aria-label='progress'></progress>
{{else}}<progress max='100' aria-label='at work'></progress>{{/if}}
<p class='small'>{{value.detail}}</p>{{#if value.next}}<p><a href='#' data-go='{{value.next}}'>Next:
{{value.next}} →</a></p>{{/if}}</div>"""

RECENT_JOBS_TEMPLATE = """<ol class='recent'>
{{#each value}}<li class='{{this.status}}'><b>{{this.stage}}</b> <em>{{this.status}}</em>
<time>{{this.when}}</time>{{#if this.error}}<p class='small'>{{this.error}}</p>{{/if}}</li>
{{else}}<li>No job has run in this project yet.</li>{{/each}}</ol>"""


def stage_list(project: Project, at_work: str = "") -> list[dict[str, Any]]:
    """Each stage with ``state`` (``done``, ``stale`` or ``open``), a ``note``, and whether it
    ``runs``.

    Args:
        at_work: The stage of the job at work.
    """
    rows = []
    made, current = project.manifest()["stages"], current_stages(project)
    for stage in STAGES:
        state = "done" if stage in current else "stale" if stage in made else "open"
        note = {"done": "done", "stale": "out of date", "open": ""}[state]
        runs = stage == at_work
        note = "at work" if runs else note
        rows.append({"stage": stage, "state": state, "note": note, "runs": runs})
    return rows


def job(view: JobView | None) -> dict[str, Any]:
    """The job panel's values. Without a ``percent`` the bar moves and tells no share: what is at
    work has not counted its units, or those it counted are done."""
    if view is None:
        return {"status": "none", "title": "No job yet", "note": "", "detail": ""}
    counted = view.active and 0 < view.done < view.total
    percent = min(round(100 * view.done / view.total), 99) if counted else None
    if not view.active or view.status == "queued":
        percent = 100 if view.status == "done" else 0
    return {
        "status": view.status,
        "title": "all stages" if view.stage == "run" else view.stage,
        "note": view.status,
        "percent": percent,
        "counted": percent is not None,
        "detail": _detail(view),
        "next": _next(view),
    }


def _detail(view: JobView) -> str:
    """How far a job is, or how it ended."""
    if view.status == "queued":
        return f"{_count(view.position)} before it on the waiting list"
    if view.stopping:
        return "stopping after this step; what is finished is kept"
    if view.error:
        return of_job(view.error)
    if view.status == "done":
        return f"took {duration(view.seconds)}" if view.seconds is not None else ""
    if not view.active:
        return view.message
    if not view.total:
        return view.message or "loading"
    if view.done >= view.total:
        return f"{view.message} {view.done}/{view.total}, finishing"
    # A plan counts seconds, and says itself which phase it is at.
    detail = view.message if view.stage == "run" else f"{view.message} {view.done}/{view.total}"
    return detail if view.eta is None else f"{detail}, {duration(view.eta)} left"


def _next(view: JobView) -> str:
    """The stage to go to when this one is done."""
    if view.status != "done" or view.stage not in STAGES[:-1]:
        return ""
    return STAGES[STAGES.index(view.stage) + 1]


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
