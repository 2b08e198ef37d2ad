"""The tab of the stage ``dataset``: where the images come from, and what was found."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.dataset import service
from app.dataset import view as views
from app.dataset.class_balance import class_balance
from app.server.uploads import remove_uploads, take_upload, uploaded
from app.ui.context import Context
from app.ui.drawer import Drawer
from app.ui.form import StageForm, current_settings
from app.ui.html import HTML, sent
from dpd_core.config import DatasetConfig
from dpd_core.dataset.hub import PRESETS
from dpd_core.dataset.index import ImageRecord, load_index, rename_class
from dpd_core.errors import StageMissing
from dpd_core.project import Project

_SPLITS = [("All", ""), ("Training", "train"), ("Test", "test")]


class DatasetTab:
    """Build inside its ``gr.Tab`` with :meth:`build`, then :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx
        hosted = ctx.settings.hosted
        self.drawer = Drawer(ctx, "dataset", "Source and settings")
        self.sources = service.sources(hosted=hosted)
        # Strangers have no path on the server to give test data by.
        hidden = ["data", "demo", "test_data"] if hosted else ["data", "demo"]
        self.form = StageForm(
            ctx,
            "dataset",
            shown=["layout", "test_fraction", "max_per_class", "classes"],
            hidden=hidden,
        )

    def build(self) -> None:
        """Make the components."""
        with gr.Row(elem_classes="stage-bar"):
            self.drawer.build()
            self.run = gr.Button(
                "Read the images", variant="primary", size="sm", elem_id="dataset-run"
            )
        with gr.Row():
            with gr.Column(scale=2, min_width=320, elem_id="dataset-drawer", elem_classes="drawer"):
                self._build_source()
                self.form.build()
            with gr.Column(scale=5, min_width=360):
                gr.Markdown("### What was found")
                self.report = HTML(
                    views.EMPTY, html_template=views.REPORT_TEMPLATE, elem_id="dataset-report"
                )
                self.classes = class_balance("dataset-balance")
        self._build_thumbnails()

    def _build_source(self) -> None:
        choices = [(label, key) for key, label in self.sources.items()]
        self.source = gr.Radio(
            choices, value="demo", label="Where the images come from", elem_id="dataset-source"
        )
        with gr.Group(visible=False, elem_id="dataset-upload-group") as self.upload_group:
            self.upload = gr.File(
                label="A zip or tar with a folder for each class, or images of one class",
                file_count="multiple",
                elem_id="dataset-upload",
                height=140,
                file_types=[".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".parquet", "image"],
            )
            self.upload_class = gr.Textbox(
                label="Class of these images",
                info="Only for single images; upload class after class.",
                max_lines=1,
                max_length=60,
                elem_id="dataset-upload-class",
            )
            with gr.Row():
                self.take = gr.Button("Add to the project", size="sm", elem_id="dataset-take")
                self.clear = gr.Button("Remove uploads", size="sm", elem_id="dataset-clear")
            self.uploads = HTML(
                elem_id="dataset-uploads", html_template="<p class='ds-note'>{{value}}</p>"
            )
        self.hub = gr.Dropdown(
            [(f"{preset.title} ({key})", key) for key, preset in PRESETS.items()],
            label="Data set",
            info="A well-known one, or any Hub id: owner/name. It is downloaded.",
            allow_custom_value=True,
            visible=False,
            value=None,
            elem_id="dataset-hub",
        )
        self.folder = gr.Textbox(
            label="Folder, archive or Parquet file",
            placeholder="/home/me/scenes",
            max_lines=1,
            info="Folders of classes, with or without train and test, or a table of labels.",
            visible=False,
            elem_id="dataset-folder",
        )

    def _build_thumbnails(self) -> None:
        with gr.Row(elem_id="dataset-filters"):
            self.class_name = gr.Dropdown(
                [(views.ALL, "")],
                value="",
                label="Show class",
                elem_id="dataset-class",
                min_width=160,
            )
            self.split = gr.Dropdown(
                _SPLITS, value="", label="Split", elem_id="dataset-split", min_width=160
            )
            self.page = gr.Number(
                1, label="Page", precision=0, minimum=1, min_width=100, elem_id="dataset-page"
            )
            self.previous = gr.Button(
                "← Previous", size="sm", min_width=90, elem_id="dataset-previous"
            )
            self.next = gr.Button("Next →", size="sm", min_width=90, elem_id="dataset-next")
        self.grid = HTML(
            {"images": [], "note": ""},
            elem_id="dataset-grid",
            html_template=views.THUMBNAILS_TEMPLATE,
        )

    def wire(self) -> None:
        """Attach the handlers."""
        ctx = self.ctx
        self.form.wire()
        self.drawer.wire()
        chosen = [self.source, self.folder, self.hub]
        ctx.on(self.run.click, self._run, inputs=[*chosen, *self.form.components])
        groups = [self.upload_group, self.hub, self.folder]
        self.source.change(
            _show_source, inputs=self.source, outputs=groups, api_visibility="private", queue=False
        )
        ctx.on(
            self.take.click,
            self._take,
            inputs=[self.upload, self.upload_class],
            outputs=[self.upload, self.uploads],
        )
        ctx.on(self.clear.click, self._clear, outputs=[self.upload, self.uploads])
        ctx.on_change("dataset", self._source, outputs=[*chosen, self.uploads])
        ctx.on_change("dataset", self._report, outputs=[self.report, self.classes])
        ctx.on(self.classes.rename_class, self._rename)
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
        filters, shown = [self.class_name, self.split, self.page], [self.grid, self.page]
        ctx.on_change(
            "dataset",
            self._grid_again,
            inputs=filters,
            outputs=[self.class_name, self.grid, self.page],
        )
        for component in (self.class_name, self.split):
            ctx.on(component.input, self._first_page, inputs=filters, outputs=shown, **quick)
        turns = ((self.page.submit, 0), (self.previous.click, -1), (self.next.click, 1))
        for event, step in turns:
            ctx.on(event, self._turn(step), inputs=filters, outputs=shown, **quick)

    def _run(self, project: Project, source: str, folder: str, hub: str, *values: Any) -> None:
        choice = service.choose(project, source, folder=folder or "", hub=hub or "")
        config = self.form.config(project, *values).replace(**choice)
        if self.ctx.settings.hosted:
            config = config.replace(test_data="")
        self.ctx.jobs.start(project, "dataset", config)
        gr.Info("Reading the images; the sidebar shows how far it is.")

    def _take(self, project: Project, files: list[str] | None, class_name: str) -> list[Any]:
        taken = take_upload(project, files or [], class_name or "", self.ctx.limits)
        gr.Info("Added. Now read the images.")
        return [None, f"In the project: {taken}"]

    def _clear(self, project: Project) -> list[Any]:
        remove_uploads(project)
        return [None, _uploads(project)]

    def _source(self, project: Project) -> list[Any]:
        settings = current_settings(project, "dataset")
        assert isinstance(settings, DatasetConfig)
        source, folder, hub = service.source_of(project, settings.data, demo=settings.demo)
        if source not in self.sources:
            source = "upload"
        return [source, folder, hub or None, _uploads(project)]

    def _report(self, project: Project) -> list[Any]:
        try:
            index = load_index(project)
        except StageMissing:
            return [views.EMPTY, []]
        return [views.report(index, project.result("dataset")), views.balance(index)]

    def _rename(self, project: Project, event: gr.EventData) -> None:
        rename_class(project, str(sent(event, "name") or ""), str(sent(event, "readable") or ""))

    def _grid_again(self, project: Project, class_name: str, split: str, page: float) -> list[Any]:
        try:
            index = load_index(project)
        except StageMissing:
            return [gr.Dropdown([(views.ALL, "")], value=""), {"images": [], "note": ""}, 1]
        choices = views.class_choices(index)
        class_name = class_name if class_name in index.classes else ""
        grid, number = self._page(project, class_name, split, page)
        return [gr.Dropdown(choices, value=class_name), grid, number]

    def _first_page(self, project: Project, class_name: str, split: str, page: float) -> list[Any]:
        return self._page(project, class_name, split, 1)

    def _turn(self, step: int) -> Any:
        def turn(project: Project, class_name: str, split: str, page: float) -> list[Any]:
            return self._page(project, class_name, split, (page or 1) + step)

        return turn

    def _page(self, project: Project, class_name: str, split: str, page: float) -> list[Any]:
        def link(record: ImageRecord) -> str:
            return self.ctx.images.thumbnail(project, record.id)

        grid = views.thumbnails(
            load_index(project),
            link,
            class_name=class_name or "",
            split=split or "",
            page=int(page or 1),
        )
        number = gr.Number(grid["page"], label=f"Page of {grid['pages']}")
        return [grid, number]


def _show_source(source: str) -> list[Any]:
    return [
        gr.Group(visible=source == "upload"),
        gr.Dropdown(visible=source == "hub"),
        gr.Textbox(visible=source == "folder"),
    ]


def _uploads(project: Project) -> str:
    files = uploaded(project)
    if not files:
        return "Nothing has been uploaded into this project yet."
    return "In the project: " + ", ".join(path.name for path in files)
