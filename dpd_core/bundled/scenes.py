"""Procedural top-down remote-sensing scenes: the bundled, licence-free image source.

Every scene is drawn from its class name and a seed alone, so a data set is described by
two numbers and can be rebuilt anywhere. The scenes serve to pretrain the small latent
diffusion model and captioner, and as the demo data set.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from .scene_canvas import Canvas
from .scene_captions import compose_caption
from .scene_painters import PAINTERS

SCENE_CLASSES: tuple[str, ...] = tuple(sorted(PAINTERS))


@dataclass(frozen=True)
class Scene:
    """One drawn scene.

    image: RGB, size x size pixels.
    class_name: one of SCENE_CLASSES.
    attributes: what was drawn. Counts are the numbers of objects with their centre inside
        the image; every scene has 'season' and 'light'.
    caption: a truthful English sentence made from the attributes.
    """

    image: Image.Image
    class_name: str
    attributes: dict[str, str | int | float] = field(default_factory=dict)
    caption: str = ""


def _generator(*parts: object) -> np.random.Generator:
    """Random source for the given parts; the same on every machine and Python run."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def render_scene(class_name: str, *, seed: int, size: int = 64) -> Scene:
    """Draw one scene.

    class_name: one of SCENE_CLASSES. seed: any integer; chooses layout, palette, season
    and wording. size: edge length in pixels, at least 8; the same seed at another size
    shows the same scene. The same arguments always give identical pixels and caption.

    Raises ValueError for an unknown class or a size below 8.
    """
    painter = PAINTERS.get(class_name)
    if painter is None:
        known = ", ".join(SCENE_CLASSES)
        raise ValueError(f"Unknown scene class {class_name!r}. Known classes: {known}.")
    if size < 8:
        raise ValueError(f"Scene size must be at least 8 pixels, not {size}.")
    canvas = Canvas(_generator("scene", class_name, int(seed)), int(size))
    attributes = painter(canvas)
    attributes |= {"season": canvas.season, "light": canvas.light}
    # the wording has its own source so that editing a phrase never changes a picture
    caption = compose_caption(class_name, attributes, _generator("caption", class_name, int(seed)))
    return Scene(canvas.finish(), class_name, attributes, caption)
