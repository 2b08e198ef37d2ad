"""Events: one JSON line each, and a meter whose ETA is honest after a resume."""

import json

import pytest

from dpd_core import events
from dpd_core.events import Began, Done, Event, Failed, Log, Meter, Metric, Preview, Progress

ALL = [
    Progress("train", 3, 10, 4.5, "training"),
    Metric("train", 7, {"loss": 0.5}),
    Preview("train", 7, "adapters/x/previews/1.png", "a beach"),
    Began("train", "adapters/x"),
    Log("dataset", "3 files refused", "warning"),
    Done("export", {"images": 5}),
    Failed("train", "stopped", True),
]


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_an_event_survives_json(event: Event) -> None:
    assert events.from_dict(json.loads(json.dumps(events.to_dict(event)))) == event


@pytest.mark.parametrize("record", [{}, {"event": "Nonsense"}, {"event": "Log", "wrong": 1}])
def test_what_is_no_event_is_refused(record: dict) -> None:
    with pytest.raises(ValueError, match="not an event"):
        events.from_dict(record)


def test_the_eta_counts_only_what_this_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 10.0, 10.0])
    monkeypatch.setattr(events.time, "monotonic", lambda: next(clock))
    seen: list[Event] = []
    meter = Meter(seen.append, "train", 100, done=90)
    meter.advance(5)
    last = seen[-1]
    assert isinstance(last, Progress)
    assert last.done == 95
    assert last.eta == pytest.approx(10.0), "five units took ten seconds, five are left"


def test_the_eta_forgets_a_slow_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    seen: list[Event] = []
    meter = Meter(seen.append, "synthesize", 100)
    for unit in range(60):
        now[0] += 100.0 if unit == 0 else 1.0
        meter.advance()
    assert isinstance(last := seen[-1], Progress)
    assert last.eta == pytest.approx(40.0)


def test_the_end_is_always_reported() -> None:
    seen: list[Event] = []
    for _ in Meter(seen.append, "dataset", 50).over(range(50)):
        pass
    assert isinstance(seen[-1], Progress)
    assert seen[-1].done == seen[-1].total == 50


def test_progress_tells_the_memory_of_the_process() -> None:
    seen: list[Event] = []
    Meter(seen.append, "train", 1)
    assert isinstance(seen[0], Progress)
    assert 10 < seen[0].memory < 100_000
