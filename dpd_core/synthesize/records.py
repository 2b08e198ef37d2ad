"""The records of a distilled set: recipe, slots with their candidates, manifest.

They are checked when they are read, since people edit and share these files; see
:mod:`dpd_core.synthesize.sets` for where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

from pydantic import Field, StrictBool, StrictStr, TypeAdapter, ValidationError

from dpd_core import storage
from dpd_core.errors import ProjectError
from dpd_core.prototypes.files import Slot

BY_SCORE: Final = "score"
BY_HAND: Final = "hand"
"""Who chose a slot's image."""
FIX = "Run the stage 'synthesize' again."

_Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


@dataclass(frozen=True)
class Candidate:
    """One image that was made for a slot.

    Attributes:
        index: Number in its slot, from 0; part of the file's name.
        seed: Seed of its noise.
        score: By the strategy's selection rule, see :mod:`dpd_core.synthesize.selection` and
            :mod:`dpd_core.synthesize.choice`; the largest is chosen.
        predicted: What the latent classifier takes it for.
        sha256: Of its file; empty until it is written.
        round: 0 if the stage sampled it, else the round in which the slot was sampled anew.
        members: Ids of the real images that its start was joined of; empty: of another start.
        features, layout: How near it comes to a real training image, see
            :mod:`dpd_core.students.copies`; ``None``: not measured.
        refused: Whether that is too near.
    """

    index: _Count
    seed: _Count
    score: _Number
    predicted: StrictStr
    sha256: StrictStr = ""
    round: _Count = 0
    members: tuple[StrictStr, ...] = ()
    features: _Number | None = None
    layout: _Number | None = None
    refused: StrictBool = False


@dataclass(frozen=True)
class SlotRecord:
    """One image of a distilled set, and how it came about.

    Attributes:
        class_name, number: The slot.
        file: Its image, below the set's folder: ``<class folder>/<number>.png``.
        size: Side of its images in pixels.
        prototype_id: Image id of the prototype.
        caption, caption_version: The text it was made from, and its version in the caption log.
        candidates: Those that were made for it; of many, the best.
        chosen: Place of the one that is the slot's image.
        chosen_by: ``score`` or ``hand``.
        pinned: Whether it is kept when the set is made again.
        round: How often it was sampled anew.
        from_set: The set it was taken over from; empty: it was made for this one.
        sampled, refused: How many candidates were made, and how many of them refused as copies;
            0 where all are still there.
    """

    class_name: Annotated[StrictStr, Field(alias="class")]
    number: Annotated[_Count, Field(alias="slot")]
    file: StrictStr
    size: _Count
    prototype_id: StrictStr
    caption: StrictStr
    caption_version: _Count
    candidates: tuple[Candidate, ...]
    chosen: _Count
    chosen_by: Literal["score", "hand"] = BY_SCORE
    pinned: StrictBool = False
    round: _Count = 0
    from_set: StrictStr = ""
    sampled: _Count = 0
    refused: _Count = 0

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        strange = path.is_absolute() or ".." in path.parts or set("\\:\0") & set(self.file)
        if strange or len(path.parts) != 2 or path.suffix != ".png":
            raise ValueError(f"the file {self.file!r} lies outside the set")
        if self.chosen >= len(self.candidates):
            raise ValueError("the chosen candidate is none of the slot's")
        if len({candidate.index for candidate in self.candidates}) != len(self.candidates):
            raise ValueError("two candidates have one index")

    @property
    def slot(self) -> Slot:
        """The slot."""
        return Slot(self.class_name, self.number)

    @property
    def image(self) -> Candidate:
        """The chosen candidate."""
        return self.candidates[self.chosen]

    @property
    def score(self) -> float:
        """Score of the chosen candidate."""
        return self.image.score

    @property
    def is_right(self) -> bool:
        """Whether the latent classifier takes the image for what it is."""
        return self.image.predicted == self.class_name

    def candidate_file(self, candidate: Candidate) -> str:
        """Where a candidate lies, below the set's folder."""
        return f"candidates/{self.file.removesuffix('.png')}-{candidate.index}.png"

    def find(self, index: int) -> Candidate:
        """The candidate of an index.

        Raises:
            ProjectError: there is none.
        """
        for candidate in self.candidates:
            if candidate.index == index:
                return candidate
        raise ProjectError(
            f"{self.slot} has no candidate {index!r}.",
            fix=f"It has {len(self.candidates)}, counted from 0.",
        )


class PlannedSlot(NamedTuple):
    """A slot as the recipe plans it."""

    class_name: StrictStr
    number: _Count
    prototype_id: StrictStr
    caption: StrictStr

    @property
    def slot(self) -> Slot:
        """The slot."""
        return Slot(self.class_name, self.number)


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a set.

    Attributes:
        model: Identity of the model.
        adapter: Its id, ``None``: the plain model.
        classifier: Key of the latent classifier.
        latents: Key of the training images' latents.
        seed: Project seed.
        strategy: Definition of the strategy.
        settings: Of the stage.
        slots: All of the set, in its order.
        kept: Slots taken over from another set: class, number, digest of the image.
        members: Digest of what each slot's members are; empty where none is started from.
    """

    model: StrictStr
    adapter: StrictStr | None
    classifier: StrictStr
    latents: StrictStr
    seed: _Count
    strategy: dict[str, Any]
    settings: dict[str, Any]
    slots: tuple[PlannedSlot, ...]
    kept: tuple[tuple[StrictStr, _Count, StrictStr], ...] = ()
    members: StrictStr = ""

    @property
    def identity(self) -> str:
        """Digest of it all."""
        return storage.digest(to_json(self))


@dataclass(frozen=True)
class Manifest:
    """A finished set.

    Attributes:
        name: Its name.
        strategy: Name of the strategy.
        recipe: Identity of its recipe.
        model, model_identity: As the project names the model, and which it was.
        adapter: Its id, ``None``: the plain model.
        image_size: Side of the images in pixels.
        seed: Project seed.
        settings: Of the stage.
        slots: In the order of the set.
    """

    name: StrictStr
    strategy: StrictStr
    recipe: StrictStr
    model: StrictStr
    model_identity: StrictStr
    adapter: StrictStr | None
    image_size: _Count
    seed: _Count
    settings: dict[str, Any]
    slots: tuple[SlotRecord, ...]


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as it lies on disk: with the set's name, and its identity when it was written."""

    name: StrictStr
    identity: StrictStr
    recipe: Recipe


@dataclass(frozen=True)
class Pending:
    """Slots that are about to be changed in a finished set."""

    slots: tuple[SlotRecord, ...]


Record = TypeVar("Record", Manifest, SlotRecord, Recipe, RecipeFile, Pending)

_ADAPTERS: dict[type, TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (Manifest, SlotRecord, Recipe, RecipeFile, Pending)
}


def to_json(record: Manifest | SlotRecord | Recipe | RecipeFile | Pending) -> dict[str, Any]:
    """A record as JSON-able values; what is as usual is left out."""
    content: dict[str, Any] = _ADAPTERS[type(record)].dump_python(
        record, mode="json", by_alias=True, exclude_defaults=True
    )
    return content


def read(path: Path, kind: type[Record]) -> Record:
    """A record from its file.

    Raises:
        ProjectError: it is missing, or not such a record.
    """
    content = storage.read_json(path, fix=FIX)
    try:
        record: Record = _ADAPTERS[kind].validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ProjectError(
            f"the file is damaged ({where}{': ' * bool(where)}{first['msg']}).", where=path, fix=FIX
        ) from None
    return record
