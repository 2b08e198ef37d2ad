"""Where images are dropped: a folder, an archive or files; ``assets/app/drop_zone.js`` sends them.

A folder, and images, go as one zip that the browser packs, because an upload of single files has no
folders.
"""

from __future__ import annotations

from pathlib import Path

from gradio.utils import get_upload_folder

from app.ui.assets import script
from app.ui.html import HTML
from dpd_core.errors import DatasetError

_TEMPLATE = """<div class='drop-zone' data-part='zone'>
<p><b>Drop a folder, a zip or images here</b>, one folder a class.</p>
<p><button type='button' data-part='folder'>Choose a folder</button>
<button type='button' data-part='files'>Choose a zip or images</button>
<button type='button' data-part='demo'>Use the demo images</button></p>
<p class='note' data-part='note' role='status'></p>
<input type='file' data-part='folder-input' webkitdirectory multiple hidden
 aria-label='A folder of images'>
<input type='file' data-part='files-input' multiple hidden aria-label='A zip or images'
 accept='.zip,.tar,.tgz,.gz,.bz2,.xz,.parquet,image/*'></div>"""


def drop_zone(elem_id: str) -> HTML:
    """The component.

    Its value is a sentence about what is there. Events: ``dropped`` with ``path`` (see
    :func:`uploaded_file`); ``demo``.
    """
    return HTML(
        "",
        elem_id=elem_id,
        html_template=_TEMPLATE,
        js_on_load=script("zip.js", "drop_zone.js"),
        apply_default_css=False,
    )


def uploaded_file(path: object) -> Path:
    """The file that the page says it has sent, which is not trusted.

    Raises:
        DatasetError: it is no upload of this server.
    """
    folder = Path(get_upload_folder()).resolve()
    try:
        file = Path(str(path)).resolve()
        if not file.is_relative_to(folder) or not file.is_file():
            raise ValueError(path)
    except (OSError, ValueError):
        raise DatasetError(
            "this upload is not there any more.", where="upload", fix="Drop it again."
        ) from None
    return file
