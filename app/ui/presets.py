"""Presets of one's own, in a stage's settings: choose, save by a name, delete."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.server import presets
from app.ui.context import Context
from app.ui.form import StageForm
from dpd_core.project import Project
from dpd_core.settings import StageConfig


class OwnPresets:
    """A fold with the saved presets of a form.

    Args:
        ctx: The application's context.
        form: Whose values are saved and filled in.
    """

    def __init__(self, ctx: Context, form: StageForm):
        self.ctx, self.form, self.stage = ctx, form, form.stage

    def build(self, **more: Any) -> None:
        """Make the components.

        Args:
            more: Components beside the form's, by the name of their setting.
        """
        self.more = more
        with gr.Accordion("Own presets", open=False, elem_id=f"{self.stage}-presets"):
            self.choice = gr.Dropdown(
                [],
                label="Saved settings",
                info="Choosing one fills the fields; it is the same in all your projects.",
                elem_id=f"{self.stage}-own",
            )
            self.name = gr.Textbox(
                label="Name",
                max_lines=1,
                max_length=presets.LONGEST,
                elem_id=f"{self.stage}-own-name",
            )
            with gr.Row():
                self.save = gr.Button(
                    "Save these settings", size="sm", elem_id=f"{self.stage}-own-save"
                )
                self.delete = gr.Button("Delete", size="sm", elem_id=f"{self.stage}-own-delete")

    def wire(self) -> None:
        """Attach the handlers."""
        ctx, fields = self.ctx, [*self.more.values(), *self.form.components]
        ctx.on_change(self.stage, self._choices, inputs=[self.choice], outputs=self.choice)
        ctx.on(self.choice.input, self._fill, inputs=[self.choice], outputs=[self.name, *fields])
        ctx.on(self.save.click, self._save, inputs=[self.name, *fields], outputs=self.choice)
        ctx.on(
            self.delete.click, self._delete, inputs=[self.choice], outputs=[self.choice, self.name]
        )

    def config(self, project: Project, *values: Any) -> StageConfig:
        """The settings of the fields, those beside the form first."""
        count = len(self.more)
        more = dict(zip(self.more, values[:count], strict=True))
        return self.form.config(project, *values[count:]).replace(**more)

    def _choices(self, project: Project, chosen: str | None) -> Any:
        found = presets.names(project, self.stage)
        return gr.Dropdown(choices=found, value=chosen if chosen in found else None)

    def _fill(self, project: Project, name: str | None) -> list[Any]:
        if not name:
            return [gr.skip()] * (1 + len(self.more) + len(self.form.fields))
        settings = presets.load(project, self.stage, name).to_dict()
        return [name, *(settings[key] for key in self.more), *self.form.filled(settings)]

    def _save(self, project: Project, name: str, *values: Any) -> Any:
        saved = presets.save(project, self.stage, name, self.config(project, *values))
        gr.Info(f"Saved as “{saved}”.")
        return self._choices(project, saved)

    def _delete(self, project: Project, name: str | None) -> list[Any]:
        presets.delete(project, self.stage, name)
        return [self._choices(project, None), ""]
