"""The start page: the first thing a visitor sees of a project, and the one button."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

from app.evaluate import service as evaluate
from app.export import service as export
from app.server.jobs import JobView
from app.server.uploads import take_upload, uploaded
from app.server.workspaces import DEMO
from app.shell.view import stage_list
from app.start import service
from app.start import view as views
from app.start.drop_zone import drop_zone, uploaded_file
from app.ui.context import Context
from app.ui.html import HTML, sent
from app.ui.messages import message, of_job
from dpd_core import storage
from dpd_core.config import DatasetConfig
from dpd_core.errors import DPDError
from dpd_core.evaluate.report import Report, load_report
from dpd_core.pipeline import estimate
from dpd_core.project import Project
from dpd_core.synthesize.sets import DistilledSet

log = logging.getLogger(__name__)

OWN = "my images"
"""Name of the project that *Use my images* makes; with a number where it is taken."""

_LOOK = "() => document.getElementById('tab-prototypes-button')?.click()"
_IPC = 5


class StartTab:
    """Build inside its ``gr.Tab`` with :meth:`build`, then :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx

    def build(self) -> None:
        """Make the components."""
        self.hero = HTML(
            {"pairs": [], "figures": []}, html_template=views.HERO_TEMPLATE, elem_id="start-hero"
        )
        self.stages = HTML([], html_template=views.STAGES_TEMPLATE, elem_id="start-stages")
        with gr.Row(elem_id="start-visitor"):
            self.look = gr.Button("Look around the demo", elem_id="start-look", min_width=120)
            self.use = gr.Button(
                "Use my images", variant="primary", elem_id="start-use", min_width=120
            )
        self.plan = HTML({}, html_template=views.PLAN_TEMPLATE, elem_id="start-plan")
        with gr.Row(elem_id="start-steer"):
            self.resume = gr.Button("Resume", visible=False, elem_id="start-resume", min_width=0)
            self.stop = gr.Button(
                "Stop", variant="stop", visible=False, elem_id="start-stop", min_width=0
            )
        self.download = HTML({}, html_template=views.DOWNLOAD_TEMPLATE, elem_id="start-download")
        self.stale = HTML({}, html_template=views.UPDATE_TEMPLATE, elem_id="start-stale")
        with gr.Row(elem_id="start-again"):
            self.update = gr.Button(
                "Update what is out of date",
                variant="primary",
                visible=False,
                elem_id="start-update",
            )
            self.words = gr.Button(
                "Update without retraining", visible=False, elem_id="start-update-words"
            )
        self._build_form()
        # What the page was filled from, so that a tick does not write over what somebody chooses.
        self.seen = gr.State("")

    def _build_form(self) -> None:
        with gr.Accordion("Make my data set", open=False, elem_id="start-form") as self.form:
            self.drop = drop_zone("start-drop")
            with gr.Row():
                self.ipc = gr.Number(
                    _IPC,
                    label="Images a class",
                    info="How many new images to make of each class.",
                    precision=0,
                    minimum=1,
                    maximum=500,
                    elem_id="start-ipc",
                    scale=1,
                    min_width=160,
                )
                self.quality = gr.Radio(
                    [(name.capitalize(), name) for name in views.QUALITIES],
                    value=views.QUALITIES[0],
                    label="Quality",
                    info="The time is for this machine and all stages; more time, better images.",
                    elem_id="start-quality",
                    scale=3,
                    min_width=300,
                )
            self.make = gr.Button("Make my data set", variant="primary", elem_id="start-make")

    def wire(self) -> None:
        """Attach the handlers."""
        ctx = self.ctx
        live = [self.plan, self.resume, self.stop, self.drop, self.stages]
        rest = [
            self.seen,
            self.hero,
            self.download,
            self.stale,
            self.update,
            self.words,
            self.form,
            self.quality,
            self.use,
        ]
        ctx.on_change("start", self.show, outputs=live)
        ctx.on_change("start", self.refresh, inputs=[self.seen, self.ipc], outputs=rest)
        ctx.on_pulse("start", self.show, outputs=live)
        quiet: dict[str, Any] = {"show_progress": "hidden"}
        ctx.on(self.ipc.change, self.times, inputs=[self.ipc], outputs=self.quality, quiet=True)
        for event, act in ((self.drop.dropped, self.take), (self.drop.demo, self.take_demo)):
            ctx.on(event, act, outputs=live, **quiet)
        ctx.on(self.make.click, self.start, inputs=[self.quality, self.ipc], outputs=live, **quiet)
        for button, retrain in ((self.update, True), (self.words, False)):
            ctx.on(button.click, self._update(retrain), outputs=live, **quiet)
        ctx.on(self.stop.click, self.stop_plan, outputs=live, **quiet)
        ctx.on(self.resume.click, self.resume_plan, outputs=live, **quiet)
        for button, opened in ((self.use, self._own_project), (self.look, self._demo)):
            done = button.click(
                opened,
                inputs=[ctx.session],
                outputs=[ctx.session],
                api_visibility="private",
            )
            if button is self.look:
                done.success(None, js=_LOOK, api_visibility="private")

    def show(self, project: Project) -> list[Any]:
        """What changes while work goes on: the plan, the images, the stages."""
        jobs = self.ctx.jobs
        job = service.current_plan(project, jobs)
        if job is not None and job.status == "done" and service.updates(project):
            job = None  # what it made is out of date, which stands below
        recent = jobs.jobs(project, last=3)  # a plan, its part and what is done
        now = next((run for run in recent if run.active and run.status != "queued"), None)
        at_work = now.stage if now is not None else ""
        rows = stage_list(project, at_work)
        return [
            _progress(job),
            gr.Button(visible=_may_resume(job)),
            gr.Button(visible=job is not None and job.active),
            service.found_images(project, jobs),
            views.stage_line(rows, service.durations(project)),
        ]

    def refresh(self, project: Project, seen: str, ipc: float) -> list[Any]:
        """What changes when a stage has ended, or with the project."""
        steps = service.updates(project)
        job = service.current_plan(project, self.ctx.jobs)
        busy = job is not None and job.active
        configs = {step.stage: step.config for step in steps}
        seconds: dict[str, float] = {}
        for phase in estimate.phases(project, configs) if configs else []:
            seconds[phase.stage] = seconds.get(phase.stage, 0.0) + phase.seconds
        unmade = project.record("synthesize") is None
        now = storage.digest(str(project.root), project.record("dataset") is not None, busy)
        offered = steps if not busy else []
        return [
            now,
            self._hero(project),
            {} if busy else self._download(project, outdated=bool(offered)),
            views.update(offered, seconds),
            gr.Button(visible=bool(offered)),
            gr.Button(visible=bool(offered) and views.words_only(offered)),
            gr.skip() if now == seen else gr.Accordion(open=unmade and not busy),
            self.times(project, ipc),
            gr.Button(visible=project.record("dataset") is not None),
        ]

    def times(self, project: Project, ipc: float) -> Any:
        """The qualities with their times for so many images a class."""
        found = service.qualities(project, min(max(int(ipc or _IPC), 1), 500))
        return gr.Radio(choices=views.quality_choices(found, service.image_side(project)))

    def take(self, project: Project, event: gr.EventData) -> list[Any]:
        """Take what was dropped, and read it at once."""
        take_upload(project, [str(uploaded_file(sent(event, "path")))], "", self.ctx.limits)
        self.ctx.jobs.start(project, "dataset", DatasetConfig(data=str(uploaded(project)[0])))
        return self.show(project)

    def take_demo(self, project: Project) -> list[Any]:
        """Read the demo images."""
        self.ctx.jobs.start(project, "dataset", DatasetConfig(demo=True))
        return self.show(project)

    def start(self, project: Project, quality: str, ipc: float) -> list[Any]:
        """Make the data set."""
        config = service.whole_plan(project, str(quality), int(ipc or 0))
        self.ctx.jobs.start(project, "run", config)
        return self.show(project)

    def _update(self, retrain: bool) -> Any:
        def update(project: Project) -> list[Any]:
            self.ctx.jobs.start(project, "run", service.update_plan(project, retrain=retrain))
            return self.show(project)

        return update

    def stop_plan(self, project: Project) -> list[Any]:
        """Ask the plan at work to stop."""
        job = service.current_plan(project, self.ctx.jobs)
        if job is not None and job.active:
            self.ctx.jobs.stop(project, job.id)
        return self.show(project)

    def resume_plan(self, project: Project) -> list[Any]:
        """Go on with the plan that was stopped, paused or interrupted."""
        job = service.current_plan(project, self.ctx.jobs)
        if job is not None:
            self.ctx.jobs.resume(project, job.id)
        return self.show(project)

    def _hero(self, project: Project) -> dict[str, Any]:
        distilled: DistilledSet | None = None
        report: Report | None = None
        try:
            distilled = DistilledSet.load(project)
            report = load_report(project, distilled.name)
        except DPDError as error:
            log.debug("not shown: %s", error)
        images = self.ctx.images
        return views.hero(
            distilled,
            report,
            evaluate.readable_names(project),
            lambda image: images.thumbnail(project, image),
            lambda record: images.file(project, distilled.path(record)) if distilled else "",
        )

    def _download(self, project: Project, *, outdated: bool) -> dict[str, Any]:
        record = project.record("export")
        found = export.exports(project)
        if record is None or not found:
            return {}
        newest = found[0]
        link = self.ctx.images.file(project, newest.archive)
        shown = views.download(link, project.name, newest.finished, newest.size, newest.images)
        if outdated:
            shown["note"] += " · as it was before what is out of date below"
        return shown

    def _own_project(self, session: dict[str, Any] | None) -> dict[str, Any]:
        """A project for the visitor's images: a new one, or one that is still empty."""
        session = dict(session or {})
        try:
            workspace = self.ctx.workspace(session)
            names = workspace.names()
            taken = {name.casefold() for name in names}
            name, number = OWN, 1
            while name.casefold() in taken and not _is_empty(workspace.open(name)):
                number += 1
                name = f"{OWN} {number}"
            if name.casefold() not in taken:
                self.ctx.limits.check_projects(len(names))
                name = workspace.create(name).name
        except DPDError as error:
            raise message(error) from error
        return {**session, "project": name}

    def _demo(self, session: dict[str, Any] | None) -> dict[str, Any]:
        """The demo, put in place if it is not there."""
        session = dict(session or {})
        try:
            workspace = self.ctx.workspace(session)
            if DEMO not in workspace.names():
                self.ctx.limits.check_projects(len(workspace.names()))
            return {**session, "project": workspace.ensure_demo()}
        except DPDError as error:
            raise message(error) from error


def _is_empty(project: Project) -> bool:
    return not project.manifest()["stages"] and not uploaded(project)


def _may_resume(job: JobView | None) -> bool:
    return job is not None and job.status in ("stopped", "failed", "interrupted", "paused")


def _progress(job: JobView | None) -> dict[str, Any]:
    if job is None:
        return {}
    return views.progress(
        job.status,
        service.phases_of(job),
        message=job.message,
        done=job.done,
        total=job.total,
        eta=job.eta,
        error=of_job(job.error),
        seconds=job.seconds,
        position=job.position,
    )
