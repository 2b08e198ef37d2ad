"""A chart of the images by class, in which the classes can be given readable names."""

from __future__ import annotations

from app.ui.assets import script
from app.ui.html import HTML


def class_balance(elem_id: str) -> HTML:
    """The component. Its value are the rows of :func:`app.dataset.view.balance`; its event
    ``rename_class`` carries ``name`` (the class) and ``readable`` (what was typed)."""
    return HTML(
        value=[],
        elem_id=elem_id,
        html_template="<div class='balance'></div>",
        js_on_load=script("class_balance.js"),
    )
