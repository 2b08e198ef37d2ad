"""Each guidance term moves toward what it claims, and does what the paper's formula says."""

import math

import pytest
import torch

from dpd_core.models import guidance
from dpd_core.models.predictions import Level
from dpd_core.synthesize.strategies import get_strategy


def latents(seed: int, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_pull_raises_closeness_to_the_prototype() -> None:
    z_t, prototype = latents(0), latents(1)
    alpha_bar = torch.tensor(0.4)

    def clean(z: torch.Tensor) -> torch.Tensor:
        return z / alpha_bar.sqrt()  # the prediction of a model that expects no noise

    before = (prototype - clean(z_t)).flatten(1).norm(dim=1)
    pulled = guidance.prototype_pull(
        z_t, clean(z_t), prototype, level=Level.of(alpha_bar), scale=1.0
    )
    after = (prototype - clean(pulled)).flatten(1).norm(dim=1)
    assert (after < before).all()


def test_the_pull_has_the_published_length_and_direction() -> None:
    z_t, clean, prototype = latents(0), latents(1), latents(2)
    alpha_bar = torch.tensor(0.25)
    moved = (
        guidance.prototype_pull(z_t, clean, prototype, level=Level.of(alpha_bar), scale=2.0) - z_t
    )
    lengths = moved.flatten(1).norm(dim=1)
    assert torch.allclose(lengths, torch.full((3,), 2.0 * math.sqrt(0.75)), atol=1e-4)
    cosine = torch.cosine_similarity(moved.flatten(1), (prototype - clean).flatten(1))
    assert torch.allclose(cosine, torch.ones(3), atol=1e-5)


def test_a_pull_that_is_not_finite_leaves_that_sample_alone() -> None:
    z_t, clean, prototype = latents(0), latents(1), latents(2)
    clean[1] = prototype[1]  # zero distance: 0/0
    pulled = guidance.prototype_pull(
        z_t, clean, prototype, level=Level.of(torch.tensor(0.5)), scale=1.0
    )
    assert torch.equal(pulled[1], z_t[1])
    assert torch.isfinite(pulled).all()
    assert not torch.equal(pulled[0], z_t[0])


def test_the_spherical_target_lies_at_its_distance() -> None:
    prototype = latents(0)
    target = guidance.spherical_target(prototype, latents(1))
    distance = (target - prototype).flatten(1).norm(dim=1)
    assert torch.allclose(distance, torch.full((3,), 1 / math.sqrt(4 * 8 * 8)), atol=1e-5)


@pytest.mark.parametrize(("step", "active"), [(0, True), (39, True), (40, False), (49, False)])
def test_the_window_is_inclusive_in_shares_of_the_steps(step: int, active: bool) -> None:
    assert guidance.is_active(step, 50, start=0.0, end=0.8) is active


def test_a_single_step_is_the_first_one() -> None:
    assert guidance.is_active(0, 1, start=0.0, end=0.8)


def test_the_noised_start_has_the_variance_of_its_level() -> None:
    start = guidance.noised_start(
        torch.zeros(64, 4, 8, 8), latents(0, 64), level=Level.of(torch.tensor(0.36))
    )
    assert start.std().item() == pytest.approx(0.8, abs=0.01)


def test_classifier_free_guidance_extrapolates() -> None:
    low, high = torch.zeros(2), torch.ones(2)
    assert torch.equal(guidance.classifier_free(low, high, 7.5), 7.5 * high)
    assert torch.equal(guidance.classifier_free(low, high, 1.0), high)


def test_an_unknown_strategy_lists_the_known() -> None:
    with pytest.raises(Exception, match=r"Known strategies: dpd\+, dpd, d4m"):
        get_strategy("magic")
