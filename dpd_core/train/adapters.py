"""The adapters of a project: noted while they are trained, listed, chosen and found again."""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.config import TrainConfig
from dpd_core.errors import DPDError, ModelError, ProjectError, StageMissing
from dpd_core.models import weights as adapter_weights
from dpd_core.project import Project

RECORD = "adapter.json"
"""The file whose presence says that an adapter is finished."""
RECIPE = "recipe.json"
CURVE = "curve.jsonl"
CHOSEN = "chosen.json"
_FIX = "Delete the adapter's folder, and train it again if it is needed."


@dataclass(frozen=True)
class Adapter:
    """A finished adapter of a project, as ``adapter.json`` has it.

    Attributes:
        id: Derives from everything that decides it.
        folder: Its folder.
        finished: When it was finished (ISO 8601).
        final: Means of the measured values over the last steps.
        digests: SHA-256 of each of its files, by name.
    """

    id: str
    folder: Path
    finished: str
    final: dict[str, float]
    digests: dict[str, str]

    @property
    def weights(self) -> Path:
        """The trained weights; see :func:`adapter_weights.find`."""
        return adapter_weights.find(self.folder)

    @property
    def loading(self) -> str:
        """The Python by which plain diffusers loads the folder ``adapter``."""
        line = 'pipeline.load_lora_weights("adapter")'
        if self.weights.name == adapter_weights.WHOLE:
            kind = adapter_weights.denoiser_class(self.folder)
            part = "unet" if kind.startswith("UNet") else "transformer"
            line = f'pipeline.{part} = {kind}.from_pretrained("adapter")'
        if self.has_decoder:
            decoder = f'load_file("adapter/{adapter_weights.DECODER}")'
            line += f"; pipeline.vae.load_state_dict({decoder}, strict=False)"
        return line

    @property
    def has_decoder(self) -> bool:
        """Whether it holds a decoder tuned to the training images."""
        return (self.folder / adapter_weights.DECODER).exists()

    @property
    def files(self) -> list[Path]:
        """What plain diffusers needs to load it."""
        return adapter_weights.files(self.folder)


def choose_adapter(project: Project, name: str) -> None:
    """Make a finished adapter the one that ``latest`` means, until the next training.

    Raises:
        StageMissing, ModelError: there is no such adapter.
    """
    found = find_adapter(project, name)
    storage.write_json(project.path("adapters", CHOSEN), {"adapter": found.id})


def chosen_adapter(project: Project) -> str | None:
    """The id of the adapter that was chosen by hand, if it is still there."""
    path = project.path("adapters", CHOSEN)
    if not path.exists():
        return None
    name = storage.read_record(path, {"adapter": str}, fix="Delete the file.")["adapter"]
    there = project.path("adapters", storage.safe_name(name), RECORD).exists()
    return name if there else None


def forget_choice(project: Project) -> None:
    """Let ``latest`` mean the last finished training again."""
    project.path("adapters", CHOSEN).unlink(missing_ok=True)


def find_adapter(project: Project, name: str = "latest") -> Adapter:
    """A finished adapter by id; ``latest`` is the one chosen by hand, else that of the last
    finished training.

    Raises:
        StageMissing: nothing has been trained yet.
        ModelError: no adapter of that id.
    """
    if name == "latest":
        name = chosen_adapter(project) or project.result("train")["adapter"]
    folder = project.path("adapters", storage.safe_name(name))
    if not (folder / RECORD).exists():
        known = [adapter.id for adapter in list_adapters(project)]
        if not known:
            raise StageMissing(
                "no adapter has been trained.", where=project.root, fix="Run the train stage first."
            )
        raise ModelError(
            f"there is no adapter {name!r}.",
            where=project.root,
            fix=f"Known adapters: {', '.join(known)}.",
        )
    return _read(folder / RECORD, name)


def _read(path: Path, name: str) -> Adapter:
    fix = "Delete the adapter's folder and run the stage 'train' again."
    record = storage.read_record(path, {"finished": str}, fix=fix)
    digests = record.get("files")
    return Adapter(
        name,
        path.parent,
        record["finished"],
        _numbers(record.get("final")),
        digests if isinstance(digests, dict) else {},
    )


def finish(
    folder: Path, recipe: dict[str, Any], classifier: dict[str, Any], final: dict[str, float]
) -> None:
    """Note that an adapter is finished, and drop its checkpoint.

    Args:
        folder: Its folder, named by its id, with its files.
        recipe: Everything that decided it.
        classifier: Metadata of the latent classifier.
        final: Means of the measured values over the last steps.
    """
    record = {
        "id": folder.name,
        "recipe": recipe,
        "classifier": classifier,
        "final": final,
        "files": {path.name: storage.file_digest(path) for path in adapter_weights.files(folder)},
        "finished": datetime.datetime.now(datetime.UTC).isoformat(),
    }
    storage.write_json(folder / RECORD, record)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)


def list_adapters(project: Project) -> list[Adapter]:
    """All finished adapters of a project, oldest first."""
    found = [_read(path, path.parent.name) for path in project.path("adapters").glob(f"*/{RECORD}")]
    return sorted(found, key=lambda adapter: (adapter.finished, adapter.id))


@dataclass(frozen=True)
class Run:
    """The training of an adapter, finished or not.

    Attributes:
        id: The adapter's id.
        folder: Its folder.
        settings: The train stage's settings, as a dict; empty where an unfinished run of an
            earlier version left none.
        finished: When it was finished (ISO 8601), empty if it was not.
        final: Means of the measured values over the last steps, if it is finished.
    """

    id: str
    folder: Path
    settings: dict[str, Any]
    finished: str
    final: dict[str, float]

    def curve(self) -> list[dict[str, Any]]:
        """The measured values by step: ``{"step": 10, "diffusion": 0.3, …}``.

        Raises:
            ProjectError: the file is damaged.
        """
        points = storage.read_json_lines(self.folder / CURVE)
        for point in points:
            if not isinstance(point, dict) or not isinstance(point.get("step"), int):
                raise ProjectError(
                    "not a training's curve.", where=self.folder / CURVE, fix="Delete the file."
                )
        return points

    def previews(self) -> list[tuple[int, str, Path]]:
        """The images made on the way: step, class (as a file name) and file, in order."""
        found = []
        for path in sorted((self.folder / "previews").glob("*.png")):
            step, separator, name = path.stem.partition("-")
            if separator and step.isdecimal():
                found.append((int(step), name, path))
        return found


def list_runs(project: Project) -> list[Run]:
    """All trainings that a project holds, the newest first.

    Raises:
        ProjectError: a record is damaged.
    """
    runs = []
    for folder in project.path("adapters").glob("*"):
        record, recipe = folder / RECORD, folder / RECIPE
        if record.exists():
            known = storage.read_record(record, {}, fix=_FIX)
            settings, final = _settings(known.get("recipe")), _numbers(known.get("final"))
            finished = str(known.get("finished", ""))
            runs.append(Run(folder.name, folder, settings, finished, final))
        elif recipe.exists() or (folder / "checkpoint.safetensors").exists():
            known = storage.read_record(recipe, {}, fix=_FIX) if recipe.exists() else {}
            runs.append(Run(folder.name, folder, _settings(known), "", {}))
    return sorted(runs, key=_begun, reverse=True)


def _settings(recipe: Any) -> dict[str, Any]:
    """The train stage's settings in a recipe; none where this version does not know them."""
    try:
        return TrainConfig.from_dict(recipe["settings"]).to_dict()
    except (DPDError, KeyError, TypeError, AttributeError):
        return {}


def _numbers(values: Any) -> dict[str, float]:
    """The numbers among some measured values."""
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def begin(folder: Path, recipe: dict[str, Any]) -> None:
    """Note in an adapter's folder what is being made there."""
    if not (folder / RECIPE).exists():
        storage.write_json(folder / RECIPE, recipe)


def append_curve(folder: Path, step: int, values: dict[str, float]) -> None:
    """Add measured values to the curve of a training."""
    known = {name: value for name, value in values.items() if math.isfinite(value)}
    storage.append_json_line(folder / CURVE, {"step": step, **known})


def cut_curve(folder: Path, step: int) -> None:
    """Take off what a killed run had measured after the checkpoint that is gone on from."""
    points = storage.read_json_lines(folder / CURVE)
    kept = [point for point in points if point["step"] <= step]
    if len(kept) < len(points):
        text = "".join(json.dumps(point) + "\n" for point in kept)
        storage.write_bytes(folder / CURVE, text.encode())


def _begun(run: Run) -> tuple[float, str]:
    first = run.folder / (RECIPE if (run.folder / RECIPE).exists() else RECORD)
    return (first.stat().st_mtime if first.exists() else 0.0, run.id)
