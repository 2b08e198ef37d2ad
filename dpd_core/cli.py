"""The command line: ``python -m dpd_core STAGE --project DIR …``; ``run`` does all seven,
``verify`` compares a project with what it recorded, ``preview`` tries a prompt,
``resample`` samples slots of a distilled set anew, ``benchmark`` compares strategies.

Flags are made from the fields of the settings classes, so their names, help and limits are
declared once. Progress goes to standard error; standard output gets the summary, with
``--json`` as one machine-readable line.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from dpd_core import STAGES, __version__
from dpd_core.config import CONFIGS, PRESETS, BenchmarkConfig, ProjectConfig, RunConfig, resolve
from dpd_core.errors import DPDError, JobStopped
from dpd_core.events import Failed, Log, Progress
from dpd_core.hardware import peak_resident_memory
from dpd_core.pipeline.stages import COMMANDS
from dpd_core.settings import AUTO, Setting, StageConfig, settings_of, stage_name, suggestion

_RUN_FLAGS = {
    "dataset": ("data", "layout", "demo", "test_data", "classes", "test_fraction", "max_per_class"),
    "prototypes": ("ipc",),
    "synthesize": ("strategy",),
}
"""Settings that ``run`` offers as flags; all others go through ``--set``."""


def main(arguments: list[str] | None = None) -> int:
    """Entry point.

    Args:
        arguments: Words of the command line; ``None`` takes the process's own.

    Returns:
        Exit status: 0 done, 1 a :class:`DPDError` or a difference found by ``verify``,
        2 unusable arguments, 130 stopped.
    """
    # Loading bars and notices of the libraries would break through our own line.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # OpenMP threads spin for a while before they sleep. On a machine that does anything else
    # beside, two spinning processes slow each other down more than tenfold.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    options = _options(arguments)
    command = options.pop("command")
    as_json = options.pop("json")
    started = time.monotonic()
    terminal = Terminal(quiet=options.pop("quiet"))
    try:
        if command == "verify":
            return _verify(options["project"], terminal, as_json=as_json)
        results = _results(command, options, terminal)
    except DPDError as error:
        terminal.close()
        stopped = isinstance(error, JobStopped)
        if as_json:
            failure = {
                "what": error.what,
                "where": error.where,
                "fix": error.fix,
                "kind": type(error).__name__,
            }
            print(json.dumps({"ok": False, "command": command, "error": failure}))
        print(f"{'Stopped' if stopped else 'Error'}: {error}", file=sys.stderr)
        return 130 if stopped else 1
    terminal.close()
    seconds, memory = round(time.monotonic() - started, 1), peak_resident_memory()
    if as_json:
        print(
            json.dumps(
                {
                    "ok": True,
                    "command": command,
                    "project": options.get("project"),
                    "seconds": seconds,
                    "peak_memory_mb": memory,
                    "results": results,
                }
            )
        )
    else:
        for stage, result in results.items():
            print(f"{stage}: {_summary(result)}")
        print(f"finished in {seconds} s, peak memory {memory} MB")
    return 0


def _options(arguments: list[str] | None) -> dict[str, Any]:
    """The parsed command line; ends the process with status 2 where it is unusable."""
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        kinds: list[type[StageConfig]] = [ProjectConfig]
        kinds += [COMMANDS[options.command].config] if options.command in COMMANDS else []
        flags = [setting.flag for kind in kinds for setting in settings_of(kind).values()]
        near = suggestion(unknown[0].partition("=")[0], flags)
        parser.error(f"unknown arguments: {' '.join(unknown)}. {near}".strip())
    return vars(options)


def _given(options: dict[str, Any], config: type[StageConfig]) -> dict[str, Any]:
    """The values that the command line gives to a settings class."""
    return {name: options[name] for name in settings_of(config) if options.get(name) is not None}


def _results(command: str, options: dict[str, Any], terminal: Terminal) -> dict[str, Any]:
    if command == "run":
        return _run_all(options, terminal)
    if COMMANDS[command].own_projects:
        return {command: _benchmark(options, terminal)}
    return _run_one(command, options, terminal)


def _benchmark(options: dict[str, Any], terminal: Terminal) -> dict[str, Any]:
    from dpd_core.pipeline.benchmark import run

    config = BenchmarkConfig.from_dict(_given(options, BenchmarkConfig))
    shared = ProjectConfig.from_dict(_given(options, ProjectConfig))
    overrides = _overrides(options, {"dataset": _RUN_FLAGS["dataset"]})
    asked: list[int] = []

    def stop(signum: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(signum)

    def emit(event: Any) -> None:
        terminal.show(event)
        if asked:
            raise JobStopped(
                "stopped as asked; what was finished is kept.",
                fix="Give the same command again to go on.",
            )

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return run(config, shared=shared, overrides=overrides, emit=emit)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_one(stage: str, options: dict[str, Any], terminal: Terminal) -> dict[str, Any]:
    project = _project(options, create=stage == "dataset")
    config = _settings(project, stage, options["preset"], _given(options, COMMANDS[stage].config))
    return {stage: _start(project, stage, config, terminal)}


def _run_all(options: dict[str, Any], terminal: Terminal) -> dict[str, Any]:
    """All seven stages; those that are finished with the same settings are skipped."""
    given = _overrides(options, _RUN_FLAGS)
    assignments = [
        f"{stage}.{name}={value}" for stage in STAGES for name, value in given[stage].items()
    ]
    values = {**_given(options, RunConfig), "set": assignments}
    config = RunConfig.from_dict({**values, "preset": options["preset"] or "published"})
    return _start(_project(options, create=True), "run", config, terminal)


def _verify(folder: str, terminal: Terminal, *, as_json: bool) -> int:
    """Compare a project with the digests it recorded; 1 if something differs."""
    from dpd_core.pipeline.verify import as_text, verify
    from dpd_core.project import Project

    report = verify(Project.open(folder), terminal.show)
    terminal.close()
    print(json.dumps(report.to_dict()) if as_json else as_text(report))
    return 0 if report.ok else 1


def _start(project: Any, stage: str, config: StageConfig, terminal: Terminal) -> dict[str, Any]:
    """Run a stage with Ctrl-C and SIGTERM turned into a stop request."""
    from dpd_core.controls import STOP, Job
    from dpd_core.pipeline.jobs import run_stage

    def on_start(job: Job) -> None:
        def stop(signum: int, frame: Any) -> None:
            if job.asked(STOP):
                raise KeyboardInterrupt
            job.ask(STOP)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return run_stage(project, stage, config, listen=terminal.show, on_start=on_start)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settings(project: Any, stage: str, preset: str | None, given: dict[str, Any]) -> StageConfig:
    """Flags over the preset; without a preset, over what the stage was last run with."""
    record = project.record(stage)
    if preset is None and record is not None:
        before = CONFIGS[stage].from_dict(record["settings"]).lasting()
        return before.replace(**given)
    return resolve(stage, preset, **given)


def _project(options: dict[str, Any], *, create: bool) -> Any:
    from dpd_core.project import Project

    given = _given(options, ProjectConfig)
    config = ProjectConfig.from_dict(given)
    if create:
        project = Project.open_or_create(options["project"], config=config)
    else:
        project = Project.open(options["project"])
    changed = project.config.replace(**given)
    if changed != project.config:
        project.configure(changed)
    return project


def _overrides(
    options: dict[str, Any], flags: dict[str, tuple[str, ...]]
) -> dict[str, dict[str, Any]]:
    """Settings by stage that a command for several stages gives, by flags and by ``--set``."""
    from dpd_core.pipeline.plan import parse_assignment

    given: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES}
    for stage, names in flags.items():
        given[stage] = {name: options[name] for name in names if options.get(name) is not None}
    for assignment in options["set"] or ():
        stage, name, value = parse_assignment(assignment)
        given[stage][name] = value
    return given


class _Parser(argparse.ArgumentParser):
    """A parser to which part of a flag is not the flag."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)


def _parser() -> argparse.ArgumentParser:
    basic = _Parser(add_help=False)
    basic.add_argument("--project", required=True, metavar="DIR", help="Project folder.")
    basic.add_argument("--json", action="store_true", help="Print one line of JSON at the end.")
    basic.add_argument("--quiet", action="store_true", help="Show no progress.")
    common = _Parser(add_help=False, parents=[basic])
    common.add_argument("--preset", choices=tuple(PRESETS), help="Set of values to start from.")
    _add_flags(common, ProjectConfig)
    parser = _Parser(
        prog="python -m dpd_core",
        description="Turn a labelled image collection into a tiny, captioned, synthetic data set.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="STAGE")
    text = "Recompute the digests of everything the project recorded; say what differs."
    commands.add_parser("verify", parents=[basic], help=text, description=text)
    for spec in COMMANDS.values():
        shared = [] if spec.own_projects else [common]
        command = commands.add_parser(
            spec.name, parents=shared, help=spec.summary, description=spec.summary
        )
        skipped = ("preset",) if spec.runs_stages else ()
        _add_flags(command, spec.config, [n for n in settings_of(spec.config) if n not in skipped])
        if spec.runs_stages:
            for stage, names in _RUN_FLAGS.items():
                _add_flags(command, CONFIGS[stage], names)
        if spec.own_projects:
            _add_own(command)
    return parser


def _add_own(command: argparse.ArgumentParser) -> None:
    """The flags of a command that makes the projects it works on."""
    _add_flags(command, ProjectConfig)
    _add_flags(command, CONFIGS["dataset"], _RUN_FLAGS["dataset"])
    command.add_argument("--json", action="store_true", help="Print one line of JSON at the end.")
    command.add_argument("--quiet", action="store_true", help="Show no progress.")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.NAME=VALUE",
        help="Any setting of a stage, for all strategies.",
    )


def _add_flags(
    parser: argparse.ArgumentParser, config: type[StageConfig], names: Sequence[str] | None = None
) -> None:
    """A flag for each setting (of those named), the advanced ones in a group of their own."""
    known = [
        setting
        for setting in settings_of(config).values()
        if names is None or setting.name in names
    ]
    groups = {
        advanced: parser.add_argument_group(f"{stage_name(config)}{', advanced' * advanced}")
        for advanced in (False, True)
    }
    for setting in known:
        _add_flag(groups[setting.advanced], setting)


def _add_flag(group: Any, known: Setting) -> None:
    """One flag for one setting. Values stay text: the settings class checks and converts them."""
    default = ",".join(map(str, known.default)) if known.kind is tuple else known.default
    default = AUTO if default is None else default
    notes = [known.limits, known.unit, f"default: {default}" if default != "" else ""]
    text = "; ".join(filter(None, notes))
    text = f"{known.help} ({text})" if text else known.help
    options: dict[str, Any] = {"dest": known.name, "default": None, "help": text.replace("%", "%%")}
    if known.kind is bool:
        group.add_argument(known.flag, action=argparse.BooleanOptionalAction, **options)
    elif known.repeated:
        group.add_argument(known.flag, action="append", metavar="STAGE.NAME=VALUE", **options)
    else:
        words = ",".join((*[AUTO] * known.optional, *known.choices))
        name = known.name.upper().split("_")[-1]
        group.add_argument(known.flag, metavar=f"{{{words}}}" if known.choices else name, **options)


def _summary(result: dict[str, Any]) -> str:
    parts = []
    for key, value in result.items():
        if isinstance(value, float):
            parts.append(f"{key} {value:.3g}")
        elif isinstance(value, str | int):
            parts.append(f"{key} {value}")
        elif isinstance(value, dict) and value:
            inner = ", ".join(
                f"{name} {number:.3g}" if isinstance(number, float) else f"{name} {number}"
                for name, number in value.items()
            )
            parts.append(f"{key} ({inner})")
    return ", ".join(parts)


class Terminal:
    """Shows events on standard error: a line that moves on a terminal, a line now and then
    in a log file."""

    def __init__(self, *, quiet: bool = False):
        self.quiet = quiet
        self.moving = sys.stderr.isatty()
        self._open = False
        self._last: tuple[str, float] = ("", 0.0)

    def show(self, event: Any) -> None:
        """Draw one event."""
        if self.quiet or isinstance(event, Failed):
            return
        if isinstance(event, Log):
            self._line(f"{event.stage}: {'warning: ' * (event.level == 'warning')}{event.message}")
        elif isinstance(event, Progress):
            self._progress(event)

    def close(self) -> None:
        """End a moving line."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False

    def _progress(self, event: Any) -> None:
        key, now = f"{event.stage}/{event.message}", time.monotonic()
        finished = event.done >= event.total
        if not self.moving:
            if not finished and self._last[0] == key and now - self._last[1] < 10:
                return
            self._last = (key, now)
        share = event.done / event.total if event.total else 1.0
        eta = "" if event.eta is None or finished else f", {_duration(event.eta)} left"
        text = f"{event.stage}: {event.message} {event.done}/{event.total} ({share:.0%}{eta})"
        if not self.moving:
            sys.stderr.write(text + "\n")
            return
        width = os.get_terminal_size(sys.stderr.fileno()).columns
        sys.stderr.write("\r" + text[: width - 1].ljust(width - 1))
        self._open = True
        if finished:
            self.close()

    def _line(self, text: str) -> None:
        self.close()
        sys.stderr.write(text + "\n")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
