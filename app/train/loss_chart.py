"""The curves of one or more trainings, drawn by Plotly in place (``assets/app/loss_chart.js``).

The value is what :func:`app.train.view.chart` returns. It is data for the script and goes into no
template, so nothing in it can become markup.
"""

from __future__ import annotations

from app.ui.assets import plotly_link, script
from app.ui.html import HTML

_TEMPLATE = """<div class='loss-chart'><div class='bar'><ul class='legend' data-part='legend'></ul>
<label class='smooth'><input type='checkbox' checked data-part='smooth'> Smooth the curves</label>
</div><p class='overfit' data-part='warning' role='status' hidden></p>
<div class='panels' data-part='panels'></div></div>"""


def loss_chart(elem_id: str) -> HTML:
    """The component."""
    return HTML(
        {"runs": []},
        html_template=_TEMPLATE,
        elem_id=elem_id,
        js_on_load=script("plotly_loader.js", "loss_chart.js"),
        plotly=plotly_link(),
    )
