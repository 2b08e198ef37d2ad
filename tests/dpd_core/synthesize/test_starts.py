"""Starts are joined of two members of the slot, seeded, and like no member."""

import numpy as np

from dpd_core.prototypes.files import Member, Slot
from dpd_core.synthesize.starts import MemberStarts, members_key, slot_members

SLOT, LONELY = Slot("beach", 0), Slot("beach", 1)
MEMBERS = {SLOT: ["a", "b", "c"], LONELY: ["d"]}
GREY = {"a": 0, "b": 100, "c": 200, "d": 250}


def image(image_id: str) -> np.ndarray:
    return np.full((32, 32, 3), GREY[image_id], dtype=np.uint8)


STARTS = MemberStarts(MEMBERS, image)


def test_start_shows_two_members_the_first_the_more() -> None:
    shares = []
    for seed in range(40):
        start, (first, second) = STARTS.start(SLOT, seed)
        assert first != second and {first, second} <= set(MEMBERS[SLOT])
        low, high = sorted((GREY[first], GREY[second]))
        assert start.min() < low + 30 and start.max() > high - 30, "both are seen plainly"
        nearer = np.abs(start.astype(int) - GREY[first]) < np.abs(start.astype(int) - GREY[second])
        shares.append(nearer.mean())
    assert 0.4 < min(shares) < 0.6 < 0.7 < max(shares) < 0.9


def test_start_is_determined_by_the_seed() -> None:
    assert np.array_equal(STARTS.start(SLOT, 5)[0], STARTS.start(SLOT, 5)[0])
    assert len({STARTS.start(SLOT, seed)[0].tobytes() for seed in range(20)}) == 20


def test_start_turns_and_mirrors_members() -> None:
    corner = np.zeros((32, 32, 3), dtype=np.uint8)
    corner[:8, 8:16] = 255
    starts = MemberStarts({SLOT: ["a", "b"]}, lambda _: corner)
    brightest = (starts.start(SLOT, seed)[0][..., 0].argmax() for seed in range(60))
    quarters = {(place // 32 // 8, place % 32 // 8) for place in brightest}
    assert len(quarters) == 8, "one for each orientation"


def test_a_slot_of_one_borrows_from_its_class() -> None:
    partners = {STARTS.start(LONELY, seed)[1] for seed in range(30)}
    assert {name for pair in partners for name in pair} == {"a", "b", "c", "d"}
    alone = MemberStarts({SLOT: ["a"]}, image)
    assert alone.start(SLOT, 0)[1] == ("a", "a")


def test_slot_members_leaves_outliers_out_where_others_are() -> None:
    def member(name: str, cluster: int, outlier: bool) -> Member:
        return Member(name, "beach", cluster, 0.0, 0.0, outlier, 0.0)

    members = {m.id: m for m in (member("a", 0, False), member("b", 0, True), member("c", 1, True))}
    found = slot_members(members)
    assert found == {Slot("beach", 0): ["a"], Slot("beach", 1): ["c"]}
    assert members_key(found) != members_key({**found, Slot("beach", 1): ["b"]})
