"""A small resumable training loop shared by the bundled models.

Everything random in step *k* is drawn from ``(seed, k)``, the learning rate is a function of
*k* alone, and a checkpoint is one file written beside its target and renamed. A run killed at
any moment therefore continues to the weights it would have reached undisturbed.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpd_core import storage

if TYPE_CHECKING:
    import numpy as np
    import torch

    LossFunction = Callable[
        [np.random.Generator, torch.Generator, int], tuple[torch.Tensor, dict[str, float]]
    ]

log = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class LoopRecipe:
    """Optimisation settings of one training run.

    ``learning_rate`` is the peak of a linear warm-up of ``warmup`` steps followed by a cosine
    to a twentieth of it. ``parts`` splits each batch over that many Python threads: on a busy
    machine whole halves of a batch wait for each other far less than the two halves of every
    matrix product do. ``checkpoint_seconds`` is wall-clock time between checkpoints.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.995
    gradient_clip: float = 1.0
    seed: int = 0
    parts: int = 1
    checkpoint_seconds: float = 120.0
    log_every: int = 25

    @property
    def part_size(self) -> int:
        """Images in one part of a batch."""
        return self.batch_size // self.parts


def learning_rate_at(step: int, recipe: LoopRecipe) -> float:
    """Return the learning rate of ``step`` (counted from zero)."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    floor = 0.05
    return recipe.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def step_generators(
    seed: int, step: int, part: int = 0
) -> tuple[np.random.Generator, torch.Generator]:
    """Return the NumPy and torch generators of one part of a step; seed torch for dropout."""
    import numpy as np
    import torch

    rng = np.random.default_rng((seed, step, part) if part else (seed, step))
    torch_seed = int(rng.integers(2**62))
    torch.manual_seed(torch_seed)
    return rng, torch.Generator().manual_seed(torch_seed ^ 0x5DEECE66D)


def bf16_autocast() -> Any:
    """Return a bfloat16 autocast context for the CPU: twice as fast where AVX-512 has it.

    Its cache of cast weights is off: that cache is shared by all threads of the process, and
    the parts of a batch would then share pieces of their graphs.
    """
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False)


class Trainer:
    """AdamW with warm-up, cosine, gradient clipping, an EMA and checkpoints.

    ``modules`` maps a name to each module trained together. ``loss_of`` gets the step's two
    generators and the step number and returns a scalar loss and numbers worth logging.
    """

    def __init__(
        self,
        modules: Mapping[str, torch.nn.Module],
        recipe: LoopRecipe,
        folder: Path,
        *,
        name: str,
    ) -> None:
        import torch

        self.modules = dict(modules)
        self.recipe = recipe
        self.folder = folder
        self.name = name
        self.step = 0
        self.parameters: dict[str, torch.nn.Parameter] = {
            f"{module_name}.{key}": parameter
            for module_name, module in self.modules.items()
            for key, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self.ema = {key: value.detach().clone() for key, value in self.parameters.items()}
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=recipe.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT_NAME).exists():
            self._load()

    @property
    def finished(self) -> bool:
        """Whether every step of the recipe has been taken."""
        return self.step >= self.recipe.steps

    def run(
        self,
        loss_of: LossFunction,
        *,
        stop_at: int | None = None,
        on_checkpoint: Callable[[int], None] | None = None,
    ) -> None:
        """Train to the end of the recipe, or to ``stop_at`` steps if that comes first."""
        import torch

        last = min(self.recipe.steps, stop_at if stop_at is not None else self.recipe.steps)
        first, started, saved_at = self.step, time.monotonic(), time.monotonic()
        for module in self.modules.values():
            module.train()
        averages: dict[str, float] = {}
        pool = ThreadPoolExecutor(self.recipe.parts)
        while self.step < last:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate_at(self.step, self.recipe)
            loss, numbers = self._set_gradients(loss_of, pool)
            torch.nn.utils.clip_grad_norm_(
                list(self.parameters.values()), self.recipe.gradient_clip
            )
            self.optimizer.step()
            self._update_ema()
            self.step += 1
            for key, value in {"loss": loss, **numbers}.items():
                averages[key] = 0.95 * averages.get(key, value) + 0.05 * value
            if self.step % self.recipe.log_every == 0 or self.step == last:
                self._log_progress(averages, first, started)
            if time.monotonic() - saved_at > self.recipe.checkpoint_seconds:
                self.save()
                if on_checkpoint is not None:
                    on_checkpoint(self.step)
                saved_at = time.monotonic()
        pool.shutdown()
        if self.step > first:
            self.save()

    def _set_gradients(
        self, loss_of: LossFunction, pool: ThreadPoolExecutor
    ) -> tuple[float, dict[str, float]]:
        """Set every parameter's gradient to the mean over the parts of the batch."""
        import torch

        parameters = list(self.parameters.values())

        def part(index: int) -> tuple[Any, float, dict[str, float]]:
            rng, generator = step_generators(self.recipe.seed, self.step, index)
            loss, numbers = loss_of(rng, generator, self.step)
            return torch.autograd.grad(loss, parameters), float(loss.detach()), numbers

        done = list(pool.map(part, range(self.recipe.parts)))
        for index, parameter in enumerate(parameters):
            total = done[0][0][index]
            for gradients, _, _ in done[1:]:
                total = total + gradients[index]
            parameter.grad = total / len(done) if len(done) > 1 else total
        numbers = {
            key: sum(part_numbers[key] for _, _, part_numbers in done) / len(done)
            for key in done[0][2]
        }
        return sum(loss for _, loss, _ in done) / len(done), numbers

    def save(self) -> None:
        """Write weights, EMA, optimiser moments and the step as one atomically renamed file."""
        from safetensors.torch import save_file

        tensors: dict[str, torch.Tensor] = {}
        for key, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            tensors[f"weight/{key}"] = parameter.detach().contiguous()
            tensors[f"ema/{key}"] = self.ema[key].contiguous()
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}/{key}"] = state[moment].contiguous()
        target = self.folder / CHECKPOINT_NAME
        temporary = target.with_name(target.name + ".part")
        save_file(tensors, temporary, metadata={"step": str(self.step)})
        temporary.replace(target)
        storage.write_json(
            self.folder / "state.json",
            {"name": self.name, "step": self.step, "steps": self.recipe.steps},
        )

    def _load(self) -> None:
        import torch
        from safetensors import safe_open

        with safe_open(self.folder / CHECKPOINT_NAME, framework="pt") as stored:
            self.step = int(stored.metadata()["step"])
            with torch.no_grad():
                for key, parameter in self.parameters.items():
                    parameter.copy_(stored.get_tensor(f"weight/{key}"))
                    self.ema[key] = stored.get_tensor(f"ema/{key}").clone()
                    self.optimizer.state[parameter] = {
                        "step": torch.tensor(float(self.step)),
                        "exp_avg": stored.get_tensor(f"exp_avg/{key}").clone(),
                        "exp_avg_sq": stored.get_tensor(f"exp_avg_sq/{key}").clone(),
                    }
        log.info("%s: resumed at step %d of %d", self.name, self.step, self.recipe.steps)

    def load_ema(self) -> None:
        """Put the averaged weights into the modules and switch them to evaluation."""
        import torch

        with torch.no_grad():
            for key, parameter in self.parameters.items():
                parameter.copy_(self.ema[key])
        for module in self.modules.values():
            module.eval()

    def _update_ema(self) -> None:
        import torch

        # Early weights are far from where they will be: average over a growing window.
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), list(self.parameters.values()), 1 - decay)

    def _log_progress(self, averages: dict[str, float], first: int, started: float) -> None:
        seconds = (time.monotonic() - started) / max(1, self.step - first)
        log.info(
            "%s %d/%d  %s  %.2f s/step  ETA %.1f min",
            self.name,
            self.step,
            self.recipe.steps,
            "  ".join(f"{key} {value:.4f}" for key, value in averages.items()),
            seconds,
            seconds * (self.recipe.steps - self.step) / 60,
        )
