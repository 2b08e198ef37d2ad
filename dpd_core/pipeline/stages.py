"""The one table of what can be run: the seven stages, and the commands beside them.

A stage is declared here and nowhere else. The command line, jobs, staleness, ``verify``, the tabs,
the limits for strangers and the picture links read these records; the settings of a command are
the class of its name in :mod:`dpd_core.config`. Importing this module imports no stage.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dpd_core import STAGES
from dpd_core.config import CONFIGS
from dpd_core.events import Emit
from dpd_core.settings import StageConfig

if TYPE_CHECKING:  # it brings a second's worth of imports to `--help`
    from dpd_core.project import Project

_PICTURES = (".png", ".jpg")


@dataclass(frozen=True)
class Command:
    """What can be run with settings of its own.

    Attributes:
        name: The word on the command line, and of its settings class.
        module: Where its ``run`` lives; imported when it starts, because torch and its friends
            take seconds to import.
        runs_stages: Whether it runs stages, each of which locks the project for itself.
        own_projects: Whether it makes the projects it works on, and takes none. Such a command is
            not for strangers.
        served: File endings by folder of a project: what the page may fetch of what it leaves.
    """

    name: str
    module: str
    runs_stages: bool = False
    own_projects: bool = False
    served: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def config(self) -> type[StageConfig]:
        """Its settings class."""
        return CONFIGS[self.name]

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return (self.config.__doc__ or "").splitlines()[0]

    def run(self, project: Project, config: StageConfig, emit: Emit) -> dict[str, Any]:
        """Run it in this process, without a record; returns its result."""
        result: dict[str, Any] = importlib.import_module(self.module).run(project, config, emit)
        return result


@dataclass(frozen=True)
class Stage(Command):
    """One of the seven stages, which leave a record in the project.

    Attributes:
        needs: The stages whose results it reads; an id carries everything before it along.
        by_hand: What it reads of what people write, by the names of
            :data:`dpd_core.pipeline.staleness.BY_HAND`; later stages depend on it through its id.
        files: Paths of the files it leaves and nothing changes afterwards, which ``verify``
            compares; ``{name}`` is that entry of its result. Files that have digests of their own
            (images, latents, exported files) are not among them.
        watched: Files and folders (or patterns of them) whose times tell the page that something
            has changed, besides the project's manifest.
    """

    needs: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()


_STAGES = (
    Stage(
        "dataset",
        "dpd_core.dataset.stage",
        files=("dataset/index.json",),
        watched=("dataset/index.json", "dataset/names.json", "dataset/labels.json"),
    ),
    Stage(
        "prototypes",
        "dpd_core.prototypes.stage",
        needs=("dataset",),
        by_hand=("overrides", "labels"),
        files=(
            "prototypes/prototypes.json",
            "prototypes/clusters.json",
            "prototypes/centers.safetensors",
            "prototypes/map.json",
            "prototypes/likeness.safetensors",
        ),
        watched=(
            "prototypes/prototypes.json",
            "prototypes/overrides.json",
            "prototypes/map.json",
            "prototypes/likeness.safetensors",
            "prototypes/changes.json",
        ),
        served={"prototypes": (".json",)},
    ),
    Stage(
        "captions",
        "dpd_core.captions.stage",
        needs=("prototypes",),
        by_hand=("names",),
        watched=("captions/log.jsonl",),
    ),
    Stage(
        "train",
        "dpd_core.train.stage",
        needs=("captions",),
        by_hand=("texts",),
        files=(
            "adapters/{adapter}/adapter.json",
            "classifier/{classifier}/classifier.json",
            "classifier/{classifier}/classifier.safetensors",
        ),
        watched=("adapters",),
        served={"adapters": _PICTURES},
    ),
    Stage(
        "synthesize",
        "dpd_core.synthesize.stage",
        needs=("captions", "train"),
        by_hand=("texts", "adapter"),
        files=("distilled/{set}/recipe.json",),
        watched=("distilled", "distilled/*/manifest.json"),
        served={"distilled": _PICTURES},
    ),
    Stage(
        "evaluate",
        "dpd_core.evaluate.stage",
        needs=("synthesize",),
        by_hand=("set",),
        files=("{report}",),
        watched=("reports",),
        served={"reports": _PICTURES},
    ),
    Stage(
        "export",
        "dpd_core.export.stage",
        needs=("synthesize",),
        by_hand=("set",),
        files=("{folder}/manifest.json", "{archive}"),
        watched=("export",),
        served={"export": (".zip",)},
    ),
)

TABLE: dict[str, Stage] = {stage.name: stage for stage in _STAGES}
"""The stages by name, in their order."""

assert tuple(TABLE) == STAGES

COMMANDS: dict[str, Command] = {
    **TABLE,
    "preview": Command("preview", "dpd_core.synthesize.preview", served={"previews": (".png",)}),
    "resample": Command("resample", "dpd_core.synthesize.resample"),
    "run": Command("run", "dpd_core.pipeline.plan", runs_stages=True),
    "benchmark": Command("benchmark", "dpd_core.pipeline.benchmark", own_projects=True),
}
"""Everything that can be run, by name."""


def after(stage: str) -> tuple[str, ...]:
    """The stages that come after this one."""
    return STAGES[STAGES.index(stage) + 1 :]
