"""Values of ``gr.HTML`` templates, made safe for what Gradio does with them.

Gradio fills ``{{…}}`` with Handlebars, which escapes HTML, and then evaluates *the result* as a
JavaScript template literal. So a caption that reads ``${…}`` would run as a program in the page,
and a backslash in one would break the whole component. A backslash before each ``$`` and each
backslash is exactly what that evaluation takes off again.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

_escaped_values = gr.HTML.postprocess


def literal(value: Any) -> Any:
    """The value with every text in it escaped for a template literal."""
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("$", "\\$")
    if isinstance(value, dict):
        return {name: literal(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [literal(one) for one in value]
    return value


def guard() -> None:
    """Escape the values of all ``gr.HTML`` components that fill a template with ``{{…}}``.

    Components that leave the value to their own JavaScript get it as it is. It is done for the
    class, so that no component can be forgotten, and Gradio makes new ones of it at updates.
    """

    def postprocess(self: gr.HTML, value: Any) -> Any:
        filled = "{{" in (self.html_template or "")
        return _escaped_values(self, literal(value) if filled else value)

    gr.HTML.postprocess = postprocess  # type: ignore[method-assign]
