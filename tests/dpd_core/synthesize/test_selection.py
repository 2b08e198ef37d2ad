"""Each rule prefers what it says it prefers."""

import pytest
import torch

from dpd_core.synthesize.selection import RULES, Candidates, slot_difficulty

LATENTS = torch.zeros(3, 1, 2, 2)


def pool(logits: list[list[float]], **given: object) -> Candidates:
    rows = torch.tensor(logits)
    values = {
        "latents": torch.zeros(len(rows), 1, 2, 2),
        "prototype": torch.zeros(1, 2, 2),
        "others": torch.zeros(0, 1, 2, 2),
        **given,
    }
    return Candidates(rows, 0, **values)  # type: ignore[arg-type]


def test_the_margin_prefers_the_typical_candidate() -> None:
    scores = RULES["margin"](pool([[2.0, 1.9, 0.0], [1.5, 0.0, 0.1], [0.0, 5.0, 0.0]]))
    assert torch.allclose(scores, torch.tensor([0.1, 1.4, -5.0]))


def test_the_margin_of_a_single_class_is_its_logit() -> None:
    assert RULES["margin"](pool([[1.0], [2.0]])).argmax() == 1


def test_the_first_is_the_first() -> None:
    assert RULES["first"](pool([[0.0, 9.0], [9.0, 0.0]])).argmax() == 0


def test_right_ones_come_before_confident_ones() -> None:
    """The wrong one gives its class more probability than the right one."""
    candidates = pool([[2.0, 2.1, -9.0, -9.0], [1.0, 0.9, 0.9, 0.9], [3.0, 0.0, 0.0, 0.0]])
    order = RULES["correct"](candidates).argsort(descending=True).tolist()
    assert order == [2, 1, 0]


@pytest.mark.parametrize(("difficulty", "kept"), [(0.0, 0), (0.5, 1), (1.0, 2)])
def test_difficulty_picks_what_the_slot_stands_for(difficulty: float, kept: int) -> None:
    candidates = pool([[9.0, 0.0], [0.0, 0.0], [0.0, 9.0]], difficulty=difficulty)
    assert RULES["difficulty"](candidates).argmax() == kept


def test_the_slots_difficulties_are_those_of_the_real_images() -> None:
    real = torch.linspace(0, 1, 101)
    assert [round(slot_difficulty(real, slot, 5), 3) for slot in range(5)] == [
        0.1,
        0.3,
        0.5,
        0.7,
        0.9,
    ]


def test_diverse_keeps_away_from_what_other_slots_show() -> None:
    latents = torch.stack([torch.full((1, 2, 2), value) for value in (0.0, 0.9, -0.4)])
    others = torch.ones(1, 1, 2, 2)
    logits = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    scores = RULES["diverse"](pool(logits, latents=latents, others=others))
    # The second shows what the other slot shows; the third is of another class.
    assert scores.argsort(descending=True).tolist() == [0, 1, 2]
