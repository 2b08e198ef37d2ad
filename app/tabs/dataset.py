"""The tab of the stage ``dataset``."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.context import Context
from dpd_core.project import Project


class DatasetTab:
    """Build inside its ``gr.Tab`` with :meth:`build`, then :meth:`wire`."""

    def __init__(self, ctx: Context):
        self.ctx = ctx

    def build(self) -> None:
        """Make the components."""
        self.summary = gr.JSON(label="dataset")

    def wire(self) -> None:
        """Attach the handlers."""
        self.ctx.on_change("dataset", self.show, outputs=[self.summary])

    def show(self, project: Project) -> Any:
        """The stage's record."""
        return project.record("dataset")
