"""Cards of captions: image beside text, author, warnings; one HTML component for a page."""

from __future__ import annotations

from app.ui.assets import script
from app.ui.html import HTML

_TEMPLATE = """<div class='caption-grid' role='list' aria-label='Captions'>
{{#each value.cards}}<article class='caption-card {{#if this.open}}open{{/if}}' role='listitem'
data-class='{{this.class}}' data-cluster='{{this.cluster}}' data-key='{{this.key}}'>
<img src='{{this.image}}' alt='Prototype {{this.cluster}} of {{this.readable}}' loading='lazy'>
<div><p class='head'><label><input type='checkbox'
aria-label='Select {{this.readable}} {{this.cluster}}'></label>
<b>{{this.readable}}</b> <span>{{this.cluster}}</span>
<span class='badge {{this.author}}'>{{this.who}}</span>
<span class='badge unsaved' hidden>unsaved text</span></p>
<button type='button' class='text' aria-label='Edit the caption of {{this.readable}}
{{this.cluster}}: {{this.text}}'>{{#if this.text}}{{this.text}}{{else}}(no caption){{/if}}</button>
{{#if this.warnings}}<p class='warnings'>{{#each this.warnings}}<span>⚠ {{this}}</span>
{{/each}}</p>{{/if}}</div></article>{{/each}}
{{#if value.empty}}<p class='empty'>{{value.empty}}</p>{{/if}}</div>"""


def caption_grid(elem_id: str) -> HTML:
    """The component; its value is :func:`app.captions.view.grid`.

    Events: ``open_card`` with ``class_name`` and ``cluster``; ``mark_cards`` with ``selected``, all
    marked cards as pairs of class name and cluster number.
    """
    return HTML(
        value={"cards": [], "empty": "", "selected": [], "epoch": ""},
        elem_id=elem_id,
        html_template=_TEMPLATE,
        js_on_load=script("caption_grid.js"),
        apply_default_css=False,
    )
