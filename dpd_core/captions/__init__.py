"""Words for each prototype: a captioner's, aggregated over its cluster, and people's edits.

:func:`run` is the stage. The captions are what the append-only log says
(:mod:`dpd_core.captions.log`); :func:`current_captions` reads them, :func:`edit`,
:func:`find_replace`, :func:`import_captions`, :func:`undo` and :func:`redo` change them.
"""

from dpd_core.captions.aggregate import aggregate
from dpd_core.captions.bulk import (
    Replacement,
    export_captions,
    find_replace,
    import_captions,
)
from dpd_core.captions.captioner import (
    Captioner,
    captioner_fingerprint,
    load_captioner,
)
from dpd_core.captions.edits import (
    apply_changes,
    current_captions,
    edit,
    history,
    next_steps,
    redo,
    reset,
    undo,
)
from dpd_core.captions.log import Caption, Change, Entry
from dpd_core.captions.stage import captions_digest, run, training_captions
from dpd_core.captions.text import MAX_CAPTION

__all__ = [
    "MAX_CAPTION",
    "Caption",
    "Captioner",
    "Change",
    "Entry",
    "Replacement",
    "aggregate",
    "apply_changes",
    "captioner_fingerprint",
    "captions_digest",
    "current_captions",
    "edit",
    "export_captions",
    "find_replace",
    "history",
    "import_captions",
    "load_captioner",
    "next_steps",
    "redo",
    "reset",
    "run",
    "training_captions",
    "undo",
]
