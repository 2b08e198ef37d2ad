"""All seven stages as one plan: what has to run, why, how long it may take, and running it.

``python -m dpd_core run`` and the page's *Make my data set* are this command. Each stage that is
not current runs as a job of its own, a part of the plan's job; the plan's job tells which phase of
how many is at work, and how long all that is left takes. Stopped or killed, the same command goes
on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dpd_core import STAGES
from dpd_core.config import CONFIGS, RunConfig, resolve
from dpd_core.errors import ConfigError
from dpd_core.events import Emit, Event, Log, Phases, Progress, ignore
from dpd_core.pipeline import estimate
from dpd_core.pipeline.jobs import run_stage, skip_current
from dpd_core.pipeline.stages import TABLE
from dpd_core.pipeline.staleness import why_stale
from dpd_core.project import Project
from dpd_core.settings import StageConfig, suggestion

NAME = "run"


@dataclass(frozen=True)
class Step:
    """A stage of a plan.

    Attributes:
        stage: Its name.
        config: The settings it is to have.
        reason: Why it has to run, in words; empty if it is skipped.
    """

    stage: str
    config: StageConfig
    reason: str


def settings(project: Project, config: RunConfig) -> dict[str, StageConfig]:
    """The settings of all stages under a plan, by stage.

    Raises:
        ConfigError: an assignment names no setting, or a bad value.
    """
    if unknown := sorted(set(config.keep) - set(STAGES)):
        raise ConfigError(
            f"got {unknown[0]!r}, which is no stage.",
            where="run.keep",
            fix=f"{suggestion(unknown[0], STAGES)}Stages: {', '.join(STAGES)}.",
        )
    given: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    for text in config.set:
        stage, name, value = parse_assignment(text)
        given[stage][name] = value
    found = {}
    for stage in STAGES:
        record = project.record(stage)
        if config.update and record is not None:
            before = CONFIGS[stage].from_dict(record["settings"]).lasting()
            found[stage] = before.replace(**given[stage])
        else:
            found[stage] = resolve(stage, config.preset, **given[stage])
    return found


def plan(project: Project, config: RunConfig) -> list[Step]:
    """What a run would do now, stage by stage. A stage after one that runs may be skipped in the
    end, where that one makes the same as before.

    Raises:
        ConfigError: as :func:`settings`.
    """
    steps: list[Step] = []
    for stage, wanted in settings(project, config).items():
        if stage in config.keep:
            steps.append(Step(stage, wanted, ""))
            continue
        reason = (
            "all stages are to run again" if config.force else why_stale(project, stage, wanted)
        )
        runs = [step.stage for step in steps if step.reason]
        feeding = [earlier for earlier in runs if _feeds(earlier, stage)]
        if not reason and feeding:
            reason = f"the stage {feeding[-1]} runs again"
        steps.append(Step(stage, wanted, reason))
    return steps


def _feeds(earlier: str, stage: str) -> bool:
    """Whether a stage is made from what an earlier one leaves, at first or second hand."""
    return any(earlier == need or _feeds(earlier, need) for need in TABLE[stage].needs)


def parse_assignment(text: str) -> tuple[str, str, str]:
    """Stage, setting and value of ``STAGE.NAME=VALUE``.

    Raises:
        ConfigError: no such setting, or a bad value.
    """
    path, separator, value = text.partition("=")
    stage, dot, name = path.partition(".")
    name = name.replace("-", "_")
    if not separator or not dot or stage not in STAGES:
        near = suggestion(stage, STAGES) if dot else ""
        raise ConfigError(
            f"got {text!r}.",
            where="--set",
            fix=f"{near}Write it as STAGE.NAME=VALUE, like train.steps=500.",
        )
    CONFIGS[stage].from_dict({name: value})  # says what is wrong before anything starts
    return stage, name, value


def run(project: Project, config: RunConfig, emit: Emit = ignore) -> dict[str, Any]:
    """Run what is not current, stage after stage.

    Returns:
        The results of all stages by name.

    Raises:
        DPDError: what a stage raised.
    """
    steps = plan(project, config)
    tracker = Tracker(project, [step for step in steps if step.reason], emit)
    for step in steps:
        if step.stage in config.keep:
            continue
        if not config.force and skip_current(project, step.stage, step.config, emit):
            tracker.skip(step.stage)
            continue
        tracker.begin(step.stage)
        run_stage(project, step.stage, step.config, listen=tracker.hear)
        tracker.end(step.stage)
    tracker.tell_phases()
    return {stage: record["result"] for stage in STAGES if (record := project.record(stage))}


class Tracker:
    """Tells of a plan on its way: the phase at work, and the time that all the rest takes.

    What a phase is expected to take comes from :mod:`dpd_core.pipeline.estimate`; the phases that
    are over correct those that are to come, and the phase at work says itself how far it is.

    Args:
        project: The project.
        steps: The stages that are to run.
        emit: Gets :class:`Phases`, :class:`Progress` in seconds of all, and the stages' words.
    """

    def __init__(self, project: Project, steps: Sequence[Step], emit: Emit):
        self.emit = emit
        self.steps = steps
        self.phases = estimate.phases(project, {step.stage: step.config for step in steps})
        self.project = project
        self.spent = [0.0] * len(self.phases)
        self.state = ["open"] * len(self.phases)
        self.at = -1
        self._begun = time.monotonic()
        self._since = self._begun
        self._left: float | None = None

    def begin(self, stage: str) -> None:
        """A stage begins."""
        if not any(phase.stage == stage for phase in self.phases):
            # Nobody expected it to run: an edit came while the plan was on its way.
            order = [STAGES.index(phase.stage) for phase in self.phases]
            place = sum(number < STAGES.index(stage) for number in order)
            self.phases.insert(place, estimate.Phase(stage, "", 0.0))
            self.spent.insert(place, 0.0)
            self.state.insert(place, "open")
        self._enter(next(n for n, phase in enumerate(self.phases) if phase.stage == stage))

    def end(self, stage: str) -> None:
        """A stage is over. After the first one the images are counted, which all estimates need."""
        self._leave()
        for number, phase in enumerate(self.phases):
            if phase.stage == stage and self.state[number] == "open":
                self.state[number] = "skipped"
        if stage == STAGES[0]:
            self._estimate_again()
        self.at = -1

    def skip(self, stage: str) -> None:
        """A stage turned out to be current."""
        self.at = -1
        for number, phase in enumerate(self.phases):
            if phase.stage == stage:
                self.state[number] = "skipped"

    def hear(self, event: Event) -> None:
        """What the stage at work says."""
        if isinstance(event, Progress):
            found = self._find(event)
            if found != self.at:
                self._leave()
                self._enter(found)
            self._left = event.eta if event.done < event.total else None
            self._tell()
        elif isinstance(event, Log):
            self.emit(event)
            found = self._find(event)
            if found != self.at:
                self._leave()
                self._enter(found)

    def _find(self, event: Progress | Log) -> int:
        """The phase that an event belongs to: the one of its name, else the one at work."""
        if event.message.startswith(self.phases[self.at].name or "\0"):
            return self.at
        later = [
            number
            for number, phase in enumerate(self.phases)
            if number > self.at and phase.stage == event.stage and phase.name
        ]
        fits = [n for n in later if event.message.startswith(self.phases[n].name)]
        exact = [n for n in fits if event.message == self.phases[n].name]
        return next(iter([*exact, *fits]), self.at)

    def _enter(self, number: int) -> None:
        self.at, self._since, self._left = number, time.monotonic(), None
        for earlier in range(number):
            if self.state[earlier] == "open" and self.phases[earlier].stage == self._stage:
                self.state[earlier] = "skipped"  # found on disk
        self.state[number] = "running"
        self.tell_phases()
        self._tell()

    def tell_phases(self) -> None:
        """Which phases there are, and how far they are."""
        rows = [
            {"stage": phase.stage, "name": phase.title, "seconds": phase.seconds}
            for phase in self.phases
        ]
        for row, state, spent in zip(rows, self.state, self.spent, strict=True):
            row |= {"state": state, "spent": round(spent, 1)}
        self.emit(Phases(NAME, rows))

    @property
    def _stage(self) -> str:
        return self.phases[self.at].stage

    def _leave(self) -> None:
        if self.at >= 0:
            self.spent[self.at] += time.monotonic() - self._since
            self.state[self.at] = "done"

    def _tell(self) -> None:
        """Progress of all, in seconds."""
        now = time.monotonic()
        here, within = self.phases[self.at], now - self._since
        pace = self._pace()
        left = self._left
        if left is None:
            left = max(here.seconds * pace - within, 0.1 * within, 1.0)
        later = sum(
            phase.seconds
            for phase, state in zip(self.phases, self.state, strict=True)
            if state == "open"
        )
        eta, spent = left + later * pace, now - self._begun
        text = f"{self.at + 1} of {len(self.phases)}: {here.title}"
        self.emit(Progress(NAME, round(spent), round(spent + eta), round(eta, 1), text))

    def _pace(self) -> float:
        """How much longer than expected phases have taken; a minute is no measure yet."""
        ended = [
            (phase.seconds, spent)
            for phase, state, spent in zip(self.phases, self.state, self.spent, strict=True)
            if state == "done" and phase.seconds
        ]
        expected = sum(expected for expected, _ in ended)
        took = sum(took for _, took in ended)
        return (took + 60.0) / (expected + 60.0)

    def _estimate_again(self) -> None:
        known = estimate.phases(self.project, {step.stage: step.config for step in self.steps})
        seconds = {(phase.stage, phase.name): phase.seconds for phase in known}
        self.phases = [
            replace(phase, seconds=seconds.get((phase.stage, phase.name), phase.seconds))
            for phase in self.phases
        ]
