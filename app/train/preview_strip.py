"""Images made while training, one column a step; kept in place by ``assets/app/preview_strip.js``.

The value is what :func:`app.train.view.previews` returns.
"""

from __future__ import annotations

import gradio as gr

from app.ui.assets import script


def preview_strip(elem_id: str) -> gr.HTML:
    """The component."""
    return gr.HTML(
        {"names": [], "steps": []},
        html_template="<div class='preview-strip'></div>",
        elem_id=elem_id,
        js_on_load=script("preview_strip.js"),
    )
