"""The bundled scene generator: determinism, scale independence and truthful captions."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from dpd_core.bundled.scene_captions import number_word
from dpd_core.bundled.scenes import SCENE_CLASSES, Scene, render_scene

# class -> (attribute, noun in the caption)
COUNTED = {
    "airplane": ("count", "airplane"),
    "baseball diamond": ("count", "baseball diamond"),
    "circular fields": ("count", "circular fields"),
    "golf course": ("bunkers", "sand bunker"),
    "harbor": ("piers", "pier"),
    "industrial area": ("halls", "large hall"),
    "intersection": ("cars", "car"),
    "lake": ("islands", "island"),
    "railway": ("tracks", "track"),
    "roundabout": ("arms", "arms"),
    "sparse residential": ("houses", "detached house"),
    "storage tanks": ("count", "storage tanks"),
    "tennis court": ("count", "tennis court"),
}


def pixels(scene: Scene) -> np.ndarray:
    return np.asarray(scene.image, dtype=np.float32)


@pytest.fixture(scope="module")
def many() -> dict[str, list[Scene]]:
    return {
        name: [render_scene(name, seed=s, size=16) for s in range(30)] for name in SCENE_CLASSES
    }


def test_there_are_twenty_classes_in_order() -> None:
    assert len(SCENE_CLASSES) == 20
    assert list(SCENE_CLASSES) == sorted(SCENE_CLASSES)


@pytest.mark.parametrize("name", SCENE_CLASSES)
def test_same_arguments_give_identical_scene(name: str) -> None:
    a, b = render_scene(name, seed=7), render_scene(name, seed=7)
    assert a.image.mode == "RGB" and a.image.size == (64, 64)
    assert a.class_name == name
    assert a.image.tobytes() == b.image.tobytes()
    assert (a.caption, a.attributes) == (b.caption, b.attributes)


@pytest.mark.parametrize("name", SCENE_CLASSES)
def test_same_seed_shows_same_scene_at_another_size(name: str) -> None:
    small, large = render_scene(name, seed=3, size=64), render_scene(name, seed=3, size=128)
    shrunk = np.asarray(large.image.resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    # thin shapes are drawn up to an eighth of a pixel wider at the small size
    assert np.abs(shrunk - pixels(small)).mean() < 4.5
    assert small.attributes == large.attributes
    assert small.caption == large.caption


@pytest.mark.parametrize("name", SCENE_CLASSES)
def test_seeds_differ_and_use_the_tonal_range(name: str, many: dict[str, list[Scene]]) -> None:
    scenes = many[name]
    assert len({s.image.tobytes() for s in scenes}) == len(scenes)
    assert len({s.caption for s in scenes}) > 15
    stack = np.stack([pixels(s) for s in scenes])
    assert stack.std(axis=0).mean() > 10  # layout and palette vary between seeds
    assert 40 < stack.mean() < 200


@pytest.mark.parametrize("name", SCENE_CLASSES)
def test_captions_are_plain_and_name_only_their_class(
    name: str, many: dict[str, list[Scene]]
) -> None:
    others = [c for c in SCENE_CLASSES if c != name]
    for scene in many[name]:
        caption = scene.caption
        assert caption.startswith("a satellite image of ")
        assert name in caption
        assert caption == caption.lower() and not caption.endswith(".")
        assert 8 <= len(caption.split()) <= 25, caption
        assert "  " not in caption and "none" not in caption.split()
        assert not [c for c in others if re.search(rf"\b{c}s?\b", caption)], caption


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_counts_in_captions_agree_with_attributes(name: str, many: dict[str, list[Scene]]) -> None:
    attribute, noun = COUNTED[name]
    numbers = "|".join(number_word(n) for n in range(17))
    adjectives = (
        "(?:parallel |white |silver |light grey |rust brown |green |blue |red clay |purple )?"
    )
    found = 0
    for scene in many[name]:
        match = re.search(rf"\b({numbers}) {adjectives}{noun}", scene.caption)
        if match:
            found += 1
            assert match[1] == number_word(int(scene.attributes[attribute])), scene.caption
    assert found >= 2


def test_sea_lies_on_the_named_side() -> None:
    for seed in range(12):
        scene = render_scene("beach", seed=seed)
        image = pixels(scene)
        blueness = image[..., 2] - image[..., 0]
        ends = {
            "top": blueness[:16],
            "bottom": blueness[-16:],
            "left": blueness[:, :16],
            "right": blueness[:, -16:],
        }
        assert max(ends, key=lambda side: ends[side].mean()) == scene.attributes["sea_side"]


def test_number_words() -> None:
    assert [number_word(n) for n in (1, 12, 20, 40)] == ["one", "twelve", "many", "dozens of"]


def test_unknown_class_and_bad_size_are_explained() -> None:
    with pytest.raises(ValueError, match="volcano.*airplane.*tennis court"):
        render_scene("volcano", seed=0)
    with pytest.raises(ValueError, match="at least 8"):
        render_scene("lake", seed=0, size=4)
