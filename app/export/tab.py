"""The tab of the stage ``export``: look at what will be published, write it, pass it on."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr

from app.export import service
from app.export import view as views
from app.ui.context import Context
from app.ui.drawer import Drawer
from app.ui.form import current_settings
from app.ui.html import HTML
from app.ui.messages import in_words
from app.ui.sets import set_choices
from dpd_core.config import ExportConfig
from dpd_core.errors import DPDError
from dpd_core.project import Project


class ExportTab:
    """Build inside its ``gr.Tab`` with :meth:`build`, then :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx
        self.drawer = Drawer(ctx, "export")
        self.oauth = ctx.settings.hosted and service.can_sign_in()

    def build(self) -> None:
        """Make the components."""
        self.seen = gr.Textbox(visible="hidden", elem_id="export-seen")
        with gr.Row(elem_classes="stage-bar"):
            self.drawer.build()
            self.run = gr.Button("Export", variant="primary", size="sm", elem_id="export-run")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=280, elem_id="export-drawer", elem_classes="drawer"):
                self._build_form()
            with gr.Column(scale=3, min_width=420):
                self.downloads = HTML(
                    {}, html_template=views.DOWNLOADS_TEMPLATE, elem_id="export-downloads"
                )
                self.plan = HTML({}, html_template=views.PLAN_TEMPLATE, elem_id="export-plan")
                with gr.Accordion(
                    "Preview of the dataset card (README.md)",
                    open=False,
                    elem_id="export-card-fold",
                ):
                    self.card = gr.Markdown(
                        elem_id="export-card", sanitize_html=True, latex_delimiters=[], buttons=[]
                    )
                self._build_push()

    def _build_form(self) -> None:
        self.set_name = gr.Dropdown(
            label="Distilled set", choices=[], elem_id="export-set", info="What to export."
        )
        self.title = gr.Textbox(
            label="Title",
            max_lines=1,
            max_length=120,
            elem_id="export-title",
            info="Heads the card; empty takes the project's name.",
        )
        self.licence = gr.Dropdown(
            label="Licence",
            choices=list(service.LICENCES),
            value="other",
            elem_id="export-licence",
            info="Of the exported images and captions.",
        )
        self.parquet = gr.Checkbox(
            True,
            label="Parquet",
            elem_id="export-parquet",
            info="Also write one table with the images inside.",
        )
        self.adapter = gr.Checkbox(
            True,
            label="Adapter",
            elem_id="export-adapter",
            info="Put the weights that made the images beside them.",
        )
        self.soft_labels = gr.Checkbox(
            False,
            label="Soft labels",
            elem_id="export-soft_labels",
            info="A file with a teacher's class probabilities of each image; the teacher has seen "
            "all real training images.",
        )
        self.text_files = gr.Checkbox(
            False,
            label="Caption files",
            elem_id="export-text_files",
            info="Each caption also in a .txt file beside its image, as trainers of adapters "
            "read them.",
        )

    def _build_push(self) -> None:
        with gr.Accordion("Push to the Hugging Face Hub", open=False, elem_id="export-push-fold"):
            self.pushed = gr.Markdown(visible=False, elem_id="export-pushed")
            if self.ctx.settings.hosted and not self.oauth:
                gr.Markdown(
                    "This server has no sign-in for the Hub. Download the zip and upload "
                    "its contents yourself."
                )
                return
            self.repository = gr.Textbox(
                label="Data set id",
                placeholder="my-name/tiny-landuse",
                max_lines=1,
                elem_id="export-repository",
                info="Made as a private data set if it does not exist.",
            )
            if self.oauth:
                gr.LoginButton(elem_id="export-login")
            else:
                self.token = gr.Textbox(
                    label="Your token",
                    type="password",
                    max_lines=1,
                    elem_id="export-token",
                    info="One that may write. It is used for this push alone and stored nowhere."
                    + (" Empty: the one in HF_TOKEN." if os.environ.get("HF_TOKEN") else ""),
                )
            self.push = gr.Button("Export and push", elem_id="export-push")

    def wire(self) -> None:
        """Attach the handlers."""
        ctx = self.ctx
        self.drawer.wire()
        fields = [
            self.set_name,
            self.title,
            self.licence,
            self.parquet,
            self.adapter,
            self.soft_labels,
            self.text_files,
        ]
        shown = [self.plan, self.card]
        ctx.on_change(
            "export",
            self.refresh,
            inputs=[self.seen, *fields],
            outputs=[self.seen, *fields, *shown, self.downloads, self.pushed],
        )
        for trigger in (
            self.set_name.input,
            self.licence.input,
            self.parquet.input,
            self.adapter.input,
            self.soft_labels.input,
            self.text_files.input,
            self.title.submit,
            self.title.blur,
        ):
            ctx.on(trigger, self.show, inputs=fields, outputs=shown, quiet=True)
        ctx.on(self.run.click, self.start, inputs=fields)
        if self.oauth:
            ctx.on(self.push.click, self.start_push_signed_in, inputs=[self.repository, *fields])
        elif not ctx.settings.hosted:
            ctx.on(
                self.push.click,
                self.start_push,
                outputs=[self.token],
                inputs=[self.token, self.repository, *fields],
            )

    def refresh(self, project: Project, seen: str, *fields: Any) -> list[Any]:
        """Everything on the tab. What may be half typed is only set for another project."""
        sets = set_choices(project)
        values = [value for _, value in sets]
        same = seen == str(project.name)
        settings = current_settings(project, "export")
        assert isinstance(settings, ExportConfig)
        chosen = fields[0] if same and fields[0] in values else values[0] if values else None
        if not same:
            fields = (
                chosen,
                settings.title,
                settings.licence,
                settings.parquet,
                settings.adapter,
                settings.soft_labels,
                settings.text_files,
            )
        else:
            fields = (chosen, *fields[1:])
        kept = [gr.skip() if same else value for value in fields[1:]]
        link = self.ctx.images.file
        pushed = service.pushed_to(project)
        return [
            str(project.name),
            gr.Dropdown(choices=sets, value=chosen),
            *kept,
            *self.show(project, *fields),
            views.downloads(
                service.exports(project),
                lambda finished: link(project, finished.archive),
                pushed,
                project.name,
            ),
            gr.Markdown(
                f"Pushed to [{pushed}](https://huggingface.co/datasets/{pushed})."
                if pushed
                else "",
                visible=bool(pushed),
            ),
        ]

    def show(self, project: Project, *fields: Any) -> list[Any]:
        """What would be exported with these settings."""
        try:
            found = service.plan(project, service.config_of(*fields))
        except DPDError as error:
            return [views.plan(None, problem=in_words(error)), ""]
        return [views.plan(found), views.card(found)]

    def start(self, project: Project, *fields: Any) -> None:
        """Start the stage."""
        self._start(project, service.config_of(*fields), None)

    def start_push(
        self, project: Project, token: str | None, repository: str | None, *fields: Any
    ) -> str:
        """Start the stage with a push; the token's field is emptied."""
        name = service.checked_repository(repository)
        self._start(
            project, service.config_of(*fields).replace(push=name), service.checked_token(token)
        )
        return ""

    def start_push_signed_in(
        self,
        project: Project,
        repository: str | None,
        set_name: str | None,
        title: str | None,
        licence: str | None,
        parquet: bool,
        adapter: bool,
        soft_labels: bool,
        text_files: bool,
        oauth: gr.OAuthToken | None,
    ) -> None:
        """Start the stage with a push in the name of the visitor who has signed in."""
        name = service.checked_repository(repository)
        fields = (set_name, title, licence, parquet, adapter, soft_labels, text_files)
        config = service.config_of(*fields)
        self._start(project, config.replace(push=name), service.signed_in_token(oauth))

    def _start(self, project: Project, config: ExportConfig, token: str | None) -> None:
        service.plan(project, config)  # what is missing is said at once
        self.ctx.jobs.start(project, "export", config, token=token)
        gr.Info("The export has been put on the list; the sidebar shows its progress.")
