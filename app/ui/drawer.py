"""The settings of a stage as a drawer: what came out has the width of the page.

``drawer(ctx, stage)`` is the button; the column with the settings has the id ``STAGE-drawer`` (see
``assets/app/head.html``). As long as the stage has not been run the drawer is open, then it is as
the visitor has left it, which the browser remembers.
"""

from __future__ import annotations

from app.ui.assets import script
from app.ui.context import Context
from app.ui.html import HTML
from dpd_core.project import Project


class Drawer:
    """The button that opens and closes a stage's settings.

    Args:
        ctx: The application's context.
        stage: Stage name.
        label: What the button says.
    """

    def __init__(self, ctx: Context, stage: str, label: str = "Settings"):
        self.ctx, self.stage, self.label = ctx, stage, label

    def build(self) -> None:
        """Make the button."""
        self.button = HTML(
            {"done": True},
            html_template="<button type='button' class='drawer-button'></button>",
            elem_id=f"{self.stage}-settings",
            elem_classes="drawer-box",
            js_on_load=script("drawer.js"),
            apply_default_css=False,
            stage=self.stage,
            label=self.label,
        )

    def wire(self) -> None:
        """Tell the button whether the stage has been run."""
        self.ctx.on_change(self.stage, self._done, outputs=self.button)

    def _done(self, project: Project) -> dict[str, bool]:
        return {"done": project.record(self.stage) is not None}
