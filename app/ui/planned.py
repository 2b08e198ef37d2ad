"""The runs of a project that wait for the one at work (``assets/app/planned.js``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.server.jobs import JobView
from app.ui.assets import script
from app.ui.context import Context
from app.ui.differences import differing, words
from app.ui.html import HTML, sent
from dpd_core.project import Project

TEMPLATE = """{{#if value.runs}}<section class='planned' aria-label='Planned runs'>
<b>Planned next</b><ol>{{#each value.runs}}<li>{{this.stage}}: {{this.settings}}
<button type='button' data-job='{{this.id}}' aria-label='Remove the planned run: {{this.stage}},
 {{this.settings}}'>Remove</button></li>{{/each}}</ol></section>{{/if}}"""


def planned_runs(elem_id: str) -> HTML:
    """The component; its value is :func:`shown`. Event: ``remove_job`` with ``job``."""
    return HTML(
        {"runs": []},
        html_template=TEMPLATE,
        elem_id=elem_id,
        js_on_load=script("planned.js"),
        apply_default_css=False,
    )


def shown(ctx: Context, project: Project) -> dict[str, Any]:
    """The component's value: the runs that wait, with the settings that tell them apart from the
    one before the first of them and from each other."""
    waiting = ctx.jobs.planned(project)
    current = ctx.jobs.current(project)
    return {"runs": rows(waiting, current)}


def rows(waiting: Sequence[JobView], current: JobView | None) -> list[dict[str, str]]:
    """One row a run that waits."""
    found = []
    for job in waiting:
        of_stage = [other for other in (current, *waiting) if other and other.stage == job.stage]
        settings = [other.job.config["settings"] for other in of_stage]
        own = job.job.config["settings"]
        text = words(own, differing(settings)) or "the same settings"
        found.append({"id": job.id, "stage": job.stage, "settings": text})
    return found


def remove(ctx: Context, project: Project, event: gr.EventData) -> dict[str, Any]:
    """Take a run off the list that waits."""
    asked = sent(event, "job")
    if any(job.id == asked for job in ctx.jobs.planned(project)):
        ctx.jobs.stop(project, str(asked))
    return shown(ctx, project)
