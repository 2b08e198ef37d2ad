"""One picture of a distilled set: each prototype beside the image made from it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dpd_core import storage
from dpd_core.dataset.images import open_rgb, to_square
from dpd_core.dataset.index import DatasetIndex
from dpd_core.dataset.pixels import open_record
from dpd_core.synthesize.records import SlotRecord
from dpd_core.synthesize.sets import DistilledSet

CELL = 96
"""Side of each shown image in pixels."""
MARGIN = 6
TITLE = 22


def write_contact_sheet(distilled: DistilledSet, index: DatasetIndex, *, slots: int = 5) -> Path:
    """Write ``contact_sheet.png`` into the set's folder: a row a class, left of each pair the
    prototype, right the distilled image.

    Args:
        distilled: A finished set.
        index: The data set its prototypes come from.
        slots: Pairs shown for each class, at most.

    Returns:
        The file.
    """
    rows: dict[str, list[SlotRecord]] = defaultdict(list)
    for slot in distilled.slots:
        rows[slot.class_name].append(slot)
    originals = {record.id: record for record in index.images}
    columns = min(max(map(len, rows.values())), slots)
    pair = 2 * CELL + MARGIN
    width = MARGIN + columns * (pair + MARGIN)
    height = TITLE + len(rows) * (TITLE + CELL + MARGIN)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    draw.text(
        (MARGIN, 3),
        "left: prototype (real)   right: distilled (synthetic)",
        fill="#555555",
        font=font,
    )
    for row, (class_name, members) in enumerate(rows.items()):
        top = TITLE + row * (TITLE + CELL + MARGIN)
        draw.text((MARGIN, top + 2), _drawable(index.readable(class_name)), fill="black", font=font)
        for column, slot in enumerate(members[:columns]):
            left = MARGIN + column * (pair + MARGIN)
            original = originals.get(slot.prototype_id)
            if original is not None:
                sheet.paste(_cell(open_record(original)), (left, top + TITLE))
            sheet.paste(
                _cell(open_rgb(distilled.path(slot))), (left + CELL + MARGIN // 2, top + TITLE)
            )
    path = distilled.root / "contact_sheet.png"
    with storage.atomic_path(path) as temporary:
        sheet.save(temporary)
    return path


def _cell(image: Image.Image) -> Image.Image:
    # Small images are enlarged without smoothing, so that the sheet shows their true pixels.
    resample = Image.Resampling.NEAREST if image.width < CELL else Image.Resampling.LANCZOS
    return to_square(image, min(image.size)).resize((CELL, CELL), resample)


def _drawable(text: str) -> str:
    # The built-in font has Latin letters only.
    return text.encode("latin-1", "replace").decode("latin-1")
