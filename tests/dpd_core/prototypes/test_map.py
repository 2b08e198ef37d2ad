"""The map: seeded, cached, and safe for any number of points."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dpd_core.events import Event
from dpd_core.project import Project
from dpd_core.prototypes import map as projection
from dpd_core.prototypes.map import project_map, write_first_map, write_map
from dpd_core.prototypes.map_file import FIRST, read_map

ROOT = Path(__file__).parents[3]
AFTER_A_MAP = """
import numpy, torch
from dpd_core.prototypes.map import project_map
before = torch.get_num_threads()
project_map(numpy.random.default_rng(0).normal(size=(9, 4)))
print(before, torch.get_num_threads())
"""


def clouds(count: int, dimensions: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Three well separated normal clouds and the cloud of each point."""
    rng = np.random.default_rng(0)
    cloud = np.arange(count) % 3
    centers = 8 * np.eye(3, dimensions)
    return (centers[cloud] + rng.normal(size=(count, dimensions))).astype(np.float32), cloud


def separated(points: np.ndarray, cloud: np.ndarray) -> float:
    """Share of points whose nearest other point is of the same cloud."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((cloud[distances.argmin(1)] == cloud).mean())


def test_the_same_seed_gives_the_same_map_and_keeps_clouds_apart() -> None:
    vectors, cloud = clouds(90)
    points = project_map(vectors, neighbors=10, seed=1)
    assert points.shape == (90, 2)
    assert points.dtype == np.float32
    assert np.array_equal(points, project_map(vectors, neighbors=10, seed=1))
    assert not np.array_equal(points, project_map(vectors, neighbors=10, seed=2))
    assert separated(points, cloud) > 0.95


def test_a_map_leaves_torch_its_number_of_threads() -> None:
    """Else what is sampled after a map, in the same process, is rounded otherwise than before."""
    # Without compiling, which has no part in it and takes most of the time.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}
    environment |= {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", AFTER_A_MAP]
    said = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert said.stdout.split() == ["1", "1"], said.stderr


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 9, 16])
def test_any_number_of_points_gets_finite_places(count: int) -> None:
    vectors, _ = clouds(count)
    points = project_map(vectors, neighbors=15)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


def test_equal_points_fall_together() -> None:
    points = project_map(np.ones((30, 4)))
    assert np.array_equal(points, np.zeros((30, 2)))


def test_many_duplicates_do_not_break_the_layout() -> None:
    vectors, _ = clouds(60)
    vectors[:40] = vectors[0]
    assert np.isfinite(project_map(vectors, neighbors=5)).all()


def test_three_points_keep_their_distances() -> None:
    vectors = np.array([[0, 0, 0], [3, 0, 0], [0, 4, 0]], dtype=np.float32)
    points = project_map(vectors)
    assert np.linalg.norm(points[1] - points[2]) == pytest.approx(5, rel=1e-5)


def test_points_over_the_limit_go_to_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "FIT_LIMIT", 60)
    vectors, cloud = clouds(150)
    points = project_map(vectors, neighbors=8)
    assert np.isfinite(points).all()
    assert separated(points, cloud) > 0.95


def test_not_finite_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        project_map(np.array([[0.0, np.nan]] * 6))


def test_the_map_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.create(tmp_path / "project")
    vectors, _ = clouds(12)
    ids = [f"a/{n}.png" for n in range(12)]
    settings = {"neighbors": 4, "min_dist": 0.1, "seed": 0}
    events: list[Event] = []
    first = write_map(project, ids, vectors, **settings, emit=events.append)
    assert len(events) == 1
    assert read_map(project) == first
    assert first["ids"] == ids
    assert len(first["x"]) == len(first["y"]) == 12

    monkeypatch.setattr(projection, "project_map", lambda *a, **k: pytest.fail("computed again"))
    assert write_map(project, ids, vectors, **settings, emit=events.append) == first
    assert len(events) == 1


def test_a_first_map_is_there_until_the_other_is(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project")
    vectors, cloud = clouds(40)
    ids = [f"a/{n}.png" for n in range(40)]
    write_first_map(project, ids, vectors)
    first = read_map(project)
    assert first is not None
    assert first["key"].startswith(FIRST)
    assert separated(np.stack([first["x"], first["y"]], 1), cloud) > 0.95
    second = write_map(project, ids, vectors, neighbors=8, seed=0)
    assert not second["key"].startswith(FIRST)
    write_first_map(project, ids, vectors)
    assert read_map(project) == second, "a better map stays"
    write_first_map(project, ids[1:], vectors[1:])
    assert len(read_map(project)["ids"]) == 39


def test_components_are_the_same_either_way() -> None:
    vectors, _ = clouds(30)
    by_covariance = projection._pca(vectors)
    wide = np.concatenate([vectors, np.zeros((30, 40), np.float32)], 1)
    assert np.abs(projection._pca(wide) - by_covariance).max() < 1e-3


@pytest.mark.parametrize("change", ["vectors", "ids", "neighbors", "seed"])
def test_the_map_is_made_again_when_what_it_shows_has_changed(tmp_path: Path, change: str) -> None:
    project = Project.create(tmp_path / "project")
    vectors, _ = clouds(4)
    given = {"ids": list("abcd"), "vectors": vectors, "neighbors": 4, "seed": 0, "min_dist": 0.1}
    key = write_map(project, **given)["key"]
    other = {"vectors": vectors + 1, "ids": list("abce"), "neighbors": 5, "seed": 1}[change]
    assert write_map(project, **{**given, change: other})["key"] != key
