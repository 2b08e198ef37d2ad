"""HTML components: values that are safe for what Gradio does with them, and their scripts.

Gradio fills ``{{…}}`` with Handlebars, which escapes HTML, and then evaluates *the result* as a
JavaScript template literal. So a caption that reads ``${…}`` would run as a program in the page,
and a backslash in one would break the whole component. A backslash before each ``$`` and each
backslash is exactly what that evaluation takes off again.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.ui.gradio_patches import write_no_stubs

write_no_stubs()


class HTML(gr.HTML):
    """The one HTML component of this application (a test holds that there is no other).

    It escapes its value if its template is filled with ``{{…}}``. A component that leaves the value
    to its own script gets it as it is.
    """

    def postprocess(self, value: Any) -> Any:
        """The value as the page gets it."""
        filled = "{{" in (self.html_template or "")
        return super().postprocess(literal(value) if filled else value)


def literal(value: Any) -> Any:
    """The value with every text in it escaped for a template literal."""
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("$", "\\$")
    if isinstance(value, dict):
        return {name: literal(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [literal(entry) for entry in value]
    return value


def sent(event: gr.EventData, name: str) -> Any:
    """What an event of the page says under a name; ``None`` if it says nothing. Not trusted."""
    try:
        return getattr(event, name, None)
    except TypeError:  # an event without any data
        return None
