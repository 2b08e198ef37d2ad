"""The pretraining corpus: procedural scenes and EuroSAT, 64 x 64 pixels, with captions.

Built once into ``WORK/corpus`` as one ``.npy`` image stack and one ``.json`` of captions per
class and split, each written atomically, so an interrupted build continues where it was.
Scene seeds below :data:`HELD_OUT_SEED` train; seeds from it on only ever measure.
"""

from __future__ import annotations

import hashlib
import json
import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

from dpd_core.dataset.class_names import readable_name
from dpd_core.storage import write_json

log = logging.getLogger(__name__)

IMAGE_SIZE = 64
HELD_OUT_SEED = 1_000_000
SPLITS = ("scenes-train", "scenes-test", "eurosat-train", "eurosat-test")

# Mean colour of a patch, 8-bit RGB, to the word nearest to it. Sentinel-2 patches are hazy
# and bluish, so the anchors sit closer to grey than the pure colours would.
_COLOUR_WORDS: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("dark green", (45, 68, 62)),
    ("green", (78, 100, 76)),
    ("pale green", (120, 135, 105)),
    ("dark blue", (40, 60, 85)),
    ("blue", (70, 95, 130)),
    ("blue grey", (95, 108, 120)),
    ("grey", (115, 115, 115)),
    ("pale grey", (160, 160, 160)),
    ("brown", (120, 98, 85)),
    ("tan", (150, 130, 110)),
    ("olive", (98, 98, 70)),
)


@dataclass(frozen=True)
class CorpusRecipe:
    """How many images of each kind the corpus holds, per class."""

    scenes_per_class: int = 1000
    scenes_test_per_class: int = 50
    eurosat_per_class: int = 1800
    eurosat_test_per_class: int = 100
    workers: int = 2


@dataclass(frozen=True)
class Split:
    """Images (n, 64, 64, 3) uint8 with labels (n,), class names and one caption an image."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)


def describe_patch(image: np.ndarray) -> list[str]:
    """Return phrases true of ``image`` (h, w, 3) uint8, each measured from its pixels."""
    import numpy as np

    pixels = image.astype(np.float32)
    mean = pixels.reshape(-1, 3).mean(0)
    distances = [float(np.square(mean - np.array(rgb)).sum()) for _, rgb in _COLOUR_WORDS]
    phrases = ["mostly " + _COLOUR_WORDS[int(np.argmin(distances))][0]]
    luminance = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    brightness = float(luminance.mean())
    if brightness > 125:
        phrases.append("bright")
    elif brightness < 75:
        phrases.append("dark")
    down, right = np.gradient(luminance)
    roughness = float(np.hypot(down, right).mean())
    if roughness < 2.5:
        phrases.append("with a smooth texture")
    elif roughness > 9:
        phrases.append("with a rough texture")
    # Structure tensor: the share of gradient energy in one direction, and which one.
    energy_x, energy_y = float((right**2).mean()), float((down**2).mean())
    cross = float((right * down).mean())
    total = energy_x + energy_y
    coherence = float(np.hypot(energy_x - energy_y, 2 * cross)) / max(total, 1e-6)
    if coherence > 0.4 and roughness > 2.5:
        # Lines run at right angles to the gradient; image rows point south.
        angle = np.degrees(0.5 * np.arctan2(2 * cross, energy_x - energy_y)) % 180
        index = int((angle + 22.5) // 45) % 4
        direction = (
            "north to south",
            "northeast to southwest",
            "east to west",
            "northwest to southeast",
        )[index]
        phrases.append("lines running " + direction)
    return phrases


def eurosat_caption(class_name: str, image: np.ndarray) -> str:
    """Return a caption naming the class, then what was measured in the pixels."""
    return ", ".join([f"a satellite image of {class_name}", *describe_patch(image)])


def eurosat_files(folder: Path, recipe: CorpusRecipe) -> dict[str, tuple[list[Path], list[Path]]]:
    """Return train and test files of each class folder, in order of the files' SHA-256.

    The order is a property of the content, so the same images are held out wherever the
    data set was unpacked and however its files are called.
    """
    chosen: dict[str, tuple[list[Path], list[Path]]] = {}
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [
            path
            for path in class_folder.iterdir()
            if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".tif"}
        ]
        ordered = sorted(files, key=lambda path: hashlib.sha256(path.read_bytes()).hexdigest())
        test = ordered[: recipe.eurosat_test_per_class]
        train = ordered[recipe.eurosat_test_per_class :][: recipe.eurosat_per_class]
        if files:
            chosen[class_folder.name] = (train, test)
    if not chosen:
        raise FileNotFoundError(
            f"No class folders with images in {folder}. Give the EuroSAT RGB folder that holds "
            "AnnualCrop, Forest and the other classes."
        )
    return chosen


def _write_part(base: Path, class_name: str, images: np.ndarray, captions: list[str]) -> None:
    """Write one class of one split; the JSON is renamed last and marks the part complete."""
    import numpy as np

    base.parent.mkdir(parents=True, exist_ok=True)
    temporary = base.with_name(base.name + ".part.npy")
    np.save(temporary, images)
    temporary.replace(base.with_name(base.name + ".npy"))
    write_json(base.with_name(base.name + ".json"), {"class": class_name, "captions": captions})


def _build_scene_part(base: Path, class_name: str, first_seed: int, count: int) -> str:
    import numpy as np

    from dpd_core.bundled.scenes import render_scene

    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    captions = []
    for index in range(count):
        scene = render_scene(class_name, seed=first_seed + index, size=IMAGE_SIZE)
        images[index] = np.asarray(scene.image.convert("RGB"))
        captions.append(scene.caption)
    _write_part(base, class_name, images, captions)
    return base.name


def _build_eurosat_part(base: Path, class_name: str, files: list[Path]) -> str:
    import numpy as np
    from PIL import Image

    images = np.empty((len(files), IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    captions = []
    for index, path in enumerate(files):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
            if image.size != (IMAGE_SIZE, IMAGE_SIZE):
                image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
            images[index] = np.asarray(image)
        captions.append(eurosat_caption(class_name, images[index]))
    _write_part(base, class_name, images, captions)
    return base.name


def build_corpus(work: Path, eurosat: Path, recipe: CorpusRecipe | None = None) -> None:
    """Write every missing part of the corpus below ``work/corpus``."""
    from dpd_core.bundled.scenes import SCENE_CLASSES

    recipe = recipe or CorpusRecipe()
    root = work / "corpus"
    if (root / "complete.json").exists():
        return
    with ProcessPoolExecutor(recipe.workers) as pool:
        pending = []
        for name in SCENE_CLASSES:
            slug = name.replace(" ", "_")
            for split, first, count in (
                ("scenes-train", 0, recipe.scenes_per_class),
                ("scenes-test", HELD_OUT_SEED, recipe.scenes_test_per_class),
            ):
                base = root / split / slug
                if not base.with_name(slug + ".json").exists():
                    pending.append(pool.submit(_build_scene_part, base, name, first, count))
        for folder_name, (train, test) in eurosat_files(eurosat, recipe).items():
            name = readable_name(folder_name)
            slug = name.replace(" ", "_")
            for split, files in (("eurosat-train", train), ("eurosat-test", test)):
                base = root / split / slug
                if not base.with_name(slug + ".json").exists():
                    pending.append(pool.submit(_build_eurosat_part, base, name, files))
        for done, future in enumerate(pending, start=1):
            log.info("corpus %d/%d: %s", done, len(pending), future.result())
    write_json(root / "complete.json", {"splits": list(SPLITS)})


def load_split(work: Path, split: str) -> Split:
    """Read one split of a built corpus into memory (about 12 kB an image)."""
    import numpy as np

    images, labels, names, captions = [], [], [], []
    for index, described in enumerate(sorted((work / "corpus" / split).glob("*.json"))):
        stored = json.loads(described.read_text(encoding="utf-8"))
        stack = np.load(described.with_suffix(".npy"))
        images.append(stack)
        labels.append(np.full(len(stack), index))
        names.append(stored["class"])
        captions.extend(stored["captions"])
    return Split(np.concatenate(images), np.concatenate(labels), tuple(names), tuple(captions))
