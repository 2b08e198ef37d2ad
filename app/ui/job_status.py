"""What a tab says of the job that does its work: one line, and what the job has told so far."""

from __future__ import annotations

from pathlib import Path

from app.server.jobs import JobView

STATUS_TEMPLATE = """<p class='train-status' role='status'><b>{{value.title}}</b>{{value.detail}}
</p>"""


def status(
    job: JobView | None, memory: int | None, *, working: str = "Training.", idle: str = ""
) -> dict[str, str]:
    """One line about a job.

    Args:
        job: The job, ``None`` if there was none yet.
        memory: Its peak memory in MB, if it has said.
        working: What it does while it runs.
        idle: What to say without a job.
    """
    if job is None:
        return {"title": "", "detail": idle}
    titles = {
        "queued": "Waiting for its turn.",
        "starting": "Starting.",
        "running": working,
        "paused": "Paused.",
        "done": "Finished.",
        "stopped": "Stopped.",
        "failed": "Failed.",
        "interrupted": "Interrupted.",
    }
    parts = []
    if job.active and job.total:
        unit = "step" if job.message == "training" else job.message
        parts.append(f"{unit} {job.done:,} of {job.total:,}")
        if job.done >= job.total:
            parts.append("finishing")
        if job.eta is not None and job.status == "running" and job.done < job.total:
            parts.append(f"{duration(job.eta)} left")
    if job.status == "done" and job.seconds is not None:
        parts.append(f"took {duration(job.seconds)}")
    if job.status == "failed":
        parts.append(job.error)
    if job.status in ("stopped", "interrupted"):
        parts.append("What is finished is kept; resume to go on from there")
    if memory is not None and job.status != "queued":
        parts.append(f"peak memory {memory:,} MB")
    return {"title": titles[job.status], "detail": " · ".join(parts)}


def duration(seconds: float) -> str:
    """Seconds for a person: ``0:42``, ``3:05``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def roughly(seconds: float) -> str:
    """An estimate for a person: ``under a minute``, ``about 12 min``, ``about 3 hours``."""
    if seconds < 55:
        return "under a minute"
    minutes = seconds / 60
    if minutes < 90:
        steps = 1 if minutes < 15 else 5
        return f"about {max(1, steps * round(minutes / steps))} min"
    hours = minutes / 60
    if hours < 36:
        return f"about {hours:.0f} hours"
    return f"about {hours / 24:.0f} days"


def made_by(job: JobView) -> str | None:
    """Id of the adapter that a training job makes; ``None`` as long as it has not said."""
    # It is said once, early, before the long part begins.
    for event in job.job.first_events():
        if event["event"] == "Began":
            return Path(event["path"]).name
        if event["event"] == "Metric" and "diffusion" in event["values"]:
            return None
    return None


def peak_memory(job: JobView | None) -> int | None:
    """Peak memory in MB that a job has last reported."""
    if job is None:
        return None
    told = (event["memory"] for event in job.job.last_events("Progress"))
    return next((memory for memory in told if memory is not None), None)
