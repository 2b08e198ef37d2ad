"""Does the project still hold what it recorded? Every digest is computed again and compared.

Recorded are: the SHA-256 of each image in the data set's index; checksums inside the latents'
files; the files that a stage left (``files`` in its record); each adapter's weights, and its id,
which is a digest of its recipe; each candidate and chosen image of a distilled set, and the set's
recipe; each file of an export. Captions are meant to be edited, so an edit is a remark and not a
difference; their log has to be whole.

Nothing is written, and no model is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dpd_core import STAGES, storage
from dpd_core.captions.current import captions_digest
from dpd_core.dataset.index import load_index
from dpd_core.errors import DPDError, ProjectError
from dpd_core.events import Emit, Meter, ignore
from dpd_core.models.shards import shard_fault
from dpd_core.pipeline.stages import TABLE
from dpd_core.project import Project, record_id
from dpd_core.synthesize.records import SlotRecord
from dpd_core.synthesize.sets import filled_slots, is_finished, read_manifest

STAGE = "verify"
"""Stage name of the progress events."""


@dataclass(frozen=True)
class Difference:
    """One file that is not what was recorded.

    Attributes:
        file: Path inside the project, or the whole path of a file outside.
        fault: ``missing``, ``changed`` or ``damaged``.
        what: One sentence.
        fix: The way out.
    """

    file: str
    fault: str
    what: str
    fix: str


@dataclass
class Report:
    """What :func:`verify` found.

    Attributes:
        checked: Files whose digest was computed again, by kind.
        unrecorded: Files of an earlier version's making that have no digest on record.
        differences: What does not agree.
        remarks: What a person may want to know and is no fault.
    """

    checked: dict[str, int] = field(default_factory=dict)
    unrecorded: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {"ok": self.ok, **asdict(self)}


def verify(project: Project, emit: Emit = ignore) -> Report:
    """Recompute all digests on record.

    Raises:
        ProjectError: there is no readable ``project.json`` to compare with.
    """
    return _Verifier(project, emit).run()


def files_left(project: Project, stage: str, result: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of the files that a stage has just left, as its record in the table names them.

    Args:
        project: The project.
        stage: Stage name.
        result: What the stage returned.

    Returns:
        Digest by path, as :func:`recorded_path` reads it.
    """
    named = {**result, "set": storage.safe_name(str(result.get("set", "")))}
    paths = [recorded_path(project, path.format_map(named)) for path in TABLE[stage].files]
    return {_shown(project, path): storage.file_digest(path) for path in paths if path.exists()}


def recorded_path(project: Project, recorded: str) -> Path:
    """The file of a recorded path: inside the project a relative one, else absolute (an export
    to another folder)."""
    path = Path(recorded)
    return path if path.is_absolute() else project.path(recorded)


class _Verifier:
    """One pass over a project."""

    def __init__(self, project: Project, emit: Emit):
        self.project, self.emit = project, emit
        self.report = Report()

    def run(self) -> Report:
        for kind, check in (
            ("records", self._records),
            ("images", self._images),
            ("latents", self._latents),
            ("adapters", self._adapters),
            ("distilled", self._sets),
            ("exports", self._exports),
            ("captions", self._captions),
        ):
            try:
                self.report.checked[kind] = check()
            except DPDError as error:
                self._differs(
                    error.where or self.project.root,
                    "damaged",
                    error.what,
                    error.fix or "Run the stage that writes it again.",
                )
        return self.report

    def _records(self) -> int:
        """The stages' records, and the files they name."""
        count = 0
        for stage in STAGES:
            record = self.project.record(stage)
            if record is None:
                continue
            again = f"Run the stage '{stage}' again."
            if record["id"] != record_id(stage, record):
                self._differs(
                    self.project.manifest_path,
                    "changed",
                    f"the record of the stage '{stage}' does not fit its id.",
                    again,
                )
            for name, digest in record["files"].items():
                count += self._file(recorded_path(self.project, name), digest, again)
        return count

    def _images(self) -> int:
        if not self.project.path("dataset", "index.json").exists():
            return 0
        images = load_index(self.project).images
        fix = "Put the file back, or run the stage 'dataset' again."
        meter = Meter(self.emit, STAGE, len(images), message="reading the data set's images")
        return sum(self._file(image.path, image.sha256, fix) for image in meter.over(images))

    def _latents(self) -> int:
        shards = storage.whole(self.project.path("latents"), "*.safetensors")
        for path in shards:
            fault = shard_fault(path)
            if fault:
                self._differs(
                    path,
                    "damaged",
                    f"its latents are not what was written ({fault}).",
                    "Delete it; the next stage encodes its images again.",
                )
        return len(shards)

    def _adapters(self) -> int:
        count = 0
        for path in storage.whole(self.project.path("adapters"), "*/adapter.json"):
            fix = f"Delete the folder {path.parent.name} and run the stage 'train' again."
            record = self._json(path, ("id", "recipe"), fix)
            if record is None:
                continue
            if not record["id"] == path.parent.name == storage.digest(record["recipe"]):
                self._differs(path, "changed", "the adapter's recipe does not fit its id.", fix)
            count += self._files(path.parent, record.get("files"), path, fix)
        return count

    def _sets(self) -> int:
        count = 0
        again = "Delete it and run the stage 'synthesize' again with the same settings."
        for path in sorted(self.project.path("distilled").glob("*/recipe.json")):
            root = path.parent
            recipe = self._json(path, ("identity", "recipe"), again)
            if recipe and recipe["identity"] != storage.digest(recipe["recipe"]):
                self._differs(path, "changed", "the recipe does not fit its identity.", again)
            for slot in self._slots(root, recipe["identity"] if recipe else None, again):
                images = {slot.file: slot.image.sha256} | {
                    slot.candidate_file(candidate): candidate.sha256
                    for candidate in slot.candidates
                }
                for name, digest in images.items():
                    count += self._file(root / name, digest or None, again)
        return count

    def _slots(self, root: Path, recipe: str | None, again: str) -> Sequence[SlotRecord]:
        """The records of a set's slots: its manifest's, or of an unfinished set those there."""
        try:
            if not is_finished(root):
                self.report.remarks.append(f"{_shown(self.project, root)} is not finished yet.")
                return filled_slots(root)
            manifest = read_manifest(root)
        except ProjectError as error:
            self._differs(Path(error.where or root), "damaged", error.what, again)
            return ()
        if recipe and manifest.recipe != recipe:
            path = root / "manifest.json"
            self._differs(path, "changed", "the manifest is of another recipe.", again)
        return manifest.slots

    def _exports(self) -> int:
        count = 0
        folders = {
            path.parent for path in storage.whole(self.project.path("export"), "*/manifest.json")
        }
        record = self.project.record("export")
        if record and isinstance(record["result"].get("folder"), str):
            folders.add(recorded_path(self.project, record["result"]["folder"]))
        for folder in sorted(folders):
            fix = "Run the stage 'export' again."
            manifest = self._json(folder / "manifest.json", ("files",), fix)
            if manifest is not None:
                count += self._files(folder, manifest["files"], folder / "manifest.json", fix)
        return count

    def _captions(self) -> int:
        record = self.project.record("captions")
        if record is None:
            return 0
        if captions_digest(self.project) != record["result"].get("digest"):
            self.report.remarks.append("captions have been edited since they were made.")
        return 1

    def _files(self, root: Path, files: Any, where: Path, fix: str) -> int:
        """Files listed with their digests by a file beside them."""
        if files is None:
            self.report.unrecorded.append(_shown(self.project, root))
            return 0
        if not isinstance(files, dict):
            self._differs(where, "damaged", "its list of files is none.", fix)
            return 0
        count = 0
        for name, digest in files.items():
            path = self._inside(root, name, where, fix)
            count += self._file(path, digest, fix) if path else 0
        return count

    def _file(self, path: Path, digest: Any, fix: str) -> int:
        """Compare one file; returns how many were compared."""
        if digest is None:
            self.report.unrecorded.append(_shown(self.project, path))
            return 0
        try:
            if not path.exists():
                self._differs(path, "missing", "the file is missing.", fix)
            elif not path.is_file():
                self._differs(path, "damaged", "not a regular file.", fix)
            elif storage.file_digest(path) != digest:
                self._differs(path, "changed", "its content is not what was recorded.", fix)
        except (OSError, ValueError) as error:  # ValueError: a NUL in a forged name
            self._differs(path, "damaged", f"cannot be read ({error}).", fix)
        return 1

    def _inside(self, root: Path, name: Any, where: Path, fix: str) -> Path | None:
        """A listed file, or ``None`` and a difference if the list leads out of its folder."""
        if isinstance(name, str) and "\0" not in name:
            path = root / name
            if path.resolve().is_relative_to(root.resolve()):
                return path
        self._differs(where, "damaged", f"it names {name!r}, which is not in its folder.", fix)
        return None

    def _json(self, path: Path, keys: tuple[str, ...], fix: str) -> dict[str, Any] | None:
        """A JSON object with these keys, or ``None`` and a difference."""
        try:
            content = storage.read_json(path, fix=fix)
        except DPDError as error:
            fault = "damaged" if path.exists() else "missing"
            self._differs(path, fault, error.what, fix)
            return None
        if not isinstance(content, dict) or not all(key in content for key in keys):
            self._differs(path, "damaged", f"it lacks {' or '.join(keys)}.", fix)
            return None
        return content

    def _differs(self, path: str | Path, fault: str, what: str, fix: str) -> None:
        shown = _shown(self.project, Path(path))
        self.report.differences.append(Difference(shown, fault, what, fix))


def as_text(report: Report) -> str:
    """The report for a terminal, one line a difference."""
    counts = ", ".join(f"{count} {kind}" for kind, count in report.checked.items() if count)
    lines = [
        f"{difference.file}: {difference.fault}: {difference.what} {difference.fix}"
        for difference in report.differences
    ]
    lines += [f"remark: {remark}" for remark in report.remarks]
    if report.unrecorded:
        lines.append(
            f"{len(report.unrecorded)} without a digest on record: "
            + json.dumps(report.unrecorded[:5], ensure_ascii=False)
        )
    lines.append(f"checked {counts or 'nothing'}: {len(report.differences) or 'no'} differences")
    return "\n".join(lines)


def _shown(project: Project, path: Path) -> str:
    inside = path.is_relative_to(project.root)
    return path.relative_to(project.root).as_posix() if inside else str(path)
