"""Captions of real images say what is in them, where, and nothing else."""

import numpy as np
from PIL import Image

from dpd_core.bundled import descriptions
from dpd_core.bundled.descriptions import caption, confirmed, measure, statements
from dpd_core.dataset.demo import FOLDER


def stripes(period: int = 8) -> np.ndarray:
    image = np.full((64, 64, 3), 60, np.uint8)
    image[:, ::period] = image[:, 1::period] = image[:, 2::period] = 200
    return image


def demo_images(name: str, count: int) -> list[np.ndarray]:
    files = sorted((FOLDER / name).glob("*.jpg"))[:count]
    return [np.asarray(Image.open(path).convert("RGB")) for path in files]


def test_lines_are_named_by_where_they_lead():
    assert "lines running north to south" in caption(stripes())
    assert "lines running east to west" in caption(stripes().transpose(1, 0, 2))
    row, column = np.mgrid[:64, :64]
    falling = np.where((row - column) % 12 < 6, 200, 0).astype(np.uint8)[..., None].repeat(3, 2)
    assert "lines running northwest to southeast" in caption(falling)
    assert "lines running northeast to southwest" in caption(falling[:, ::-1])


def test_what_lies_in_a_corner_is_said_to_lie_there():
    image = np.full((64, 64, 3), (160, 130, 100), np.uint8)
    image[:28, :28] = (60, 110, 50)
    said = statements(measure(image))
    assert "vegetation over a small part in the upper left" in said
    assert "a dark patch in the upper left" in said
    mirrored = statements(measure(image[:, ::-1]))
    assert "vegetation over a small part in the upper right" in mirrored


def test_dark_smooth_ground_is_read_with_the_class_in_mind():
    dark = np.full((64, 64, 3), (40, 62, 74), np.uint8)
    assert "water all over" in caption(dark, "sea or lake")
    assert "vegetation all over" in caption(dark, "forest")
    assert "water" not in caption(dark, "forest")


def test_captions_of_one_class_differ():
    for name in ("river", "highway", "residential area", "annual crop"):
        said = [caption(image, name) for image in demo_images(name, 30)]
        assert len(set(said)) >= 27
        assert all(text.startswith(f"a satellite image of {name}, ") for text in said)


def test_every_statement_is_confirmed_on_its_image_and_few_on_another():
    images = demo_images("river", 12)
    own = [confirmed(caption(image, "river"), image, "river") for image in images]
    assert all(true == said for true, said in own)
    other = [
        confirmed(caption(image, "river"), images[place - 1], "river")
        for place, image in enumerate(images)
    ]
    assert sum(true for true, _ in other) < 0.7 * sum(said for _, said in other)


def test_statements_that_nobody_measured_are_not_confirmed():
    text = "a satellite image of river, with three boats, water all over the moon, mostly pink"
    assert confirmed(text, stripes(), "river") == (0, 3)
    assert confirmed("a satellite image of river", stripes(), "river") == (0, 0)


def test_an_image_has_several_captions_when_drawn():
    image = demo_images("river", 1)[0]
    rng = np.random.default_rng(0)
    drawn = {caption(image, "river", rng) for _ in range(20)}
    assert len(drawn) > 5
    allowed = set(statements(measure(image, "river")))
    for text in drawn:
        assert set(text.split(", ")[1:]) <= allowed
        assert len(text.split(", ")) >= 2


def test_a_plain_image_is_described_too():
    plain = np.full((64, 64, 3), (45, 68, 62), np.uint8)
    assert caption(plain, "forest") == (
        "a satellite image of forest, mostly dark green, vegetation all over, "
        "with a very smooth texture, dark"
    )
    assert descriptions.opening("") == "a satellite image"
