"""The images of a distilled set beside their prototypes (``assets/app/sample_grid.js``).

One component for the whole grid, drawn by its script from the value that
:func:`app.synthesize.view.grid` returns; nothing of it goes into a template. A slot opens in a
dialogue with all its candidates. Events, each with ``{"set", "class_name", "slot"}``:
``choose_candidate`` (and ``index``), ``sample_anew``, ``pin_slot`` (and ``on``); and
``turn_page`` with ``{"page"}``.
"""

from __future__ import annotations

from app.ui.assets import script
from app.ui.html import HTML


def sample_grid(elem_id: str) -> HTML:
    """The component."""
    return HTML(
        {"set": "", "cells": [], "pages": 0, "page": 0, "note": ""},
        elem_id=elem_id,
        html_template="<div class='sample-grid'></div>",
        js_on_load=script("sample_grid.js"),
    )
