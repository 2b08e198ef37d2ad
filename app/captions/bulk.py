"""Many captions at once: find and replace, and captions from and to files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.captions import service
from app.captions import view as views
from app.ui.context import Context
from app.ui.html import HTML
from app.ui.messages import in_words
from dpd_core.captions.bulk import MAX_PATTERN, Replacement, find_replace
from dpd_core.captions.edits import apply_changes
from dpd_core.captions.tables import import_captions
from dpd_core.dataset.index import load_index
from dpd_core.errors import CaptionError, DPDError
from dpd_core.project import Project

NONE: dict[str, Any] = {"note": "", "rows": []}
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
_DOWNLOAD = "() => setTimeout(() => document.querySelector('#captions-download').click(), 100)"


class ReplacePanel:
    """Find and replace: the button counts what it would change, a table shows it beforehand."""

    def __init__(self, ctx: Context):
        self.ctx = ctx

    def build(self) -> None:
        """Make the components."""
        with gr.Accordion("Find and replace", open=False, elem_id="captions-replace"):
            self.seen = gr.State(None)
            with gr.Row():
                self.pattern = gr.Textbox(
                    "", label="Find", max_lines=1, max_length=MAX_PATTERN, elem_id="replace-find"
                )
                self.replacement = gr.Textbox(
                    "",
                    label="Replace by",
                    max_lines=1,
                    max_length=MAX_PATTERN,
                    elem_id="replace-by",
                )
            with gr.Row():
                self.regex = gr.Checkbox(
                    label="Regular expression",
                    elem_id="replace-regex",
                    info=r"Groups are put back with \1 or \g<name>.",
                )
                self.ignore_case = gr.Checkbox(label="Ignore case", elem_id="replace-case")
                self.whole_words = gr.Checkbox(label="Whole words", elem_id="replace-words")
            with gr.Row():
                self.scope = gr.Radio(
                    [
                        ("All captions", "all"),
                        ("Those filtered above", "filtered"),
                        ("The selected", "selected"),
                    ],
                    value="all",
                    label="In",
                    elem_id="replace-scope",
                )
                self.apply = gr.Button(
                    "Nothing to replace",
                    variant="primary",
                    interactive=False,
                    elem_id="replace-apply",
                )
            self.table = HTML(
                NONE,
                elem_id="replace-table",
                apply_default_css=False,
                html_template=views.CHANGES_TEMPLATE,
            )

    def wire(self, filters: list[Any], marked: list[Any]) -> None:
        """Attach the handlers.

        Args:
            filters: The tab's state, search, class and kind.
            marked: Events after which other captions are selected.
        """
        fields = [
            *filters,
            self.pattern,
            self.replacement,
            self.regex,
            self.ignore_case,
            self.whole_words,
            self.scope,
        ]
        shown = [self.seen, self.apply, self.table]
        _, search, class_name, kind = filters
        # A text box's "input" leaves out what is pasted. All are one event: of several, an early
        # answer could come after a later one and stay.
        changed = (
            self.pattern.change,
            self.replacement.change,
            self.regex.input,
            self.ignore_case.input,
            self.whole_words.input,
            self.scope.input,
            search.change,
            class_name.input,
            kind.input,
        )
        self.ctx.on(
            partial(gr.on, changed),
            self.preview,
            inputs=fields,
            outputs=shown,
            trigger_mode="always_last",
            **QUICK,
        )
        for event in marked:
            self.ctx.on(event.then, self.preview, inputs=fields, outputs=shown, **QUICK)
        self.ctx.on_change("captions", self.preview, inputs=fields, outputs=shown)
        self.ctx.on(self.apply.click, self.do, inputs=[self.seen, *fields], outputs=shown)

    def preview(self, project: Project, *fields: Any) -> list[Any]:
        """What the replacement would do now."""
        if not fields[4]:
            return [None, gr.Button("Nothing to replace", interactive=False), NONE]
        try:
            found = self._search(project, fields)
        except DPDError as error:
            label = gr.Button("Nothing to replace", interactive=False)
            return [None, label, views.changes([], in_words(error), kind="warn")]
        note = "" if found.changes else "No caption would change."
        return [
            found,
            gr.Button(
                views.replace_label(found.changes, found.matches), interactive=bool(found.changes)
            ),
            views.changes(found.changes, note, readable=_readable(project)),
        ]

    def do(self, project: Project, seen: Replacement | None, *fields: Any) -> list[Any]:
        """Replace, if that still does what the table shows."""
        if seen is None:
            raise CaptionError("there is nothing to replace.", fix="Write the text to find.")
        done = self._search(project, fields, seen)
        gr.Info(f"{views.replace_label(done.changes, done.matches)}: done. It can be undone above.")
        return self.preview(project, *fields)

    def _search(
        self, project: Project, fields: Sequence[Any], expected: Replacement | None = None
    ) -> Replacement:
        """Search, and replace if that is what ``expected`` says."""
        state, search, class_name, kind, pattern, replacement, *options, scope = fields
        regex, ignore_case, whole_words = options
        chosen: list[service.Place] | None = None
        if scope == "selected":
            chosen = service.places(state["selected"])
        elif scope == "filtered":
            shown = service.Filter(search, class_name, kind).of(service.load_items(project))
            chosen = [item.place for item in shown]
        return find_replace(
            project,
            pattern,
            replacement or "",
            regex=regex,
            ignore_case=ignore_case,
            whole_words=whole_words,
            scope=chosen,
            apply=expected is not None,
            expected=expected,
        )


class ExchangePanel:
    """Captions as JSON or CSV files; an import is shown before it is done."""

    def __init__(self, ctx: Context):
        self.ctx = ctx

    def build(self) -> None:
        """Make the components."""
        with gr.Accordion("Import and export", open=False, elem_id="captions-files"):
            self.proposed = gr.State(None)
            with gr.Row():
                self.json = gr.Button("Export JSON", elem_id="export-json")
                self.csv = gr.Button("Export CSV", elem_id="export-csv")
                self.upload = gr.UploadButton(
                    "Import JSON or CSV …", elem_id="captions-import", file_types=[".json", ".csv"]
                )
            self.download = gr.DownloadButton(
                "Download", visible="hidden", elem_id="captions-download"
            )
            self.table = HTML(
                NONE,
                elem_id="import-table",
                apply_default_css=False,
                html_template=views.CHANGES_TEMPLATE,
            )
            with gr.Row(visible=False) as self.question:
                self.apply = gr.Button("Import", variant="primary", elem_id="import-apply")
                self.cancel = gr.Button("Cancel", elem_id="import-cancel")

    def wire(self) -> None:
        """Attach the handlers."""
        shown = [self.proposed, self.table, self.question, self.apply]
        for button, ending in ((self.json, ".json"), (self.csv, ".csv")):
            made = self.ctx.on(button.click, self._export(ending), outputs=[self.download])
            made.success(None, js=_DOWNLOAD, api_visibility="private")
        self.ctx.on(self.upload.upload, self.look, inputs=[self.upload], outputs=shown)
        self.ctx.on(self.apply.click, self.do, inputs=[self.proposed], outputs=shown)
        self.ctx.on(self.cancel.click, lambda project: self._nothing(""), outputs=shown)

    def look(self, project: Project, path: str) -> list[Any]:
        """What an import would change."""
        file = Path(path)
        try:
            found = import_captions(project, file, apply=False)
        except DPDError as error:
            return self._nothing(in_words(error), kind="warn")
        if not found:
            return self._nothing(f"{file.name}: every caption in it is as it is here.")
        note = f"{file.name} changes {len(found)} caption{'s' * (len(found) != 1)}:"
        return [
            (file.name, found),
            views.changes(found, note, readable=_readable(project)),
            gr.Row(visible=True),
            gr.Button(f"Import {len(found)} captions"),
        ]

    def do(self, project: Project, proposed: Any) -> list[Any]:
        """Import what the table shows; refused if a caption has been changed since."""
        if proposed is None:
            return self._nothing("")
        name, found = proposed
        apply_changes(project, found, "import", source=name)
        return self._nothing(f"{len(found)} captions imported from {name}. It can be undone above.")

    def _nothing(self, note: str, kind: str = "note") -> list[Any]:
        return [None, views.changes([], note, kind=kind), gr.Row(visible=False), gr.skip()]

    def _export(self, ending: str) -> Any:
        def export(project: Project) -> str:
            return str(service.written_file(project, ending))

        return export


def _readable(project: Project) -> Callable[[str], str]:
    return load_index(project).readable
