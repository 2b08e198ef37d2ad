"""Refining a sampled set as a whole, so that what it teaches holds for the real images.

The images of all slots are moved together, by few and small steps, down the loss of
:mod:`dpd_core.students.ridge`; labels stay hard, one image stays one image. The features are those
of small students of the set itself, as it stands: a pool of them at different moments of their
training, which goes on while the set changes (FRePo: Zhou, Nezhadarya, Ba, NeurIPS 2022). It needs
real training images and nothing of the test split.

A student normalises what it is tested on by the statistics of what it has learnt from, so the real
images are seen under the batch statistics of the set. Under their own, a set can drift away from
them unnoticed; students of it then fail.

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
from torch.nn import functional

from dpd_core.hardware import Hardware
from dpd_core.models.checkpoint import run_steps
from dpd_core.seeding import derive_seed, generator
from dpd_core.students.networks import Student, build_student, resized
from dpd_core.students.ridge import norm_momentum, normalised_features, one_hot, ridge_loss
from dpd_core.students.training import FROM_SCRATCH, augmented, to_float

PUPILS = 4
"""Networks in the pool."""
LAST_AGE = 200
"""Training steps after which a network of the pool makes place for a new one."""
LESSONS = 2
"""Training steps that a network takes after each step of the set."""
LESSON_BATCH = 32
_RISE = 10  # first steps of a network's training, with smaller learning rates
REAL_BATCH = 128
"""Real images a step, as many of each class (at least two)."""
SET_BATCH = 512
"""Images of the set that one step moves; of a larger set, others in each step."""
CHECKPOINT_STEPS = 10


class Refiner:
    """The optimisation of one set. :meth:`run` takes it to the end or to a stop.

    Args:
        images: The sampled set, uint8 (N, H, W, 3).
        labels: Columns, int (N,).
        real: Real training images, uint8 (R, S, S, 3); the set is compared at their size.
        real_labels: Columns, int (R,).
        fixed: Which images stay as they are, bool (N,); ``None``: none.
        rate: Step size of Adam, in grey levels from 0 to 1.
        seed: Project seed.
        hardware: Where to compute.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        real: np.ndarray,
        real_labels: np.ndarray,
        *,
        rate: float,
        seed: int,
        hardware: Hardware,
        fixed: np.ndarray | None = None,
    ):
        self.hardware, self.seed = hardware, seed
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(hardware.device)
        self.real, self.real_labels = real, np.asarray(real_labels, dtype=np.int64)
        self.n_classes = int(self.real_labels.max()) + 1
        self.rows = [np.flatnonzero(self.real_labels == column) for column in range(self.n_classes)]
        self.pixels = nn.Parameter(to_float(images, hardware.device))
        moving = np.ones(len(images), dtype=bool) if fixed is None else ~fixed
        self.moving = torch.from_numpy(moving).to(hardware.device)[:, None, None, None]
        self.optimizer = torch.optim.AdamW([self.pixels], rate, betas=(0.9, 0.99), weight_decay=0)
        self.pupils = [
            _Pupil(
                self.n_classes,
                LAST_AGE * number // PUPILS,
                derive_seed(seed, "pupil", number),
                hardware,
            )
            for number in range(PUPILS)
        ]

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
        pool = {
            f"{number}/{name}": value
            for number, pupil in enumerate(self.pupils)
            for name, value in pupil.state.items()
        }
        run_steps(
            self.step,
            steps,
            checkpoint,
            parameters={"pixels": self.pixels},
            others=pool,
            optimizer=self.optimizer,
            every=CHECKPOINT_STEPS,
            on_step=on_step,
        )
        images = self.pixels.detach().mul(255).round().clamp(0, 255).to(torch.uint8)
        return images.permute(0, 2, 3, 1).cpu().numpy()

    def step(self, number: int) -> float:
        """One step; ``number`` counts from 0 and determines network, real images and crops."""
        draws = generator(self.seed, "refine", number)
        pupil = self.pupils[int(torch.randint(PUPILS, (), generator=draws))]
        if pupil.age < pupil.first_age:
            self._teach(pupil, pupil.first_age - pupil.age, draws)
        loss = self._loss(pupil.network, draws)
        (gradient,) = torch.autograd.grad(loss, [self.pixels])
        self.pixels.grad = gradient * self.moving
        self.optimizer.step()
        with torch.no_grad():
            self.pixels.clamp_(0, 1)
        self._teach(pupil, LESSONS, draws)
        if pupil.age >= LAST_AGE:
            pupil.renew(derive_seed(self.seed, "pupil", "after", number))
        return float(loss.detach())

    def _loss(self, network: Student, draws: torch.Generator) -> Tensor:
        """The set's loss as one network sees it, a scalar; gradients reach the images."""
        picked = torch.randperm(len(self.labels), generator=draws)[:SET_BATCH].sort().values
        picked = picked.to(self.labels.device)
        real, truth = self._real(draws)
        # With momentum 1 the statistics kept for evaluation are those of this batch alone.
        with self.hardware.autocast(), norm_momentum(network, 1.0):
            support = network.features(augmented(self._seen()[picked], draws))
            network.eval()
            with torch.no_grad():
                queries = network.features(real)
            network.train()
        queries = queries.float()
        mean, deviation = queries.mean(0), queries.std(0) + 1e-4
        return ridge_loss(
            normalised_features(support.float(), mean, deviation),
            one_hot(self.labels[picked], self.n_classes),
            normalised_features(queries, mean, deviation),
            one_hot(truth, self.n_classes),
        )

    def _real(self, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Real images, as many of each class, augmented, with their columns."""
        each = max(2, REAL_BATCH // self.n_classes)
        rows = np.concatenate(
            [
                of_class[torch.randperm(len(of_class), generator=draws)[:each]]
                for of_class in self.rows
            ]
        )
        batch = to_float(self.real[rows], self.hardware.device)
        return augmented(batch, draws), torch.from_numpy(self.real_labels[rows]).to(batch.device)

    def _teach(self, pupil: _Pupil, steps: int, draws: torch.Generator) -> None:
        """Train a network on the set as it stands."""
        seen = self._seen().detach()
        for _ in range(steps):
            rows = torch.randperm(len(seen), generator=draws)[:LESSON_BATCH].to(seen.device)
            pupil.learn(augmented(seen[rows], draws), self.labels[rows], self.hardware)

    def _seen(self) -> Tensor:
        """The images at the size of the real ones."""
        return resized(self.pixels, self.real.shape[1])


class _Pupil:
    """A student of the set while it is trained.

    Args:
        n_classes: Number of outputs.
        first_age: Training steps after which it is of use.
        seed: Of its first weights.
        hardware: Where to compute.
    """

    def __init__(self, n_classes: int, first_age: int, seed: int, hardware: Hardware):
        self.n_classes, self.first_age = n_classes, first_age
        self.network = build_student("convnet", n_classes, seed=seed).to(hardware.device).train()
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            FROM_SCRATCH.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=FROM_SCRATCH.weight_decay,
        )
        self._age = torch.zeros((), dtype=torch.int64)
        for parameter in self.network.parameters():
            # From the start, so that a checkpoint finds where to put them.
            self.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    @property
    def age(self) -> int:
        """Training steps so far."""
        return int(self._age)

    @property
    def state(self) -> dict[str, Tensor]:
        """All that training changes, by name; to be written to in place."""
        momentum = {
            f"momentum/{name}": self.optimizer.state[parameter]["momentum_buffer"]
            for name, parameter in self.network.named_parameters()
        }
        return {"age": self._age, **momentum, **self.network.state_dict()}

    @torch.no_grad()
    def renew(self, seed: int) -> None:
        """Begin anew with other weights."""
        fresh = build_student("convnet", self.n_classes, seed=seed).state_dict()
        for name, value in self.state.items():
            value.copy_(fresh[name]) if name in fresh else value.zero_()

    def learn(self, images: Tensor, labels: Tensor, hardware: Hardware) -> None:
        """One training step on images (B, 3, S, S) and their columns (B,)."""
        for group in self.optimizer.param_groups:
            group["lr"] = FROM_SCRATCH.learning_rate * min(1.0, (self.age + 1) / _RISE)
        with hardware.autocast():
            logits = self.network(images)
        loss = functional.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), FROM_SCRATCH.clip)
        self.optimizer.step()
        self._age += 1
