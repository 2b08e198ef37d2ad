"""The editor of one caption. Its text box is the browser's own, so that nothing the server sends
can overwrite what somebody is typing; see ``assets/app/caption_editor.js``."""

from __future__ import annotations

from app.ui.assets import script
from app.ui.html import HTML
from dpd_core.captions.text import MAX_CAPTION

_TEMPLATE = f"""<section class='caption-editor' aria-label='Caption editor'>
<p data-part='hint'>Choose a caption to edit it, look at its cluster, or try it.</p>
<div data-part='panel' hidden>
<header><h3 data-part='title'></h3> <span data-part='who'></span><span class='steps'>
<button type='button' data-part='before' aria-label='Previous caption'>‹</button>
<button type='button' data-part='after' aria-label='Next caption'>›</button>
<button type='button' data-part='close' aria-label='Close the editor'>✕</button></span></header>
<div class='body'><img data-part='image' alt=''>
<div class='write'><label for='caption-text'>Caption</label>
<textarea id='caption-text' data-part='text' rows='6' maxlength='{MAX_CAPTION}'
aria-describedby='caption-status'></textarea>
<p class='warn' data-part='warnings'></p></div></div>
<div class='conflict' data-part='conflict' role='alert' hidden>
<p>This caption has been changed meanwhile (<b data-part='their-name'></b>):</p>
<blockquote data-part='theirs'></blockquote><p>Your text is still in the box above.</p>
<button type='button' data-part='mine'>Save mine over it</button>
<button type='button' data-part='take'>Take the new text</button></div>
<p class='buttons'><button type='button' class='primary' data-part='save'
title='Ctrl + Enter'>Save</button>
<button type='button' data-part='discard' hidden>Discard changes</button>
<button type='button' data-part='reset' hidden>Back to the captioner’s text</button>
<button type='button' data-part='try'>Try this caption</button>
<span id='caption-status' data-part='status' role='status'></span></p>
</div></section>"""


def caption_editor(elem_id: str) -> HTML:
    """The component; its value is :func:`app.captions.view.editor`.

    Events: ``open_card`` (``class_name``, ``cluster``), ``close_card``, ``save_caption``
    (``place``, ``text``, ``version`` that its writer saw, ``key``), ``give_back`` (``place``),
    ``try_caption`` (``place``, ``text``) and ``count_tokens`` (``text``).
    """
    return HTML(
        value={"key": "", "project": "", "note": None},
        elem_id=elem_id,
        html_template=_TEMPLATE,
        js_on_load=script("caption_editor.js"),
        apply_default_css=False,
    )
