"""The tab of the stage ``prototypes``: explore the images, find and choose prototypes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr

from app.prototypes import service as services
from app.prototypes import view as views
from app.prototypes.embedding_map import embedding_map, prototype_strip
from app.ui.context import Context
from app.ui.form import StageForm
from app.ui.html import HTML, sent
from app.ui.messages import notice
from dpd_core import storage
from dpd_core.config import PrototypesConfig
from dpd_core.dataset.selections import save_selection
from dpd_core.project import Project
from dpd_core.prototypes import curation

_SHOWN = ("ipc", "alpha", "pool", "neighbors", "remove_outliers")
_NO_MAP = (
    "There is no map yet: it is drawn from the latents when the prototypes are found. "
    "Press “Re-cluster”."
)


class PrototypesTab:
    """Build inside its ``gr.Tab`` with :meth:`build`, then :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx
        # A file is imported, not typed in: the server's paths are none of a visitor's business.
        self.form = StageForm(ctx, "prototypes", shown=_SHOWN, hidden=("file",))
        ctx.images.provide("prototypes", views.columns)

    def build(self) -> None:
        """Make the components."""
        with gr.Row():
            self.status = HTML(
                value={"state": "", "text": ""},
                elem_id="prototypes-status",
                html_template=views.STATUS_TEMPLATE,
                min_width=300,
            )
            self.undo = gr.Button(
                "Undo", size="sm", visible=False, elem_id="prototypes-undo", scale=0, min_width=160
            )
            self.run = gr.Button(
                "Re-cluster",
                variant="primary",
                size="sm",
                scale=0,
                min_width=140,
                elem_id="prototypes-run",
            )
        with gr.Accordion("Clustering settings", open=False, elem_id="prototypes-settings"):
            self.form.build()
            with gr.Row():
                self.upload = gr.UploadButton(
                    "Import prototypes (JSON)",
                    file_types=[".json"],
                    size="sm",
                    elem_id="prototypes-import",
                )
                self.download = HTML(
                    value={"link": ""},
                    elem_id="prototypes-download",
                    html_template="{{#if value.link}}<a class='download' href='{{value.link}}' "
                    "download='prototypes.json'>Download the prototypes (JSON, published format)"
                    "</a>{{/if}}",
                )
        self.changes = HTML(
            value={"shown": False},
            elem_id="prototypes-changes",
            html_template=views.CHANGES_TEMPLATE,
        )
        self.map = embedding_map("prototypes-map")
        gr.Markdown("### Prototypes")
        self.strip = prototype_strip("prototypes-strip")

    def wire(self) -> None:
        """Attach the handlers."""
        ctx = self.ctx
        self.form.wire()
        shown = [self.map, self.status, self.undo, self.strip, self.changes, self.download]
        ctx.on_change("prototypes", self.show, outputs=shown)
        ctx.on_change("map", self.show_map, outputs=[self.map])
        ctx.on(self.run.click, self.start, inputs=self.form.components)
        ctx.on(self.upload.upload, self.take_file, inputs=[self.upload, *self.form.components])
        # decided shows at once what the next tick would show.
        decided = [self.map, self.status, self.undo, self.strip]
        ctx.on(self.map.decide, self.decide, outputs=decided, show_progress="hidden")
        ctx.on(
            self.map.find_similar,
            self.find_similar,
            outputs=[self.map],
            show_progress="hidden",
            queue=False,
        )
        ctx.on(
            self.map.save_selection, self.keep_selection, outputs=[self.map], show_progress="hidden"
        )
        ctx.on(self.undo.click, self.take_back, outputs=decided, show_progress="hidden")

    def show(self, project: Project) -> list[Any]:
        """Everything on the tab but the form."""
        path = project.path("prototypes", "prototypes.json")
        link = self.ctx.images.file(project, path) if path.exists() else ""
        return [*self._shown(project), views.changes(project, self.ctx.images), {"link": link}]

    def show_map(self, project: Project) -> dict[str, str]:
        """The map's value: where its columns are and which version of them is current."""
        files = (
            "dataset/index.json",
            "dataset/labels.json",
            "prototypes/prototypes.json",
            "prototypes/clusters.json",
            "prototypes/map.json",
            "prototypes/overrides.json",
            "prototypes/likeness.safetensors",
            "dataset/selections.json",
            "captions/log.jsonl",
        )
        stamps = [_stamp(project.path(*name.split("/"))) for name in files]
        return {
            "base": self.ctx.images.base(project),
            "version": storage.digest(str(project.root), stamps),
            "empty": _NO_MAP,
        }

    def start(self, project: Project, *values: Any) -> None:
        """Cluster with the form's settings, also where the prototypes came from a file before."""
        config = self.form.config(project, *values).replace(file="")
        self.ctx.jobs.start(project, "prototypes", config)
        gr.Info("Clustering has started; the map follows when it is done.", duration=4)

    def take_file(self, project: Project, file: str, *values: Any) -> None:
        """Use the prototypes of a file in the published format."""
        config = self.form.config(project, *values)
        assert isinstance(config, PrototypesConfig)
        config = services.import_prototypes(project, config, Path(file))
        self.ctx.jobs.start(project, "prototypes", config)
        gr.Info("The file fits; its prototypes are being put in.", duration=4)

    def decide(self, project: Project, event: gr.EventData) -> list[Any]:
        """A decision on the map."""
        decision = services.decide(project, {name: sent(event, name) for name in services.ASKED})
        notice(f"{views.sentence(decision)}. “Re-cluster” applies it.", duration=4)
        return self._shown(project)

    def find_similar(self, project: Project, event: gr.EventData) -> dict[str, Any]:
        """The images most like one; the map shows them as a selection."""
        found = services.similar(project, sent(event, "key"), sent(event, "row"))
        return {**self.show_map(project), "found": {**found, "asked": time.time()}}

    def keep_selection(self, project: Project, event: gr.EventData) -> dict[str, Any]:
        """Save a selection by name; without images, forget it."""
        ids = services.rows_to_ids(project, sent(event, "key"), sent(event, "rows"))
        name = save_selection(project, sent(event, "name"), ids)
        notice(f"{len(ids)} images saved as “{name}”." if ids else f"“{name}” was deleted.")
        return self.show_map(project)

    def take_back(self, project: Project) -> list[Any]:
        """Undo the last decision."""
        notice(f"Taken back: {views.sentence(curation.undo(project))}.", duration=4)
        return self._shown(project)

    def _shown(self, project: Project) -> list[Any]:
        label = views.undo_label(project)
        return [
            self.show_map(project),
            views.status(project),
            gr.Button(label or "Undo", visible=bool(label)),
            views.strip(project, self.ctx.images),
        ]


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_mtime_ns}.{status.st_size}"
