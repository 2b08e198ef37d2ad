"""The tab of the stage ``train``: settings, the run at work, and earlier runs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.server.jobs import JobView
from app.train import service
from app.train import view as views
from app.train.loss_chart import loss_chart
from app.train.preview_strip import preview_strip
from app.train.run_table import run_table
from app.ui import planned
from app.ui.context import Context
from app.ui.drawer import Drawer
from app.ui.form import StageForm, current_settings
from app.ui.html import HTML, sent
from app.ui.job_status import STATUS_TEMPLATE, peak_memory, status
from app.ui.presets import OwnPresets
from app.ui.revisions import stamp
from app.ui.scores import best_accuracy, set_scores
from dpd_core import storage
from dpd_core.config import CONFIGS, PRESETS, TrainConfig, resolve
from dpd_core.dataset.index import load_index
from dpd_core.errors import DPDError
from dpd_core.hardware import choose_hardware
from dpd_core.project import Project
from dpd_core.settings import StageConfig
from dpd_core.train.adapters import choose_adapter

SHOWN = ("steps", "consistency_weight")
WEIGHTY = ("batch_size", "rank", "targets", "preview_steps", "gradient_checkpointing")
"""Settings that the memory of a training hangs on."""
IDLE = "Nothing trained yet: choose a preset and start."


class TrainTab:
    """Build inside its ``gr.Tab`` with :meth:`build`, then :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx
        self.form = StageForm(ctx, "train", shown=SHOWN)
        self.drawer = Drawer(ctx, "train")
        self.presets = OwnPresets(ctx, self.form)

    def build(self) -> None:
        """Make the components."""
        with gr.Row(elem_classes="stage-bar"):
            self.drawer.build()
            self.run = gr.Button(
                "Start training", variant="primary", size="sm", elem_id="train-run"
            )
            self.pause = gr.Button("Pause", size="sm", visible=False, elem_id="train-pause")
            self.resume = gr.Button("Resume", size="sm", visible=False, elem_id="train-resume")
            self.sample = gr.Button("Sample now", size="sm", visible=False, elem_id="train-sample")
            self.stop = gr.Button(
                "Stop", size="sm", variant="stop", visible=False, elem_id="train-stop"
            )
            self.status = HTML(
                status(None, None, idle=IDLE),
                elem_id="train-status",
                elem_classes="told",
                html_template=STATUS_TEMPLATE,
            )
        self.memory = gr.Markdown(elem_id="train-memory", elem_classes="told")
        self.planned = planned.planned_runs("train-planned")
        with gr.Row():
            with gr.Column(scale=2, min_width=260, elem_id="train-drawer", elem_classes="drawer"):
                self.preset = gr.Radio(
                    views.preset_choices("quick"),
                    label="Preset",
                    elem_id="train-preset",
                    info="Fills the fields below; change them as you like.",
                )
                self.form.build()
                self.presets.build()
            with gr.Column(scale=5, min_width=340):
                self.chart = loss_chart("train-chart")
                gr.Markdown("#### Preview images")
                self.strip = preview_strip("train-previews")
        gr.Markdown("#### Trainings of this project")
        self.runs = run_table("train-runs")
        self.compared = gr.State([])
        self.form_token, self.live_token = gr.State(""), gr.State("")

    def wire(self) -> None:
        """Attach the handlers."""
        ctx, form = self.ctx, self.form
        self.drawer.wire()
        self.presets.wire()
        for name in WEIGHTY:
            ctx.on(
                form.fields[name].change,
                self.memory_needed,
                inputs=form.components,
                outputs=[self.memory],
                quiet=True,
                trigger_mode="always_last",
            )
        filled = [self.form_token, self.memory, self.preset, *form.components]
        ctx.on_change("train", self.fill, inputs=[self.form_token], outputs=filled)
        ctx.on(self.preset.input, self.take_preset, inputs=[self.preset], outputs=form.components)
        ctx.on(self.run.click, self.start, inputs=form.components, outputs=[self.planned])
        ctx.on(self.planned.remove_job, self.unplan, outputs=[self.planned])
        ctx.on(self.pause.click, self._steer(ctx.jobs.pause))
        ctx.on(self.resume.click, self._steer(ctx.jobs.resume))
        ctx.on(self.stop.click, self._steer(ctx.jobs.stop))
        ctx.on(self.sample.click, self.sample_now)
        live = [
            self.live_token,
            self.status,
            self.pause,
            self.resume,
            self.sample,
            self.stop,
            self.run,
            self.planned,
            self.chart,
            self.strip,
            self.runs,
        ]
        inputs = [self.live_token, self.compared]
        ctx.on_pulse("train", self.show, inputs=inputs, outputs=live)
        ctx.on_change("train", self.show, inputs=inputs, outputs=live)
        ctx.on(
            self.runs.compare_run,
            self.compare,
            inputs=inputs,
            outputs=[self.compared, *live],
            show_progress="hidden",
        )
        ctx.on(self.runs.load_run, self.load, outputs=[self.preset, *form.components])
        ctx.on(self.runs.use_run, self.use, inputs=inputs, outputs=live, show_progress="hidden")

    def fill(self, project: Project, token: str) -> list[Any]:
        """The form's fields: what is being trained, else what was trained last.

        Sent only when that is another training than before, so that nothing typed is lost.
        """
        job = service.training_job(project, self.ctx.jobs)
        record = project.record("train")
        now = storage.digest(str(project.root), job.id if job else "", record and record["id"])
        if now == token:
            return [gr.skip()] * (3 + len(self.form.fields))
        settings = current_settings(project, "train").to_dict()
        if job is not None:
            settings = job.job.config["settings"]
        config = CONFIGS["train"].from_dict(settings)
        return [now, self._needed(project, config), *self._filled(project, settings)]

    def memory_needed(self, project: Project, *values: Any) -> str:
        """What a training with the form's settings takes of a GPU."""
        return self._needed(project, self.form.config(project, *values))

    def start(self, project: Project, *values: Any) -> dict[str, Any]:
        """Start a training, or plan it behind those at work."""
        config = self.form.config(project, *values)
        self.ctx.jobs.start(project, "train", config, behind=True)
        return planned.shown(self.ctx, project)

    def unplan(self, project: Project, event: gr.EventData) -> dict[str, Any]:
        """Take a planned run off the list."""
        return planned.remove(self.ctx, project, event)

    def take_preset(self, project: Project, name: str) -> list[Any]:
        """The fields' values under a preset."""
        return self.form.preset(name)

    def load(self, project: Project, event: gr.EventData) -> list[Any]:
        """The settings of an earlier training, in the form."""
        run = service.find_run(project, sent(event, "run"))
        gr.Info("Its settings are in the form.")
        return self._filled(project, run.settings)

    def use(
        self, project: Project, token: str, compared: list[str], event: gr.EventData
    ) -> list[Any]:
        """Take the adapter of an earlier training for synthesis."""
        choose_adapter(project, service.find_run(project, sent(event, "run")).id)
        gr.Info("Synthesis uses this adapter from now on, until another training ends.")
        return self.show(project, "", compared)

    def compare(
        self, project: Project, token: str, compared: list[str], event: gr.EventData
    ) -> list[Any]:
        """Lay the curves of a training over the others, or take them away."""
        run = service.find_run(project, sent(event, "run"))
        compared = [run_id for run_id in compared if run_id != run.id]
        if sent(event, "on"):
            compared.append(run.id)
        return [compared, *self.show(project, "", compared)]

    def sample_now(self, project: Project) -> None:
        """Ask for preview images."""
        service.sample_now(project, self.ctx.jobs)
        gr.Info("Preview images are made after the current step.")

    def show(self, project: Project, token: str, compared: list[str]) -> list[Any]:
        """Everything about the run at work; curves, images and table only if they are new."""
        job = service.training_job(project, self.ctx.jobs)
        found = service.trainings(project, job)
        memory = peak_memory(job)
        buttons = self._buttons(job)
        chosen = found.chosen(compared)
        now = storage.digest(
            str(project.root),
            [run.id for run in chosen],
            found.active,
            found.used,
            [run.id for run in found.runs],
            stamp(project.path("reports")),
            [
                stamp(run.folder / name)
                for run in chosen
                for name in ("curve.jsonl", "previews", "adapter.json")
            ],
        )
        views_ = [gr.skip()] * 3
        if now != token:
            views_ = [
                views.chart(chosen, found.runs),
                views.previews(
                    found.main, _names(project), lambda path: self.ctx.images.file(project, path)
                ),
                views.run_rows(
                    found.runs,
                    scores=best_accuracy(set_scores(project)),
                    used=found.used,
                    active=found.active,
                    main=found.main.id if found.main else None,
                    compared=compared,
                ),
            ]
        waiting = planned.shown(self.ctx, project)
        return [now, status(job, memory, idle=IDLE), *buttons, waiting, *views_]

    def _buttons(self, job: JobView | None) -> list[Any]:
        state = job.status if job is not None else "none"
        busy = job is not None and job.active
        stopping = job is not None and job.stopping
        return [
            gr.Button(visible=state == "running"),
            gr.Button(visible=state in ("paused", "stopped", "interrupted", "failed")),
            gr.Button(visible=state == "running"),
            gr.Button(
                "Stopping …" if stopping else "Stop",
                interactive=not stopping,
                visible=job is not None and job.active,
            ),
            gr.Button("Plan this run too" if busy else "Start training"),
        ]

    def _needed(self, project: Project, config: StageConfig) -> str:
        try:
            assert isinstance(config, TrainConfig)
            return service.memory_needed(project, config)
        except DPDError:  # a model or a device that is not there: the run says so
            return ""

    def _filled(self, project: Project, settings: dict[str, Any]) -> list[Any]:
        config = CONFIGS["train"].from_dict(settings)
        matching = [name for name in PRESETS if resolve("train", name) == config]
        choices = views.preset_choices(_recommended(project))
        return [
            gr.Radio(choices, value=matching[0] if matching else None),
            *self.form.filled(config.to_dict()),
        ]

    def _steer(self, act: Any) -> Any:
        def steer(project: Project) -> None:
            job = service.training_job(project, self.ctx.jobs)
            if job is not None:
                act(project, job.id)

        return steer


def _recommended(project: Project) -> str:
    try:
        return views.recommended_preset(choose_hardware(project.config).device.type)
    except DPDError:  # the device asked for is not there; the sidebar says so
        return views.recommended_preset("cpu")


def _names(project: Project) -> dict[str, str]:
    try:
        index = load_index(project)
    except DPDError:  # a project without its data set can still show what it trained
        return {}
    return {name: index.readable(name) for name in index.classes}
