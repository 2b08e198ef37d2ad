"""Images made while training, one column a step; kept in place by ``assets/app/preview_strip.js``.

The value is what :func:`app.views.train.previews` returns.
"""

from __future__ import annotations

import gradio as gr

from app.components.loss_chart import ASSETS


def preview_strip(elem_id: str) -> gr.HTML:
    """The component."""
    return gr.HTML(
        {"names": [], "steps": []}, html_template="<div class='preview-strip'></div>",
        elem_id=elem_id, js_on_load=(ASSETS / "preview_strip.js").read_text(encoding="utf-8"),
    )  # fmt: skip
