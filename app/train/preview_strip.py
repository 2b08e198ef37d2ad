"""Images made while training, one column a step; kept in place by ``assets/app/preview_strip.js``.

The value is what :func:`app.train.view.previews` returns.
"""

from __future__ import annotations

from app.ui.assets import script
from app.ui.html import HTML


def preview_strip(elem_id: str) -> HTML:
    """The component."""
    return HTML(
        {"names": [], "steps": []},
        html_template="<div class='preview-strip'></div>",
        elem_id=elem_id,
        js_on_load=script("preview_strip.js"),
    )
