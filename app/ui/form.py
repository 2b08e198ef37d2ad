"""A form made from a stage's settings class: labels, help, limits and choices come from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.ui.context import Context
from dpd_core import storage
from dpd_core.config import CONFIGS, resolve
from dpd_core.project import Project
from dpd_core.settings import AUTO, Setting, StageConfig, settings_of

LOCAL_PRESET = "quick"
"""Values a form starts from where the stage has not been run: the preset for a laptop."""


class StageForm:
    """The settings of one stage as fields, some in plain sight and the rest in a fold.

    Args:
        ctx: The application's context.
        stage: Stage name.
        shown: Fields in plain sight, in this order.
        hidden: Fields that the form leaves out (they keep their values). All others that are not
            shown go into the fold "Advanced".

    Attributes:
        fields: Component by field name.
    """

    def __init__(
        self,
        ctx: Context,
        stage: str,
        *,
        shown: Sequence[str],
        hidden: Sequence[str] = (),
    ):
        self.ctx, self.stage, self.shown, self.hidden = ctx, stage, tuple(shown), tuple(hidden)
        self.config_class: type[StageConfig] = CONFIGS[stage]
        self.fields: dict[str, Any] = {}

    def build(self) -> None:
        """Make the components."""
        known = settings_of(self.config_class)
        for name in self.shown:
            self.fields[name] = self._component(known[name])
        rest = [name for name in known if name not in self.shown and name not in self.hidden]
        if rest:
            with gr.Accordion("Advanced", open=False, elem_id=f"{self.stage}-more"):
                for name in rest:
                    self.fields[name] = self._component(known[name])
        self._filled = gr.State("")

    def wire(self) -> None:
        """Fill the fields when the project or its record changes; keep what is typed."""
        self.ctx.on_change(
            self.stage,
            self._refresh,
            inputs=[self._filled],
            outputs=[self._filled, *self.components],
        )

    @property
    def components(self) -> list[Any]:
        """All fields, in a fixed order; inputs of a handler that calls :meth:`config`."""
        return list(self.fields.values())

    def config(self, project: Project, *values: Any) -> StageConfig:
        """The settings that the fields' values mean.

        Raises:
            ConfigError: a value is out of its limits.
        """
        given = dict(zip(self.fields, values, strict=True))
        return current_settings(project, self.stage).replace(**given)

    def start(self, project: Project, *values: Any) -> None:
        """Start the stage with the fields' values."""
        self.ctx.jobs.start(project, self.stage, self.config(project, *values))

    def _refresh(self, project: Project, filled: str) -> list[Any]:
        """Fill the fields if the project or its record is another one than before: what somebody
        has typed since stays."""
        token = settings_token(project, self.stage)
        if token == filled:
            return [gr.skip()] * (1 + len(self.fields))
        return [token, *self.values(project)]

    def values(self, project: Project) -> list[Any]:
        """The fields with what the stage was last run with, else with the laptop's preset."""
        return self.filled(current_settings(project, self.stage).to_dict())

    def preset(self, name: str) -> list[Any]:
        """The fields under a preset of :data:`dpd_core.config.PRESETS`."""
        return self.filled(resolve(self.stage, name).to_dict())

    def filled(self, settings: dict[str, Any]) -> list[Any]:
        """The fields with these values, open for typing from now on."""
        return [
            gr.update(value=self._to_field(name, settings[name]), interactive=True)
            for name in self.fields
        ]

    def _to_field(self, name: str, value: Any) -> Any:
        if value is None and isinstance(self.fields[name], gr.Dropdown):
            return AUTO
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value

    def _component(self, field: Setting) -> Any:
        label = field.name.replace("_", " ").capitalize()
        if field.unit:
            label += f" ({field.unit})"
        # Closed until the first values have come, which would overwrite what was typed before.
        common = {
            "label": label,
            "info": field.help,
            "elem_id": f"{self.stage}-{field.name}",
            "interactive": False,
        }
        if field.kind is bool:
            return gr.Checkbox(**common)
        if field.choices:
            return gr.Dropdown(choices=[*[AUTO] * field.optional, *field.choices], **common)
        if field.optional:
            common["placeholder"] = AUTO
        if field.kind in (int, float):
            return gr.Number(
                precision=0 if field.kind is int else None,
                minimum=field.low,
                maximum=field.high,
                **common,
            )
        return gr.Textbox(max_lines=1, **common)


def current_settings(project: Project, stage: str) -> StageConfig:
    """What a stage was last run with in this project, else the laptop's preset; for
    ``"project"`` the settings shared by all stages."""
    if stage == "project":
        return project.config
    record = project.record(stage)
    if record is not None:
        return CONFIGS[stage].from_dict(record["settings"]).lasting()
    return resolve(stage, LOCAL_PRESET)


def settings_token(project: Project, stage: str) -> str:
    """Another one when the project is another, or the settings its stage was last run with."""
    return storage.digest(str(project.root), current_settings(project, stage).to_dict())
