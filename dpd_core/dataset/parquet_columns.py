"""Which columns of a Parquet file hold the images, their classes and captions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow
from pyarrow import types

from dpd_core.dataset import words
from dpd_core.dataset.table_links import LABEL_COLUMNS
from dpd_core.errors import DatasetError

_IMAGE_WORDS = frozenset(
    ["image", "images", "img", "picture", "pictures", "photo", "scene", "tile", "jpg", "png"]
)


_NOT_THE_IMAGE = frozenset(
    ["thumbnail", "thumb", "preview", "mask", "label", "segmentation", "depth", "small"]
)


_LABEL_WORDS = frozenset(
    ["label", "class", "category", "target", "scene", "cover", "landcover", "landuse", "type"]
)


_NOT_CLASSES = frozenset(
    ["id", "path", "file", "filename", "name", "url", "split", "caption", "text"]
)


_CAPTIONS = ("caption", "text", "description", "prompt")


@dataclass(frozen=True)
class Columns:
    """The columns that are used: ``names`` are those of numbered classes, ``others`` what else
    could have been the images or the classes."""

    image: str
    label: str
    names: tuple[str, ...] | None
    caption: str | None
    other_images: tuple[str, ...]
    other_labels: tuple[str, ...]

    @property
    def text(self) -> str:
        """Said to the user."""
        text = f"Parquet: images from the column {self.image}, classes from {self.label}"
        if self.other_images:
            text += f" (not the images in {', '.join(self.other_images)})"
        return text


def choose_columns(schema: pyarrow.Schema, data: str, column: str = "") -> Columns:
    """The image and class columns of a table, by type and name.

    Raises:
        DatasetError: there is none, saying of which kind.
    """
    images = image_columns(schema)
    if not images:
        raise DatasetError(
            f"the data set has no image column; its columns are {_listed(schema)}.",
            where=data,
            fix="Images belong into a column of bytes, or of structs with bytes and path.",
        )
    features = _features(schema)
    labels = _label_columns(schema, images, features)
    if column and column not in schema.names:
        raise DatasetError(
            f"there is no column {column}; the columns are {_listed(schema)}.", where=data
        )
    if not labels and not column:
        raise DatasetError(
            f"the data set has no class column; its columns are {_listed(schema)}.",
            where=data,
            fix="A column of texts or whole numbers named label is needed, or name yours with "
            "--layout parquet:COLUMN.",
        )
    label = column or labels[0]
    names = features.get(label, {}).get("names")
    captions = [c for c in _CAPTIONS if c in schema.names and c != label]
    return Columns(
        images[0],
        label,
        tuple(map(str, names)) if names else None,
        captions[0] if captions and _is_text(schema.field(captions[0]).type) else None,
        tuple(images[1:]),
        tuple(name for name in labels if name != label),
    )


def _listed(schema: pyarrow.Schema) -> str:
    return ", ".join(f"{field.name} ({str(field.type)[:40]})" for field in schema)


def _features(schema: pyarrow.Schema) -> dict[str, Any]:
    """What the ``datasets`` library noted of the columns."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = noted["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    flat = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else None
        flat[name] = inner if isinstance(inner, dict) else {}
    return flat


def image_columns(schema: pyarrow.Schema) -> list[str]:
    """Columns of images, those whose name says so first, small copies and masks last."""

    def holds(kind: pyarrow.DataType) -> bool:
        if types.is_struct(kind):
            return any(f.name == "bytes" and _is_binary(f.type) for f in kind)
        if types.is_list(kind) or types.is_large_list(kind):
            return types.is_struct(kind.value_type) and holds(kind.value_type)
        return _is_binary(kind)

    def rank(name: str) -> tuple[bool, bool]:
        said = set(words.words(name))
        return (bool(said & _NOT_THE_IMAGE), not said & _IMAGE_WORDS)

    return sorted((field.name for field in schema if holds(field.type)), key=rank)


def _is_binary(kind: pyarrow.DataType) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_text(kind: pyarrow.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


def _label_columns(
    schema: pyarrow.Schema, images: Sequence[str], features: Mapping[str, Any]
) -> list[str]:
    """Columns that can hold classes, the likeliest first: named classes, texts, numbers."""
    ranked = []
    for number, field in enumerate(schema):
        kind = field.type
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            kind = kind.value_type
        if types.is_dictionary(kind):
            kind = kind.value_type
        usable = _is_text(kind) or types.is_integer(kind) or types.is_boolean(kind)
        said = words.words(field.name)
        plain = "_".join(said)
        known = plain in LABEL_COLUMNS and plain not in ("name", "id")
        part = bool(set(said) & _LABEL_WORDS) and not set(said) & (_NOT_CLASSES - {"name", "text"})
        named = bool(features.get(field.name, {}).get("names"))
        if field.name in images or not usable or not (known or part or named):
            continue
        rank = LABEL_COLUMNS.index(plain) if known else len(LABEL_COLUMNS)
        ranked.append((not named, not _is_text(kind), not known, rank, number, field.name))
    return [entry[-1] for entry in sorted(ranked)]
