"""Refining a sampled set as a whole, so that what it teaches holds for the real images.

The images of all slots are moved together, by few and small steps, down the loss of
:mod:`dpd_core.matching`; labels stay hard, one image stays one image. It needs real training
images and nothing of the test split.

A refined image depends on all the others, so it is made for the set, not for a slot: it becomes
one more candidate of each slot, chosen at first; the sampled candidates stay beside it. The same
set, settings and seed give the same images, and a stopped run continues from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dpd_core.checkpoint import run_steps
from dpd_core.matching import draw, matching_loss
from dpd_core.seeding import generator
from dpd_core.student_networks import Student, resized
from dpd_core.students import augmented

REAL_BATCH = 256
CHECKPOINT_STEPS = 10


class Refiner:
    """The optimisation of one set. :meth:`run` takes it to the end or to a stop.

    Args:
        images: The sampled set, uint8 (N, H, W, 3).
        labels: Columns, int (N,).
        real: Real training images, uint8 (R, S, S, 3); the set is compared at their size.
        real_labels: Columns, int (R,).
        networks: See :func:`dpd_core.matching.matching_networks`.
        fixed: Which images stay as they are, bool (N,); ``None``: none.
        rate: Step size of Adam, in grey levels from 0 to 1.
        seed: Project seed.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, real: np.ndarray, real_labels: np.ndarray,
        networks: list[Student], *, rate: float, seed: int, fixed: np.ndarray | None = None,
    ):  # fmt: skip
        self.device = next(networks[0].parameters()).device
        pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div(255)
        self.pixels = nn.Parameter(pixels.to(self.device).contiguous())
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(self.device)
        self.real, self.real_labels = real, np.asarray(real_labels, dtype=np.int64)
        self.networks, self.seed = networks, seed
        moving = np.ones(len(images), dtype=bool) if fixed is None else ~fixed
        self.moving = torch.from_numpy(moving).to(self.device)[:, None, None, None]
        self.optimizer = torch.optim.AdamW([self.pixels], rate, betas=(0.9, 0.99), weight_decay=0)

    def run(
        self, steps: int, checkpoint: Path, on_step: Callable[[int, float], None] | None = None
    ) -> np.ndarray:
        """Refine.

        Args:
            steps: Steps in all.
            checkpoint: Where a stopped run is continued from; removed by the caller.
            on_step: Called with the number of finished steps and the loss; may raise to stop.

        Returns:
            uint8 (N, H, W, 3).
        """
        run_steps(self.step, steps, checkpoint, parameters={"pixels": self.pixels},
                  optimizer=self.optimizer, every=CHECKPOINT_STEPS, on_step=on_step)  # fmt: skip
        images = self.pixels.detach().mul(255).round().clamp(0, 255).to(torch.uint8)
        return images.permute(0, 2, 3, 1).cpu().numpy()

    def step(self, number: int) -> float:
        """One step; ``number`` counts from 0 and determines network, real images and crops."""
        draws = generator(self.seed, "refine", number)
        network = self.networks[int(torch.randint(len(self.networks), (), generator=draws))]
        real, real_labels = draw(self.real, self.real_labels, REAL_BATCH, draws, self.device)
        loss = matching_loss(
            network, augmented(self._seen(), draws), self.labels, real, real_labels
        )
        self.optimizer.zero_grad()
        loss.backward()
        if self.pixels.grad is not None:
            self.pixels.grad.mul_(self.moving)
        self.optimizer.step()
        with torch.no_grad():
            self.pixels.clamp_(0, 1)
        return float(loss.detach())

    def _seen(self) -> Tensor:
        """The images at the size of the real ones."""
        return resized(self.pixels, self.real.shape[1])
