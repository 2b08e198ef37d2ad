"""Views of the start page: plain values from what is on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app.start.service import Quality
from app.ui.downloads import archive_name, size
from app.ui.job_status import duration, roughly
from dpd_core.config import PRESETS
from dpd_core.evaluate.report import SIGNIFICANT, Report
from dpd_core.pipeline.plan import Step
from dpd_core.synthesize.sets import DistilledSet

PAIRS = 6
"""Pairs of the strip: one a class, as many as go beside each other."""

HERO_TEMPLATE = """<div class='hero'>
<p class='lead'>From a labelled archive of aerial or satellite images to a <b>tiny, captioned,
synthetic data set</b>: a few new images a class that a model can be trained on in place of all the
real ones.</p>
{{#if value.pairs}}<div class='hero-body'><ul class='hero-pairs' aria-label='Real prototypes and the
images made from them'>{{#each value.pairs}}<li><figure><img src='{{this.real}}'
alt='real image: {{this.name}}'><span aria-hidden='true'>↓</span><img src='{{this.made}}'
alt='new image: {{this.name}}'><figcaption>{{this.name}}</figcaption></figure></li>{{/each}}</ul>
<p class='small'>{{value.caption}}</p></div>{{/if}}
{{#if value.figures}}<dl class='hero-figures'>{{#each value.figures}}<div class='{{this.tone}}'>
<dt>{{this.name}}</dt><dd><b>{{this.value}}</b> {{this.text}}</dd></div>{{/each}}</dl>{{/if}}
</div>"""

STAGES_TEMPLATE = """<ol class='stage-line'>{{#each value}}<li class='{{this.state}}'>
<a href='#' data-go='{{this.stage}}'>{{this.stage}}</a> <em>{{this.note}}</em></li>{{/each}}</ol>"""

PLAN_TEMPLATE = """{{#if value.title}}<section class='plan {{value.status}}' role='status'>
<p><b>{{value.title}}</b> {{value.detail}}</p>
{{#if value.percent}}<progress max='100' value='{{value.percent}}' aria-label='progress of all'>
</progress>{{/if}}
<ol class='phases'>{{#each value.phases}}<li class='{{this.state}}'><span>{{this.name}}</span>
<em>{{this.time}}</em></li>{{/each}}</ol></section>{{/if}}"""

UPDATE_TEMPLATE = """{{#if value.rows}}<div class='update'><p><b>{{value.title}}</b></p>
<ul>{{#each value.rows}}<li><b>{{this.stage}}</b>: {{this.reason}} <em>{{this.time}}</em></li>
{{/each}}</ul><p class='small'>{{value.note}}</p></div>{{/if}}"""

DOWNLOAD_TEMPLATE = """{{#if value.link}}<p class='download'><a class='button' href='{{value.link}}'
download='{{value.file}}'>Download the data set</a> <span class='small'>{{value.note}}</span></p>
{{/if}}"""

QUALITIES = tuple(PRESETS)
"""Names of the presets that *Quality* offers."""

TITLES = {
    "queued": "Waiting for its turn.",
    "starting": "Starting.",
    "running": "Making your data set.",
    "paused": "Paused.",
    "done": "Your data set is ready.",
    "stopped": "Stopped; what is finished is kept.",
    "failed": "This did not work.",
    "interrupted": "Interrupted; what is finished is kept.",
}


def hero(
    distilled: DistilledSet | None,
    report: Report | None,
    readable: Callable[[str], str],
    real: Callable[[str], str],
    made: Callable[[Any], str],
) -> dict[str, Any]:
    """What stands on top: pairs of prototype and new image, and what they are worth.

    Args:
        distilled: The newest set; ``None`` if there is none yet.
        report: Its evaluation.
        readable: A class's name in words.
        real, made: Links to the image of an id, and to that of a slot's record.
    """
    if distilled is None:
        return {"pairs": [], "figures": []}
    first = {record.class_name: record for record in reversed(distilled.slots)}
    records = [first[name] for name in sorted(first)][:PAIRS]
    pairs = [
        {
            "name": readable(record.class_name),
            "real": real(record.prototype_id),
            "made": made(record),
        }
        for record in records
    ]
    size = distilled.manifest.image_size
    caption = (
        f"Above, real prototypes; below, the new images made from them. The set has "
        f"{len(distilled.slots)} images of {len(first)} classes, {size} × {size} px."
    )
    return {"pairs": pairs, "caption": caption, "figures": figures(report) if report else []}


def figures(report: Report) -> list[dict[str, str]]:
    """The accuracy beside what it is compared to, and how near the images come to real ones."""
    ours = report.accuracy[report.set]
    rows = []
    random = report.accuracy.get("random")
    if random is not None:
        points = 100 * (ours.mean - random.mean)
        sure = random.p_value is not None and random.p_value < SIGNIFICANT
        word = "more" if points >= 0 else "less"
        text = (
            f"of {report.protocol.test_images} real test images are named right by a model trained "
            f"on the set's {ours.images} images. As many random real images give "
            f"{random.mean:.1%}: {abs(points):.1f} points {word}, "
        )
        if sure:
            text += "which chance does not explain."
        elif random.p_value is None:
            text += "from too few models to say whether it is chance."
        else:
            text += f"which may be chance (p = {random.p_value:.2f})."
        tone = "even" if not sure else "good" if points > 0 else "bad"
        rows.append({"name": "Accuracy", "value": f"{ours.mean:.1%}", "text": text, "tone": tone})
    found = report.privacy
    if found is not None:
        tone = "bad" if found.copied else "good"
        rows.append(
            {"name": "Copies", "value": f"{found.share:.0%}", "text": found.sentence, "tone": tone}
        )
    return rows


def stage_line(
    rows: Sequence[Mapping[str, str]], times: Mapping[str, float]
) -> list[dict[str, str]]:
    """The seven stages (:func:`app.shell.view.stage_list`) with what their last run took."""
    return [
        {**row, "note": " · ".join(filter(None, (row["note"], _time(times.get(row["stage"])))))}
        for row in rows
    ]


def progress(
    status: str,
    phases: Sequence[Mapping[str, Any]],
    *,
    message: str = "",
    done: int = 0,
    total: int = 0,
    eta: float | None = None,
    error: str = "",
    seconds: float | None = None,
    position: int = 0,
) -> dict[str, Any]:
    """The plan at work, or how it ended."""
    detail = ""
    if status == "queued":
        detail = f"{position} before it on the waiting list."
    elif status in ("running", "paused") and total:
        detail = message + (f"; {roughly(eta)} left in all." if eta is not None else ".")
    elif status == "done" and seconds is not None:
        detail = f"It took {duration(seconds)}."
    elif error and status == "failed":
        detail = error
    rows = []
    for phase in phases:
        state = phase["state"]
        time = duration(phase["spent"]) if state == "done" else ""
        if state == "open" and status in ("running", "paused"):
            time = roughly(phase["seconds"])
        time = "was there" if state == "skipped" else time
        ended = state == "running" and status not in ("running", "paused")
        rows.append({"name": phase["name"], "state": "ended" if ended else state, "time": time})
    share = round(100 * done / total, 1) if total and status in ("running", "paused") else 0
    return {
        "title": TITLES[status],
        "status": status,
        "detail": detail,
        "percent": min(share, 99),
        "phases": rows if status != "done" else [],
    }


def quality_choices(found: Sequence[Quality], side: int | None) -> list[tuple[str, str]]:
    """Label and name of each preset."""
    size = f", images of {side} × {side} px" if side else ""
    return [
        (f"{quality.name.capitalize()}: {roughly(quality.seconds)} here{size}", quality.name)
        for quality in found
    ]


def update(steps: Sequence[Step], seconds: Mapping[str, float]) -> dict[str, Any]:
    """What is out of date, why, and how long it takes to make it again."""
    if not steps:
        return {"rows": []}
    rows = [
        {"stage": step.stage, "reason": step.reason, "time": roughly(seconds.get(step.stage, 0.0))}
        for step in steps
    ]
    total = sum(seconds.get(step.stage, 0.0) for step in steps)
    note = ""
    if words_only(steps):
        note = (
            "Without retraining, the images are made with the new words by a model that has not "
            "seen them: good enough for a few small edits. Train then stays marked out of date."
        )
    return {"title": f"Out of date; made again in {roughly(total)}:", "rows": rows, "note": note}


def download(link: str, project: str, when: str, count: int, images: int | None) -> dict[str, Any]:
    """The link to the newest export.

    Args:
        link: Where it is.
        project: Name of the project.
        when: When it was written, beginning with the date.
        count: Bytes.
        images: How many it holds, if that is known.
    """
    note = " · ".join(filter(None, (f"{images} images" if images else "", size(count), when)))
    return {"link": link, "file": archive_name(project, when), "note": note}


def words_only(steps: Sequence[Step]) -> bool:
    """Whether training is out of date for edited captions alone."""
    reasons = {step.stage: step.reason for step in steps}
    return reasons.get("train") == "captions were edited" and "prototypes" not in reasons


def _time(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
