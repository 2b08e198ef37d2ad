"""A small resumable training loop shared by the bundled models.

Everything random in step *k* is drawn from ``(seed, k)``, and a checkpoint is one file written
beside its target and renamed. A run of so many *steps* that is killed at any moment therefore
continues to the weights it would have reached undisturbed; one of so many *minutes* continues for
what is left of them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dpd_core import storage
from dpd_core.hardware import Hardware

LossFunction = Callable[
    [np.random.Generator, torch.Generator, int], tuple[Tensor, dict[str, float]]
]

log = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint.safetensors"
_FLOOR = 0.02
_LONGEST_STEP = 120.0


@dataclass(frozen=True)
class LoopRecipe:
    """Optimisation settings of one training run.

    The run ends after ``steps``, or, where those are 0, after ``minutes`` of training. The learning
    rate rises linearly for ``warmup`` steps, stays, and falls linearly over the last ``decay`` of
    the run, so that a finished run can be gone on with by giving it more.

    Attributes:
        steps, minutes: Length.
        batch_size: Images a step.
        learning_rate: The highest.
        warmup: Steps.
        decay: Share of the run.
        ema_decay: Of the averaged weights, which are what is kept in the end.
        gradient_clip: Largest norm of a gradient.
        checkpoint_seconds: Time between checkpoints.
        log_every: Steps between lines of the log.
    """

    steps: int = 0
    minutes: float = 0.0
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.3
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    gradient_clip: float = 1.0
    seed: int = 0
    checkpoint_seconds: float = 300.0
    log_every: int = 25

    def progress(self, step: int, seconds: float) -> float:
        """The share of the run that is done, 0 to 1."""
        if self.steps:
            return min(step / self.steps, 1.0)
        return min(seconds / (60 * self.minutes), 1.0)


def learning_rate_at(step: int, progress: float, recipe: LoopRecipe) -> float:
    """The learning rate of ``step`` (counted from zero), with ``progress`` of the run done."""
    rise = min((step + 1) / max(recipe.warmup, 1), 1.0)
    fall = min((1 - progress) / max(recipe.decay, 1e-9), 1.0)
    return recipe.learning_rate * rise * max(fall, _FLOOR)


def step_generators(
    seed: int, step: int, device: torch.device | str = "cpu"
) -> tuple[np.random.Generator, torch.Generator]:
    """The NumPy generator of a step and torch's on a device; the global one is seeded too."""
    rng = np.random.default_rng((seed, step))
    torch_seed = int(rng.integers(2**62))
    torch.manual_seed(torch_seed)
    return rng, torch.Generator(device).manual_seed(torch_seed ^ 0x5DEECE66D)


class Trainer:
    """AdamW with gradient clipping, averaged weights and checkpoints.

    Args:
        modules: A name for each module that is trained.
        recipe: How.
        folder: Where checkpoints go; an earlier one is taken up.
        name: For the log.
        hardware: Where the modules are; a checkpoint may move between devices.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        recipe: LoopRecipe,
        folder: Path,
        *,
        name: str,
        hardware: Hardware,
    ) -> None:
        self.modules, self.recipe, self.folder, self.name = dict(modules), recipe, folder, name
        self.hardware = hardware
        self.step, self.seconds = 0, 0.0
        self.parameters: dict[str, nn.Parameter] = {
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
        # Running estimates, as those of a spectral norm, are part of where a training stands.
        self.buffers: dict[str, Tensor] = {
            f"{module_name}.{key}": buffer
            for module_name, module in self.modules.items()
            for key, buffer in module.named_buffers()
        }
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT_NAME).exists():
            self._load()

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        return self.recipe.progress(self.step, self.seconds)

    def run(
        self,
        loss_of: LossFunction,
        *,
        stop_at: int | None = None,
        on_checkpoint: Callable[[int], bool | None] | None = None,
    ) -> None:
        """Train to the end of the recipe, or to ``stop_at`` steps if that comes first.

        Args:
            loss_of: From a step's two generators and its number: the loss, and numbers to log.
            stop_at: Steps.
            on_checkpoint: Called after each checkpoint; ``True`` ends the training.
        """
        first, saved_at, averages = self.step, time.monotonic(), dict[str, float]()
        for module in self.modules.values():
            module.train()
        started = last = time.monotonic()
        end = stop_at if stop_at is not None else math.inf
        while self.progress < 1 and self.step < end:
            numbers = self._advance(loss_of)
            # A machine that slept meanwhile has not trained.
            self.seconds += min(time.monotonic() - last, _LONGEST_STEP)
            last = time.monotonic()
            for key, value in numbers.items():
                averages[key] = 0.98 * averages.get(key, value) + 0.02 * value
            if self.step % self.recipe.log_every == 0:
                self._log_progress(averages, first, time.monotonic() - started)
            if time.monotonic() - saved_at > self.recipe.checkpoint_seconds:
                self.save()
                if on_checkpoint is not None and on_checkpoint(self.step):
                    return
                saved_at = time.monotonic()
        if self.step > first:
            self._log_progress(averages, first, time.monotonic() - started)
            self.save()

    def averaged(self) -> None:
        """Put the averaged weights into the modules and switch them to evaluation."""
        with torch.no_grad():
            for key, parameter in self.parameters.items():
                parameter.copy_(self.ema[key])
        for module in self.modules.values():
            module.eval()

    def swapped(self) -> None:
        """Exchange weights and averaged weights: twice gives the weights back."""
        with torch.no_grad():
            for key, parameter in self.parameters.items():
                weight = parameter.detach().clone()
                parameter.copy_(self.ema[key])
                self.ema[key].copy_(weight)

    def save(self) -> None:
        """Write weights, averages, optimiser moments and the step as one file, at once."""
        tensors = {f"buffer/{key}": value.contiguous() for key, value in self.buffers.items()}
        for key, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            tensors[f"weight/{key}"] = parameter.detach().contiguous()
            tensors[f"ema/{key}"] = self.ema[key].contiguous()
            for moment in ("exp_avg", "exp_avg_sq"):
                tensors[f"{moment}/{key}"] = state[moment].contiguous()
        target = self.folder / CHECKPOINT_NAME
        temporary = target.with_name(target.name + ".part")
        save_file(
            tensors, temporary, metadata={"step": str(self.step), "seconds": str(self.seconds)}
        )
        temporary.replace(target)
        storage.write_json(
            self.folder / "state.json",
            {
                "name": self.name,
                "step": self.step,
                "minutes": round(self.seconds / 60, 1),
                "samples": self.step * self.recipe.batch_size,
            },
        )

    def _advance(self, loss_of: LossFunction) -> dict[str, float]:
        rate = learning_rate_at(self.step, self.progress, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rng, generator = step_generators(self.recipe.seed, self.step, self.hardware.device)
        loss, numbers = loss_of(rng, generator, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.parameters.values())
        for parameter in parameters:
            if parameter.grad is None:  # not part of this step's loss
                parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_clip)
        self.optimizer.step()
        # Early weights are far from where they will be: average over a growing window.
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), parameters, 1 - decay)
        self.step += 1
        if self.step % self.recipe.log_every and self.hardware.device.type == "cuda":
            return {}  # reading a number makes the processor wait for the GPU
        return {"loss": float(loss.detach()), **{k: float(v) for k, v in numbers.items()}}

    def _load(self) -> None:
        device = str(self.hardware.device)
        with safe_open(self.folder / CHECKPOINT_NAME, framework="pt", device=device) as stored:
            self.step = int(stored.metadata()["step"])
            self.seconds = float(stored.metadata()["seconds"])
            with torch.no_grad():
                for key, buffer in self.buffers.items():
                    buffer.copy_(stored.get_tensor(f"buffer/{key}"))
                for key, parameter in self.parameters.items():
                    parameter.copy_(stored.get_tensor(f"weight/{key}"))
                    self.ema[key] = stored.get_tensor(f"ema/{key}").clone()
                    self.optimizer.state[parameter] = {
                        "step": torch.tensor(float(self.step), device=parameter.device),
                        "exp_avg": stored.get_tensor(f"exp_avg/{key}").clone(),
                        "exp_avg_sq": stored.get_tensor(f"exp_avg_sq/{key}").clone(),
                    }
        log.info("%s: taken up at step %d", self.name, self.step)

    def _log_progress(self, averages: dict[str, float], first: int, seconds: float) -> None:
        samples = (self.step - first) * self.recipe.batch_size / max(seconds, 1e-9)
        log.info(
            "%s step %d, %.0f %%, %.1f samples/s  %s",
            self.name,
            self.step,
            100 * self.progress,
            samples,
            "  ".join(f"{key} {value:.4f}" for key, value in averages.items()),
        )
