"""Views of the Train tab: curves, previews and the list of trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.ui.differences import differing, words
from dpd_core import storage
from dpd_core.config import PRESET_NOTES
from dpd_core.train.adapters import Run

SERIES = ("diffusion", "consistency", "classifier_accuracy")
RISE = 0.03
"""So much more of the loss on held-out images than at its best is called overfitting."""
POINTS = 400
"""Most points a curve sends to the page."""
STEPS = 40
"""Most preview columns a strip shows: the newest ones."""


def preset_choices(recommended: str) -> list[tuple[str, str]]:
    """(label, value) of the presets, with what each is for; the recommended one is marked."""
    return [
        (f"{name.capitalize()}{' (recommended here)' * (name == recommended)}: {note}", name)
        for name, note in PRESET_NOTES.items()
    ]


def recommended_preset(device: str) -> str:
    """The preset for a machine whose fastest device this is (``cuda``, ``mps`` or ``cpu``)."""
    return {"cuda": "published", "mps": "standard"}.get(device, "quick")


def chart(runs: Sequence[Run], all_runs: Sequence[Run]) -> dict[str, Any]:
    """Curves for the loss chart.

    Values that a run does not have at a step are ``None``. Long curves are thinned out.

    Args:
        runs: The trainings to draw, the one in front first.
        all_runs: All of the project, newest first: they number them.
    """
    labels = {run.id: run_label(run, len(all_runs) - place) for place, run in enumerate(all_runs)}
    return {
        "runs": [_curve(run, labels[run.id]) for run in runs],
        "warning": overfitting(runs[0].curve()) if runs else "",
    }


def overfitting(points: Sequence[dict[str, Any]]) -> str:
    """A warning where the loss on images that are not trained on has been rising for a while, while
    that on the training images went on falling; else empty.

    Args:
        points: A training's curve.
    """
    checks = [(point["step"], point["validation"]) for point in points if "validation" in point]
    if len(checks) < 4:
        return ""
    best, lowest = min(checks, key=lambda check: check[1])
    now = sum(value for _, value in checks[-2:]) / 2
    known = [point for point in points if "diffusion" in point]
    then = [point["diffusion"] for point in known if point["step"] <= best][-3:]
    last = [point["diffusion"] for point in known][-3:]
    falling = bool(then) and sum(last) / len(last) < sum(then) / len(then)
    if best >= checks[-2][0] or now < lowest * (1 + RISE) or not falling:
        return ""
    return (
        f"Overfitting: the loss on images that are not trained on was lowest at step {best:,} and "
        f"is {now / lowest - 1:.0%} higher now. About {best:,} steps, a lower rank or a lower "
        "learning rate would learn these images less by heart."
    )


def previews(run: Run | None, names: dict[str, str], link: Callable[[Path], str]) -> dict[str, Any]:
    """Preview images by step.

    Args:
        run: The training; ``None`` for none.
        names: Readable class name by class name.
        link: Link to a file.
    """
    found = run.previews() if run is not None else []
    labels = {storage.safe_name(name): readable for name, readable in names.items()}
    keys = list(dict.fromkeys(key for _, key, _ in found))
    steps: dict[int, dict[str, str]] = {}
    for step, key, path in found:
        steps.setdefault(step, {})[key] = link(path)
    shown = sorted(steps)[-STEPS:]
    return {
        "run": run.id if run is not None else "",
        "names": [{"key": key, "label": labels.get(key, key)} for key in keys],
        "steps": [{"step": step, "images": steps[step]} for step in shown],
    }


def run_rows(
    runs: Sequence[Run],
    *,
    used: str | None,
    active: str | None,
    main: str | None,
    compared: Sequence[str] = (),
    scores: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The table of trainings. Of several, the settings that differ are told.

    Args:
        runs: Newest first.
        used: Id of the one whose adapter synthesis takes.
        active: Id of the one that is being trained.
        main: Id of the one whose curves are always shown.
        compared: Ids of those whose curves are laid over them.
        scores: By id, the best accuracy of a set that was made with it.
    """
    known = [run.settings for run in runs if run.settings]
    names = differing(known) if len(known) > 1 else []
    rows = []
    for number, run in zip(range(len(runs), 0, -1), runs, strict=True):
        state = "finished" if run.finished else "not finished"
        rows.append(
            {
                "id": run.id,
                "label": run_label(run, number),
                "state": "training" if run.id == active else state,
                "settings": words(run.settings, names)
                if names and run.settings
                else settings_text(run.settings),
                "score": _percent((scores or {}).get(run.id)),
                "held_out": _number(_last(run.curve(), "validation")),
                "diffusion": _number(run.final.get("diffusion")),
                "consistency": _number(run.final.get("consistency")),
                "accuracy": _percent(run.final.get("classifier_accuracy")),
                "finished": bool(run.finished),
                "used": run.id == used,
                "main": run.id == main,
                "compared": run.id == main or run.id in compared,
            }
        )
    return {"rows": rows}


def run_label(run: Run, number: int) -> str:
    """A training for a person: its number and the beginning of its id."""
    return f"run {number} ({run.id[:6]})"


def settings_text(settings: dict[str, Any]) -> str:
    """The settings that tell trainings apart, in one line."""
    if not settings:
        return ""
    return (
        f"{settings['steps']:,} × {settings['batch_size']}, rank {settings['rank']}, "
        f"lr {settings['learning_rate']:g}, consistency {settings['consistency_weight']:g}"
    )


def _curve(run: Run, label: str) -> dict[str, Any]:
    points = run.curve()
    checks = [point for point in points if "validation" in point]
    if len(points) > POINTS:
        # Evenly spread, the newest always among them.
        last = len(points) - 1
        points = [points[round(place * last / (POINTS - 1))] for place in range(POINTS)]
    return {
        "id": run.id,
        "label": label,
        "finished": bool(run.finished),
        "total": run.settings.get("steps", 0),
        "steps": [point["step"] for point in points],
        "validation": {
            "steps": [point["step"] for point in checks],
            "values": [point["validation"] for point in checks],
        },
        "series": {name: [point.get(name) for point in points] for name in SERIES},
    }


def _last(points: Sequence[dict[str, Any]], name: str) -> float | None:
    return next((point[name] for point in reversed(points) if name in point), None)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
