"""The minimax losses measure what they say, and remember the latest."""

import torch

from dpd_core.train import minimax

SHAPE = (2, 4, 4)
CPU = torch.device("cpu")


def latents(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_the_least_similar_real_latent_counts() -> None:
    clean = latents(0, 1)
    real = torch.stack([clean[0], 2 * clean[0], -clean[0]])[None]
    assert torch.allclose(minimax.unrepresentative(clean, real[:, :2]), torch.zeros(1), atol=1e-6)
    assert torch.allclose(minimax.unrepresentative(clean, real), torch.full((1,), 2.0))


def test_the_most_similar_of_the_own_class_counts() -> None:
    memory = minimax.PredictedMemory(2, SHAPE, CPU)
    clean = latents(1, 2)
    labels = torch.tensor([0, 1])
    assert torch.equal(minimax.redundant(clean, labels, memory), torch.zeros(2))
    memory.add(clean, labels)
    assert torch.allclose(minimax.redundant(clean, labels, memory), torch.ones(2), atol=1e-6)
    # Under the other class's column nothing like it is remembered.
    crossed = minimax.redundant(clean, labels.flip(0), memory)
    assert (crossed < 0.9).all()


def test_the_oldest_is_forgotten_first() -> None:
    memory = minimax.PredictedMemory(1, SHAPE, CPU)
    first = latents(2, 1)
    zero = torch.zeros(minimax.MEMORY, dtype=torch.long)
    memory.add(first, zero[:1])
    memory.add(latents(3, minimax.MEMORY - 1), zero[1:])
    assert minimax.redundant(first, zero[:1], memory) > 0.999
    memory.add(latents(4, 1), zero[:1])
    assert minimax.redundant(first, zero[:1], memory) < 0.9


def test_real_latents_are_of_the_samples_class() -> None:
    means = torch.arange(6.0)[:, None, None, None].expand(6, *SHAPE)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    draws = torch.Generator().manual_seed(0)
    real = minimax.draw_real(means, labels, torch.tensor([1, 0]), draws)
    assert real.shape == (2, minimax.MEMORY, *SHAPE)
    assert set(real[0].flatten().tolist()) == {1.0, 3.0, 5.0}
    assert set(real[1].flatten().tolist()) == {0.0, 2.0, 4.0}
