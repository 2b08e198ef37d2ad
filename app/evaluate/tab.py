"""The tab of the stage ``evaluate``: measure a set, and read what was measured."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.evaluate import privacy, service
from app.evaluate import view as views
from app.evaluate.bar_chart import bar_chart
from app.ui.context import Context
from app.ui.drawer import Drawer
from app.ui.form import StageForm, current_settings, settings_token
from app.ui.html import HTML
from app.ui.sets import set_choices
from dpd_core.config import EvaluateConfig
from dpd_core.errors import DPDError
from dpd_core.evaluate.report import Report
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot


class EvaluateTab:
    """Build inside its ``gr.Tab`` with :meth:`build`, then :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx
        self.form = StageForm(
            ctx, "evaluate", shown=("student_steps", "seeds"), hidden=("set_name", "baselines")
        )
        self.drawer = Drawer(ctx, "evaluate")

    def build(self) -> None:
        """Make the components."""
        with gr.Row(elem_classes="stage-bar"):
            self.drawer.build()
            self.run = gr.Button("Evaluate", variant="primary", size="sm", elem_id="evaluate-run")
            self.work = gr.Markdown(elem_id="evaluate-work", elem_classes="told")
        with gr.Row(equal_height=False):
            with gr.Column(
                scale=1, min_width=280, elem_id="evaluate-drawer", elem_classes="drawer"
            ):
                self._build_form()
            with gr.Column(scale=3, min_width=420):
                with gr.Row():
                    self.report = gr.Dropdown(
                        label="Report",
                        choices=[],
                        elem_id="evaluate-report",
                        min_width=160,
                        info="The set whose results are shown below.",
                    )
                    self.compare = gr.Dropdown(
                        label="Side by side with",
                        choices=[],
                        multiselect=True,
                        value=[],
                        elem_id="evaluate-compare",
                        min_width=200,
                        info="More measured sets, in the chart and the tables.",
                    )
                self.warning = gr.Markdown(visible=False, elem_id="evaluate-warning")
                self.verdicts = HTML(
                    {}, html_template=views.VERDICT_TEMPLATE, elem_id="evaluate-verdicts"
                )
                with gr.Row(equal_height=False):
                    with gr.Column(scale=1, min_width=380):
                        self.chart = bar_chart("evaluate-chart")
                    with gr.Column(scale=1, min_width=380):
                        self._build_details()

    def _build_details(self) -> None:
        with gr.Tabs(elem_id="evaluate-details"):
            with gr.Tab("Confusion matrix", id="confusion"):
                self.confusion = HTML(
                    {}, html_template=views.CONFUSION_TEMPLATE, elem_id="evaluate-confusion"
                )
            with gr.Tab("By class", id="classes"):
                self.classes = HTML(
                    {}, html_template=views.TABLE_TEMPLATE, elem_id="evaluate-classes"
                )
            with gr.Tab("Metrics", id="metrics"):
                self.metrics = HTML(
                    {}, html_template=views.TABLE_TEMPLATE, elem_id="evaluate-metrics"
                )
            with gr.Tab("Privacy", id="privacy"):
                self.privacy = HTML(
                    {}, html_template=privacy.SUMMARY_TEMPLATE, elem_id="evaluate-privacy"
                )
                self.pairs = HTML(
                    {}, html_template=privacy.PAIRS_TEMPLATE, elem_id="evaluate-pairs"
                )
                with gr.Row(elem_classes="pager"):
                    self.previous = gr.Button(
                        "← More similar",
                        size="sm",
                        interactive=False,
                        min_width=110,
                        elem_id="evaluate-previous",
                    )
                    self.page = gr.Number(
                        1,
                        label="Page",
                        precision=0,
                        minimum=1,
                        min_width=90,
                        elem_id="evaluate-page",
                    )
                    self.next = gr.Button(
                        "Less similar →",
                        size="sm",
                        interactive=False,
                        min_width=110,
                        elem_id="evaluate-next",
                    )

    def _build_form(self) -> None:
        self.set_name = gr.Dropdown(
            label="Distilled set", choices=[], elem_id="evaluate-set", info="What to measure."
        )
        self.baselines = gr.CheckboxGroup(
            views.baseline_choices(),
            label="Compare with",
            elem_id="evaluate-baselines",
            info="The same students are trained on these real images. All but “full” are as many "
            "as the set has.",
            interactive=False,
        )
        self.token = gr.State("")
        self.form.build()

    def wire(self) -> None:
        """Attach the handlers."""
        ctx = self.ctx
        self.form.wire()
        self.drawer.wire()
        ctx.on_change(
            "evaluate",
            self.choices,
            inputs=[self.token, self.set_name],
            outputs=[self.token, self.set_name, self.baselines],
        )
        ctx.on(
            self.run.click,
            self.start,
            inputs=[self.set_name, self.baselines, *self.form.components],
        )
        counted = [self.baselines, self.form.fields["seeds"], self.form.fields["student_steps"]]
        for field in counted:
            ctx.on(field.change, amount_of_work, inputs=counted, outputs=[self.work], quiet=True)
        shown = [self.report, self.compare]
        views_ = [
            self.warning,
            self.verdicts,
            self.chart,
            self.confusion,
            self.classes,
            self.metrics,
            self.privacy,
        ]
        pager = [self.pairs, self.page, self.previous, self.next]
        ctx.on_change("evaluate", self.refresh, inputs=shown, outputs=[*shown, *views_, *pager])
        for field in shown:
            ctx.on(field.input, self.show, inputs=shown, outputs=[*views_, *pager])
        turned = [self.report, self.page]
        ctx.on(self.page.submit, self.turn(0), inputs=turned, outputs=pager)
        ctx.on(self.previous.click, self.turn(-1), inputs=turned, outputs=pager)
        ctx.on(self.next.click, self.turn(1), inputs=turned, outputs=pager)

    def choices(self, project: Project, token: str, chosen: str | None) -> list[Any]:
        """The sets that can be measured, and the baselines of the last run; those ticked since
        stay until the project or its last run is another one."""
        sets = set_choices(project)
        values = [value for _, value in sets]
        kept = chosen if chosen in values else values[0] if values else None
        settings = current_settings(project, "evaluate")
        assert isinstance(settings, EvaluateConfig)
        now = settings_token(project, "evaluate")
        # Open from here on, as the form's fields: what was ticked before would be lost.
        baselines = (
            gr.skip()
            if now == token
            else gr.CheckboxGroup(value=list(settings.baselines), interactive=True)
        )
        return [now, gr.Dropdown(choices=sets, value=kept), baselines]

    def start(
        self, project: Project, set_name: str | None, baselines: list[str], *values: Any
    ) -> None:
        """Start the stage."""
        config = self.form.config(project, *values)
        assert isinstance(config, EvaluateConfig)
        config = service.config_for(project, config, set_name, baselines)
        self.ctx.jobs.start(project, "evaluate", config)
        gr.Info("Evaluation has been put on the list; the sidebar shows its progress.")

    def refresh(self, project: Project, report: str | None, compare: list[str] | None) -> list[Any]:
        """The reports on disk and the views of the chosen ones."""
        names = service.evaluated_sets(project)
        choices = [(f"newest ({names[0]})", service.NEWEST)] if names else []
        choices += [(name, name) for name in names]
        kept = report if report in [value for _, value in choices] else None
        kept = kept or (service.NEWEST if names else None)
        others = [name for name in compare or [] if name in names]
        return [
            gr.Dropdown(choices=choices, value=kept),
            gr.Dropdown(choices=names, value=others),
            *self.show(project, kept, others),
        ]

    def show(self, project: Project, report: str | None, compare: list[str] | None) -> list[Any]:
        """The views of one report, with others beside it."""
        found = service.reports(project, [report, *(compare or [])]) if report else []
        first = found[0] if found else None
        readable = service.readable_names(project)
        warning = views.differing_protocols(found) if len(found) > 1 else ""
        changed = first is not None and service.changed_since(project, first)
        return [
            gr.Markdown(f"⚠ {warning}", visible=bool(warning)),
            views.verdicts(first, changed=changed),
            views.accuracy_chart(found),
            views.confusion(first, readable),
            views.per_class(found, readable),
            views.metrics(found),
            privacy.summary(first),
            *self._pairs(project, first, 1),
        ]

    def turn(self, step: int) -> Any:
        """A handler that goes some pages on."""

        def turned(project: Project, report: str | None, page: float | None) -> list[Any]:
            found = service.reports(project, [report]) if report else []
            return self._pairs(project, found[0] if found else None, int(page or 1) + step)

        return turned

    def _pairs(self, project: Project, report: Report | None, page: int) -> list[Any]:
        """One page of the privacy view (from 1) and the state of its buttons."""
        last = privacy.pages(report)
        page = min(max(page, 1), last)
        slots = service.slots(project, report.set if report else "")
        readable = service.readable_names(project)

        def image(class_name: str, slot: int) -> str:
            path = slots.paths.get(Slot(class_name, slot))
            return "" if path is None else self.ctx.images.file(project, path)

        value = privacy.pairs(
            report,
            page - 1,
            readable=readable,
            image=image,
            thumbnail=lambda image_id: self.ctx.images.thumbnail(project, image_id),
            prototype=lambda name, slot: slots.prototypes.get(Slot(name, slot), ""),
        )
        return [
            value,
            gr.Number(page, label=f"Page (of {last})", maximum=last, visible=last > 1),
            gr.Button(interactive=page > 1, visible=last > 1),
            gr.Button(interactive=page < last, visible=last > 1),
        ]


def amount_of_work(
    project: Project, baselines: list[str] | None, seeds: float | None, steps: float | None
) -> str:
    """What a run with these settings has to do."""
    try:
        sets = 1 + len(baselines or [])
        students = sets * int(seeds or 0)
    except (TypeError, ValueError, DPDError):
        return ""
    return (
        f"{sets} set{'s' if sets > 1 else ''} × {int(seeds or 0)} seeds = {students} students "
        f"of {int(steps or 0)} steps. What is measured already is not measured again."
    )
