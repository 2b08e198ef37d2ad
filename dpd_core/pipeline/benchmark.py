"""The benchmark: strategies and real subsets side by side, with one protocol for all.

For each number of images per class (IPC) and each choice of prototypes (``typical``, ``taught``)
there is a project in ``OUT/ipc-<n>-<choice>``; the first one's latents, latent classifier and
adapter serve them all, so that the strategies differ in their prototypes and in how they sample,
and in nothing else (``minimax``, which is a way of training, has an adapter of its own).
Students see each set for the same number of steps, whatever its size, and are tested on the test
split, which decides nothing.

Every finished step is on disk: stages and sets by their recipe, each student by a digest of all
that determines it. The same command continues after any end; the report is written anew after
every set, so there is something to read from the first one on.

A strategy may carry settings of the stage ``synthesize``, and the choice of prototypes:
``dpd+@choice=typical@candidates=1``. That is how parts of a method are switched off for comparison.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.config import (
    BenchmarkConfig,
    EvaluateConfig,
    ProjectConfig,
    PrototypesConfig,
    SynthesizeConfig,
    TrainConfig,
    resolve,
)
from dpd_core.errors import ConfigError
from dpd_core.evaluate import baselines
from dpd_core.evaluate import stage as evaluation
from dpd_core.evaluate.report import load_report
from dpd_core.events import Emit, Log, ignore
from dpd_core.pipeline import benchmark_report
from dpd_core.pipeline.jobs import run_stage, skip_current
from dpd_core.project import Project
from dpd_core.settings import StageConfig
from dpd_core.synthesize import stage as synthesis
from dpd_core.synthesize.strategies import Strategy, get_strategy
from dpd_core.train import stage as training

_SHARED = ("latents", "classifier", "cache", "reports/parts")


@dataclass(frozen=True)
class Method:
    """A strategy as the benchmark's settings name it.

    Attributes:
        label: As given; the row of the table.
        name: The strategy.
        settings: Of the stage ``synthesize``, as texts.
        choice: The setting of that name of the stage ``prototypes``.
    """

    label: str
    name: str
    settings: dict[str, str]
    choice: str

    @property
    def strategy(self) -> Strategy:
        """The strategy itself."""
        return get_strategy(self.name)


def run(
    config: BenchmarkConfig,
    *,
    shared: ProjectConfig | None = None,
    overrides: dict[str, dict[str, Any]] | None = None,
    emit: Emit = ignore,
) -> dict[str, Any]:
    """Run the benchmark, or what is left of it.

    Args:
        config: What is compared.
        shared: Settings of the projects: model, device, seed.
        overrides: Settings by stage, over the preset's.
        emit: Gets the events of all stages.

    Returns:
        Summary for the command line: the reports' paths and the mean accuracies.

    Raises:
        ConfigError: an unknown strategy or baseline, or no data.
    """
    methods = [read_method(text) for text in config.strategies]
    for name in config.baselines:
        baselines.get_baseline(name)
    if not config.ipc:
        raise ConfigError(
            "no number of images per class is given.",
            where="benchmark.ipc",
            fix="Give one or more, like 5,10,20.",
        )
    out = Path(config.out).expanduser().resolve()
    benchmark = Benchmark(out, config, methods, shared or ProjectConfig(), overrides or {}, emit)
    _claim(benchmark)
    for ipc in config.ipc:
        benchmark.measure(ipc)
    paths = benchmark_report.write(out)
    return {
        "report": paths["json"],
        "table": paths["markdown"],
        "chart": paths["chart"],
        "accuracy": {_title(row): row["mean"] for row in benchmark_report.load(out)["rows"]},
    }


def _title(row: dict[str, Any]) -> str:
    """A row's name in the summary; with soft labels it is another measurement."""
    soft = ", soft labels" if row["labels"] == "soft" else ""
    return f"{row['label']} ({row['student']}, {row['ipc']} a class{soft})"


def read_method(text: str) -> Method:
    """``NAME`` or ``NAME@SETTING=VALUE@…``.

    Raises:
        ConfigError: unknown strategy or setting, or a bad value.
    """
    name, *parts = text.split("@")
    settings = {"choice": get_strategy(name).choice}
    for part in parts:
        key, separator, value = part.partition("=")
        if not separator:
            raise ConfigError(
                f"got {text!r}.",
                where="benchmark.strategies",
                fix="Write it as NAME@SETTING=VALUE, like dpd+@strength=0.5.",
            )
        settings[key.replace("-", "_")] = value
    choice = settings.pop("choice")
    PrototypesConfig.from_dict({"choice": choice})
    SynthesizeConfig.from_dict({"strategy": name, **settings})
    return Method(text, name, settings, choice)


class Benchmark:
    """One benchmark on its way; see :func:`run`."""

    def __init__(
        self,
        out: Path,
        config: BenchmarkConfig,
        methods: Sequence[Method],
        shared: ProjectConfig,
        overrides: dict[str, dict[str, Any]],
        emit: Emit,
    ):
        self.out, self.config, self.methods, self.shared = out, config, methods, shared
        self.overrides, self.emit = overrides, emit
        choices = dict.fromkeys(method.choice for method in methods) or {"typical": None}
        self.projects = {
            (ipc, choice): out / f"ipc-{ipc}-{choice}" for ipc in config.ipc for choice in choices
        }
        self.first = next(iter(self.projects.values()))
        """The project whose latents, classifier and adapter serve all."""

    def measure(self, ipc: int) -> None:
        """All real subsets and methods at one IPC."""
        for method in self.methods:
            project = self._prepared(ipc, method.choice)
            name, seconds = self._synthesized(project, method)
            for student in self.config.students:
                # The baselines come with the first set; later sets find them measured.
                self._evaluated(project, ipc, method, name, student, seconds)

    def settings(self, stage: str, **given: Any) -> StageConfig:
        """The settings of a stage: the preset's, those given for all, then these."""
        return resolve(stage, self.config.preset, **{**self.overrides.get(stage, {}), **given})

    def _prepared(self, ipc: int, choice: str) -> Project:
        """A project with everything that comes before sampling."""
        root = self.projects[ipc, choice]
        project = Project.open_or_create(root, config=self.shared)
        self._stage(project, "dataset")
        for known in self.projects.values():
            if known != root:
                _share(known, root)
        self._stage(project, "prototypes", ipc=ipc, choice=choice, project_map=False)
        self._stage(project, "captions")
        if root == self.first:
            self._stage(project, "train", preview_steps=0)
        else:
            _share(self.first, root, ("adapters",))
        return project

    def _stage(self, project: Project, stage: str, **given: Any) -> None:
        settings = self.settings(stage, **given)
        if not skip_current(project, stage, settings, self.emit):
            run_stage(project, stage, settings, listen=self.emit)

    def _adapter(self, method: Method) -> str:
        """The adapter a method samples with, by id."""
        source = Project.open(self.first)
        common: str = source.result("train")["adapter"]
        if not method.strategy.training:
            return common
        settings = self.settings("train", preview_steps=0, **method.strategy.training)
        assert isinstance(settings, TrainConfig)
        with source.lock():
            return str(training.run(source, settings, self.emit)["adapter"])

    def _synthesized(self, project: Project, method: Method) -> tuple[str, float | None]:
        """The method's set: its name, and seconds per image if it was made without a break."""
        adapter = self._adapter(method)
        source = self.first / "adapters" / adapter
        if not project.path("adapters", adapter).exists():
            shutil.copytree(source, project.path("adapters", adapter))
        settings = self.settings(
            "synthesize", strategy=method.name, adapter=adapter, **method.settings
        )
        assert isinstance(settings, SynthesizeConfig)
        before = set(project.path("distilled").glob("*"))
        started = time.monotonic()
        with project.lock():
            result = synthesis.run(project, settings, self.emit)
        seconds = (time.monotonic() - started) / result["images"]
        name: str = result["set"]
        record = project.path("distilled", storage.safe_name(name), "seconds.json")
        fresh = record.parent not in before
        if fresh:
            storage.write_json(record, {"seconds_per_image": round(seconds, 3)})
        known = storage.read_json(record)["seconds_per_image"] if record.exists() else None
        return name, known

    def _evaluated(
        self,
        project: Project,
        ipc: int,
        method: Method,
        name: str,
        student: str,
        seconds: float | None,
    ) -> None:
        settings = self.settings(
            "evaluate",
            set_name=name,
            student=student,
            baselines=self.config.baselines,
            seeds=self.config.seeds,
            student_steps=self.config.student_steps,
            distribution=False,
            soft_labels=self.config.soft_labels,
        )
        assert isinstance(settings, EvaluateConfig)
        with project.lock():
            evaluation.run(project, settings, self.emit)
            report = load_report(project, name)
        assert report is not None
        benchmark_report.add(
            self.out,
            ipc=ipc,
            label=method.label,
            set_name=name,
            report=report,
            seconds_per_image=seconds,
            description=method.strategy.source,
        )
        benchmark_report.write(self.out)
        mean = report.accuracy[name].mean
        self.emit(Log("benchmark", f"{method.label}, {ipc} a class, {student}: {mean:.1%}"))


def _claim(benchmark: Benchmark) -> None:
    """Write down what is compared; another data set or protocol needs another folder."""
    config = benchmark.config
    fixed = {
        "dataset": benchmark.settings("dataset").to_dict(),
        "preset": config.preset,
        "student_steps": config.student_steps,
        "project": benchmark.shared.to_dict(),
        "overrides": {
            stage: values for stage, values in benchmark.overrides.items() if stage != "dataset"
        },
        "adapter": benchmark.first.name,
    }
    path = benchmark.out / "benchmark.json"
    if path.exists():
        before = storage.read_json(path)["fixed"]
        different = sorted(key for key in fixed if before.get(key) != fixed[key])
        if different:
            raise ConfigError(
                f"this folder holds a benchmark with another {', '.join(different)}.",
                where=benchmark.out,
                fix="Use another --out, or the same settings.",
            )
    storage.write_json(path, {"fixed": fixed, "settings": config.to_dict()})


def _share(source: Path, target: Path, names: Sequence[str] = _SHARED) -> None:
    """Copy what another project has made already and this one would make the same."""
    for name in names:
        for path in sorted((source / name).rglob("*")):
            goal = target / path.relative_to(source)
            if path.is_file() and not goal.exists():
                with storage.atomic_path(goal) as temporary:
                    shutil.copyfile(path, temporary)
