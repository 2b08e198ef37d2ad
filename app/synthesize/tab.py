"""The tab of the stage ``synthesize``: strategy, the set as it fills, and changes by hand."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.synthesize import service
from app.synthesize import view as views
from app.synthesize.compare import compared_sets, table
from app.synthesize.sample_grid import sample_grid
from app.ui import planned
from app.ui.context import Context
from app.ui.drawer import Drawer
from app.ui.form import StageForm, current_settings
from app.ui.html import HTML, sent
from app.ui.job_status import STATUS_TEMPLATE, peak_memory, status
from app.ui.presets import OwnPresets
from app.ui.revisions import stamp
from app.ui.scores import set_scores
from dpd_core import storage
from dpd_core.dataset.index import load_index
from dpd_core.errors import DPDError
from dpd_core.project import Project
from dpd_core.synthesize.edits import choose_candidate, pin_slot
from dpd_core.synthesize.strategies import STRATEGIES

SHOWN = ("candidates",)
HIDDEN = ("strategy", "adapter", "keep_pinned")
LATEST = ""
"""Stands in the choice of a set for the one at work or made last."""
NOTHING = ""


class SynthesizeTab:
    """Build inside its ``gr.Tab`` with :meth:`build`, then :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx
        self.form = StageForm(ctx, "synthesize", shown=SHOWN, hidden=HIDDEN)
        self.drawer = Drawer(ctx, "synthesize")
        self.presets = OwnPresets(ctx, self.form)

    def build(self) -> None:
        """Make the components."""
        with gr.Row(elem_classes="stage-bar"):
            self.drawer.build()
            self.run = gr.Button(
                "Make distilled set", variant="primary", size="sm", elem_id="synthesize-run"
            )
            self.stop = gr.Button(
                "Stop", size="sm", variant="stop", visible=False, elem_id="synthesize-stop"
            )
            self.status = HTML(
                status(None, None),
                elem_id="synthesize-status",
                elem_classes="told",
                html_template=STATUS_TEMPLATE,
            )
        self.planned = planned.planned_runs("synthesize-planned")
        with gr.Row():
            with gr.Column(
                scale=2, min_width=300, elem_id="synthesize-drawer", elem_classes="drawer"
            ):
                self._build_settings()
            with gr.Column(scale=5, min_width=380):
                self._build_view()
        self.page = gr.State(0)
        self.token, self.choices_token = gr.State(""), gr.State("")

    def _build_settings(self) -> None:
        self.strategy = gr.Dropdown(
            list(STRATEGIES),
            value=None,
            label="Strategy",
            info="How an image starts, what steers it, and which is kept.",
            elem_id="synthesize-strategy",
        )
        self.about = HTML(html_template=views.STRATEGY_TEMPLATE, elem_id="synthesize-about")
        self.adapter = gr.Dropdown(
            [("latest", "latest")],
            value="latest",
            label="Adapter",
            info="What the Train tab has made of the model.",
            elem_id="synthesize-adapter",
        )
        self.form.build()
        self.presets.build(strategy=self.strategy)
        self.keep = gr.Dropdown(
            [("no set: sample all images", NOTHING)],
            value=NOTHING,
            label="Keep the pinned images of",
            elem_id="synthesize-keep",
            info="Those slots are taken over instead of sampled.",
        )

    def _build_view(self) -> None:
        with gr.Row():
            self.shown = gr.Dropdown(
                [("latest", LATEST)],
                value=LATEST,
                label="Distilled set",
                elem_id="synthesize-set",
                min_width=160,
            )
            self.beside = gr.Dropdown(
                [("nothing", NOTHING)],
                value=NOTHING,
                label="Compare with",
                elem_id="synthesize-beside",
                min_width=160,
            )
            self.class_name = gr.Dropdown(
                [("all classes", NOTHING)],
                value=NOTHING,
                label="Class",
                elem_id="synthesize-class",
                min_width=140,
            )
            self.order = gr.Dropdown(
                list(views.ORDERS.items()),
                value="class",
                label="Order",
                elem_id="synthesize-order",
                min_width=140,
            )
        gr.Markdown(
            "Open an image to see its candidates, choose another, pin it, or have it sampled anew.",
            elem_id="synthesize-hint",
        )
        self.grid = sample_grid("synthesize-grid")
        with gr.Accordion("Compare the sets", open=False, elem_id="synthesize-compare"):
            self.compared = compared_sets("synthesize-compared")

    @property
    def _viewed(self) -> list[Any]:
        return [self.shown, self.beside, self.class_name, self.order, self.page]

    def wire(self) -> None:
        """Attach the handlers."""
        ctx = self.ctx
        self.form.wire()
        self.drawer.wire()
        self.presets.wire()
        ctx.on_change(
            "synthesize", lambda project: table(set_scores(project)), outputs=self.compared
        )
        choices = [
            self.choices_token,
            self.strategy,
            self.about,
            self.adapter,
            self.keep,
            self.shown,
            self.beside,
            self.class_name,
        ]
        ctx.on_change(
            "synthesize",
            self.choices,
            inputs=[self.choices_token, self.shown, self.beside, self.class_name, self.keep],
            outputs=choices,
        )
        ctx.on(
            self.strategy.change,
            lambda project, name: views.strategy(name),
            inputs=[self.strategy],
            outputs=self.about,
            quiet=True,
        )
        fields = [self.strategy, self.adapter, self.keep, *self.form.components]
        ctx.on(self.run.click, self.start, inputs=fields, outputs=[self.shown, self.page])
        ctx.on(self.stop.click, self.stop_job)
        ctx.on(self.planned.remove_job, self.unplan, outputs=[self.planned])
        live = [self.token, self.grid, self.page, self.status, self.run, self.stop, self.planned]
        inputs = [self.token, *self._viewed]
        ctx.on_pulse("synthesize", self.show, inputs=inputs, outputs=live)
        ctx.on_change("synthesize", self.show, inputs=inputs, outputs=live)
        for chooser in (self.shown, self.beside, self.class_name, self.order):
            ctx.on(chooser.change, self.first_page, inputs=inputs, outputs=live, quiet=True)
        grid = self.grid
        ctx.on(grid.turn_page, self.turn, inputs=inputs, outputs=live, show_progress="hidden")
        for event, act in (
            (grid.choose_candidate, self.choose),
            (grid.pin_slot, self.pin),
            (grid.sample_anew, self.sample_anew),
        ):
            ctx.on(event, act, inputs=inputs, outputs=live, show_progress="hidden")

    def choices(
        self, project: Project, token: str, shown: str, beside: str, class_name: str, keep: str
    ) -> list[Any]:
        """What the drop-downs offer; what is chosen stays chosen where it still exists.

        The settings are filled only when the project or its last run is another one.
        """
        names = service.set_names(project)
        pinned = service.pinned_sets(project, self.ctx.jobs)
        classes = list(_names(project).items())
        record = project.record("synthesize")
        now = storage.digest(str(project.root), record and record["id"])
        strategy, about, adapter = gr.Dropdown(), gr.skip(), None
        if now != token:
            settings = current_settings(project, "synthesize").to_dict()
            strategy = gr.Dropdown(value=settings["strategy"])
            about, adapter = views.strategy(settings["strategy"]), settings["adapter"]
        return [
            now,
            strategy,
            about,
            _dropdown(service.adapter_choices(project), adapter),
            _dropdown(pinned, keep if keep in [value for _, value in pinned] else NOTHING),
            _dropdown(
                [("latest", LATEST), *((name, name) for name in names)],
                shown if shown in names else LATEST,
            ),
            _dropdown(
                [("nothing", NOTHING), *((name, name) for name in names)],
                beside if beside in names else NOTHING,
            ),
            _dropdown(
                [("all classes", NOTHING), *((text, name) for name, text in classes)],
                class_name if class_name in dict(classes) else NOTHING,
            ),
        ]

    def start(
        self, project: Project, strategy: str, adapter: str, keep: str, *values: Any
    ) -> list[Any]:
        """Make a set; the grid turns to it."""
        config = self.form.config(project, *values).replace(
            strategy=strategy, adapter=adapter, keep_pinned=service.check_keep(project, keep)
        )
        self.ctx.jobs.start(project, "synthesize", config, behind=True)
        return [LATEST, 0]

    def unplan(self, project: Project, event: gr.EventData) -> dict[str, Any]:
        """Take a planned run off the list."""
        return planned.remove(self.ctx, project, event)

    def stop_job(self, project: Project) -> None:
        """Ask the job at work to stop."""
        job = service.synthesis_job(project, self.ctx.jobs)
        if job is not None and job.active:
            self.ctx.jobs.stop(project, job.id)

    def show(self, project: Project, token: str, *viewed: Any) -> list[Any]:
        """The grid, if there is anything new in it, and the job."""
        jobs = self.ctx.jobs
        shown, beside, class_name, order, page = viewed
        name = shown or service.latest_set(project, jobs)
        views_ = [service.read_set(project, jobs, set_name) for set_name in (name, beside)]
        job = service.synthesis_job(project, jobs)
        now = storage.digest(
            str(project.root),
            list(viewed),
            project.name,
            [
                [
                    view.name,
                    view.finished,
                    sorted(view.busy),
                    len(view.slots),
                    stamp(view.root / "manifest.json"),
                ]
                for view in views_
                if view is not None
            ],
        )
        working = job is not None and job.active
        told = status(job, peak_memory(job), working="Sampling.")
        rest = [
            told,
            gr.Button("Plan this set too" if working else "Make distilled set"),
            gr.Button(visible=working),
            planned.shown(self.ctx, project),
        ]
        if now == token:
            return [gr.skip(), gr.skip(), gr.skip(), *rest]
        links = views.Links(
            lambda path: self.ctx.images.file(project, path),
            lambda image: self.ctx.images.thumbnail(project, image),
        )
        value = views.grid(
            views_[0],
            views_[1],
            links,
            _names(project),
            order=order,
            class_name=class_name,
            page=page,
        )
        return [now, value, value["page"], *rest]

    def first_page(self, project: Project, token: str, *viewed: Any) -> list[Any]:
        """Another set, class or order begins at the first page."""
        return self.show(project, token, *viewed[:-1], 0)

    def turn(self, project: Project, event: gr.EventData, token: str, *viewed: Any) -> list[Any]:
        """Go to a page."""
        page = sent(event, "page")
        return self.show(project, "", *viewed[:-1], page if type(page) is int else 0)

    def choose(self, project: Project, event: gr.EventData, token: str, *viewed: Any) -> list[Any]:
        """Make another candidate a slot's image."""
        index = sent(event, "index")
        choose_candidate(project, *service.slot_of(event), index if type(index) is int else -1)
        return self.show(project, "", *viewed)

    def pin(self, project: Project, event: gr.EventData, token: str, *viewed: Any) -> list[Any]:
        """Pin a slot or let go of it."""
        pin_slot(project, *service.slot_of(event), pinned=bool(sent(event, "on")))
        return self.show(project, "", *viewed)

    def sample_anew(
        self, project: Project, event: gr.EventData, token: str, *viewed: Any
    ) -> list[Any]:
        """Give a slot new candidates, as a job."""
        service.resample(project, self.ctx.jobs, *service.slot_of(event))
        gr.Info("New candidates are being sampled.")
        return self.show(project, "", *viewed)


def _dropdown(choices: list[tuple[str, str]], value: str | None) -> gr.Dropdown:
    if value is None:
        return gr.Dropdown(choices=choices)
    return gr.Dropdown(choices=choices, value=value)


def _names(project: Project) -> dict[str, str]:
    """Readable class names, as far as there is a data set."""
    try:
        index = load_index(project)
    except DPDError:
        return {}
    return {name: index.readable(name) for name in sorted(index.classes)}
