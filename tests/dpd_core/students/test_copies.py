"""Copies are found out, whatever was done to hide them; new images are not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dpd_core.dataset.demo import FOLDER
from dpd_core.dataset.images import open_rgb
from dpd_core.errors import DatasetError
from dpd_core.students import copies

CLASSES = ("highway", "industrial area", "residential area", "river")


def photographs(count: int, first: int) -> np.ndarray:
    """Real images of several classes, uint8 (count, 64, 64, 3); others for another ``first``."""
    files = [sorted((FOLDER / name).glob("*.jpg")) for name in CLASSES]
    mixed = [path for group in zip(*files, strict=False) for path in group]
    chosen = mixed[first : first + count]
    assert len(chosen) == count
    return np.stack([np.asarray(open_rgb(path)) for path in chosen])


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return photographs(100, 0)


@pytest.fixture(scope="module")
def references(real: np.ndarray) -> copies.References:
    return copies.prepare(real)


@pytest.fixture(scope="module")
def limit(references: copies.References) -> copies.Limits:
    return copies.limits(copies.nearest(photographs(100, 100), references))


def noisy(images: np.ndarray) -> np.ndarray:
    draws = np.random.default_rng(3).normal(0, 25, images.shape)
    return np.clip(images + draws, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "hidden",
    [
        noisy,
        lambda images: images[:, :, ::-1],
        lambda images: np.rot90(images, 1, (1, 2)),
        lambda images: gaussian_filter(images, (0, 2, 2, 0)),
        lambda images: noisy(np.rot90(images, 3, (1, 2))[:, ::-1]),
    ],
    ids=["noise", "mirror", "turned", "blur", "mirrored, turned and noisy"],
)
def test_nearest_finds_a_hidden_copy(hidden, real, references, limit) -> None:
    found = copies.nearest(np.ascontiguousarray(hidden(real[5:9])), references)
    assert found.above(limit).all()
    seen = (found.by_layout == [5, 6, 7, 8]) | (found.by_features == [5, 6, 7, 8])
    assert seen.all(), "it says of which image it is a copy"


def test_nearest_lets_unrelated_images_pass(references, limit) -> None:
    found = copies.nearest(photographs(40, 200), references)
    # Each of the two figures is above its limit for 5 % of new images.
    assert found.above(limit).mean() <= 0.25
    assert found.features.max() <= 1 + 1e-5
    assert found.ssim.max() < 0.99


def test_nearest_of_the_image_itself_is_one_by_every_measure(real, references) -> None:
    found = copies.nearest(real[:3], references)
    for kind in (found.features, found.layout, found.ssim):
        assert kind == pytest.approx([1, 1, 1], abs=1e-4)
    assert found.by_ssim.tolist() == [0, 1, 2]


def test_nearest_leaves_out_the_image_itself(real, references) -> None:
    found = copies.nearest(real[:5], references, exclude=np.arange(5))
    assert found.layout.max() < 0.999
    assert not (found.by_layout == np.arange(5)).any()
    assert not (found.by_ssim == np.arange(5)).any()


def test_nearest_says_how_near_each_reference_was_come_to(real, references) -> None:
    found = copies.nearest(noisy(real[[7]]), references)
    assert found.reached_layout.argmax() == 7
    assert len(found.reached_features) == len(real)


def test_prepared_queries_and_images_give_the_same(real, references) -> None:
    images = photographs(3, 250)
    upright, turned = (
        copies.nearest(images, references),
        copies.nearest(copies.turned(images), references),
    )
    assert np.array_equal(upright.features, turned.features)
    assert np.array_equal(upright.ssim, turned.ssim)


def test_oriented_gives_the_eight_of_a_square() -> None:
    image = np.arange(64 * 64 * 3).reshape(1, 64, 64, 3)
    found = copies.oriented(image)
    assert found.shape == (8, 1, 64, 64, 3)
    assert len({turned.tobytes() for turned in found}) == 8


def test_references_are_kept_by_content(tmp_path, real) -> None:
    first = copies.prepare(real[:4], cache=tmp_path)
    (file,) = tmp_path.iterdir()
    again = copies.prepare(real[:4], cache=tmp_path)
    assert np.array_equal(first.features, again.features)
    file.write_bytes(b"torn")
    assert np.array_equal(copies.prepare(real[:4], cache=tmp_path).features, first.features)
    copies.prepare(real[1:5], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_images_of_other_sides_are_compared_at_one(real, references) -> None:
    large = np.repeat(np.repeat(real[:2], 2, 1), 2, 2)
    found = copies.nearest(large, references)
    assert found.by_layout.tolist() == [0, 1]
    assert found.layout.min() > 0.99


@pytest.mark.parametrize("shape", [(2, 64, 32, 3), (2, 64, 64, 1), (0, 64, 64, 3)])
def test_images_that_cannot_be_compared_are_refused(shape, references) -> None:
    with pytest.raises(DatasetError):
        copies.nearest(np.zeros(shape, np.uint8), references)
