"""What the page shows, as plain values: pure functions, tested without a browser.

Templates use ``{{…}}``, which escapes; class names and captions never go through ``${…}``.
"""

from app.views.shell import (
    JOB_TEMPLATE,
    RECENT_JOBS_TEMPLATE,
    STAGE_LIST_TEMPLATE,
    duration,
    job,
    recent_jobs,
    stage_list,
)

__all__ = [
    "JOB_TEMPLATE",
    "RECENT_JOBS_TEMPLATE",
    "STAGE_LIST_TEMPLATE",
    "duration",
    "job",
    "recent_jobs",
    "stage_list",
]
