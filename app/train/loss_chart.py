"""The curves of one or more trainings, drawn and redrawn in place by ``assets/app/loss_chart.js``.

The value is what :func:`app.train.view.chart` returns. It is data for the script and goes into no
template, so nothing in it can become markup.
"""

from __future__ import annotations

import gradio as gr

from app.ui.assets import script


def loss_chart(elem_id: str) -> gr.HTML:
    """The component."""
    return gr.HTML(
        {"runs": []},
        html_template="<div class='loss-chart'></div>",
        elem_id=elem_id,
        js_on_load=script("loss_chart.js"),
    )
