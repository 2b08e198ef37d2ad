"""The map of the latents with its gallery, and the strip of prototypes; JS in ``assets/app``."""

from __future__ import annotations

from app.prototypes.view import STRIP_TEMPLATE
from app.ui.assets import plotly_link, script
from app.ui.html import HTML

_SCRIPTS = (
    "plotly_loader.js",
    "embedding_colours.js",
    "embedding_find.js",
    "embedding_gallery.js",
    "embedding_map.js",
)
"""Parts of the component, in this order; one body for ``js_on_load``."""

_TEMPLATE = """<section class='prototypes-map' aria-label='Map of the images'>
<div class='bar'>
<label>Colour by <select data-part='colour'><option value='cls'>class</option>
<option value='cluster'>cluster</option><option value='split'>split</option>
<option value='margin'>margin</option><option value='outlier'>outlier score</option>
</select></label>
<label>Show <select data-part='filter'><option value=''>all classes</option></select></label>
<span role='group' aria-label='What dragging on the map does'>
<button type='button' data-tool='lasso' aria-pressed='true'>Lasso</button>
<button type='button' data-tool='select' aria-pressed='false'>Box</button>
<button type='button' data-tool='pan' aria-pressed='false'>Move</button></span>
<button type='button' data-part='whole'>Whole map</button></div>
<div class='bar find' role='search'>
<label>Find <input type='search' data-part='words' placeholder='words of captions, classes, files'
></label>
<button type='button' data-part='duplicates'>Near-duplicates</button>
<button type='button' data-part='outliers'>Outliers</button>
<select data-part='saved' aria-label='Saved selections'></select>
<details><summary>More filters</summary><div class='bar'>
<label>Split <select data-part='split'><option value=''>both</option><option value='0'>training
</option><option value='1'>test</option></select></label>
<label>Cluster <select data-part='cluster'><option value=''>all</option></select></label>
<label>Score <select data-part='score'><option value=''>any</option>
<option value='margin'>margin</option><option value='outlier'>outlier score</option>
<option value='alike'>likeness to another</option></select></label>
<label>from <input type='number' step='any' data-part='from' aria-label='Lowest score'></label>
<label>to <input type='number' step='any' data-part='to' aria-label='Highest score'></label>
<button type='button' data-part='take'>Select what is shown</button></div></details></div>
<div class='stage'><div><div class='plot-box'><div data-part='plot' class='plot' role='img'
aria-label='Map of the images by likeness. The list of prototypes below says in words what is
marked on it.'></div><div data-part='ring' class='ring' hidden></div>
<div data-part='selected' class='selected' role='group'
aria-label='What to do with the selected images' hidden></div>
<p data-part='first' class='first' hidden>A first layout by principal components; that of UMAP
follows.</p><p data-part='message' class='message' role='status'>Loading the map …</p></div>
<div data-part='legend' class='legend'></div></div>
<aside data-part='detail' aria-label='Pinned image' aria-live='polite'></aside></div>
<div data-part='gallery' class='gallery'></div>
<div data-part='card' class='hover-card' hidden><img alt=''><b></b><span></span></div></section>"""


def embedding_map(elem_id: str) -> HTML:
    """The component. Its value is ``base`` (of image links), ``version`` (anything; another one
    makes it fetch ``<base>/data/prototypes`` again) and ``empty`` (what to say where there is no
    map).

    ``found`` (``of``, ``rows``, ``alike``, ``asked``) is shown as a selection, once.

    Events: ``decide`` with ``action``, ``key``, ``rows`` and ``class_name``; ``find_similar`` with
    ``key`` and ``row``; ``save_selection`` with ``key``, ``rows`` and ``name``.
    """
    return HTML(
        value={"base": "", "version": ""},
        elem_id=elem_id,
        html_template=_TEMPLATE,
        js_on_load=script(*_SCRIPTS),
        plotly=plotly_link(),
        apply_default_css=False,
    )


def prototype_strip(elem_id: str) -> HTML:
    """The component; its value is :func:`app.prototypes.view.strip`. A click pins the image on the
    map, if that is there."""
    return HTML(
        value={"classes": [], "empty": ""},
        elem_id=elem_id,
        html_template=STRIP_TEMPLATE,
        js_on_load=script("prototype_strip.js"),
        apply_default_css=False,
    )
