"""Noise schedules of the two kinds: of diffusion, where the variance is preserved, and of flow
matching, where latent and noise are mixed along a straight line. Both have stock solvers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from dpd_core.models import predictions
from dpd_core.models.predictions import Level


class Schedule(ABC):
    """From timesteps, in the units that the denoiser reads, to noise levels.

    Attributes:
        prediction_type: What the denoiser predicts; see :mod:`dpd_core.models.predictions`.
        levels: Timesteps lie in [0, levels].
    """

    prediction_type: str
    levels: int

    @abstractmethod
    def level(self, timesteps: Tensor) -> Level:
        """The noise level of each timestep, in the shape of ``timesteps``."""

    @abstractmethod
    def draw(self, count: int, draws: torch.Generator, *, gamma: float) -> Tensor:
        """Timesteps to train on, (count,); ``gamma`` 0 draws all levels alike."""

    @abstractmethod
    def weights(self, timesteps: Tensor, *, gamma: float) -> Tensor:
        """Weight of each sample's squared error, (B,)."""

    @abstractmethod
    def solver(self, name: str, steps: int, device: torch.device) -> Any:
        """A stock diffusers solver with its timesteps set; see :meth:`times`.

        Args:
            name: ``"ddim"``, ``"dpm++"`` or ``"unipc"``.
            steps: Number of sampling steps.
        """

    def times(self, solver: Any) -> Tensor:
        """The timesteps at which the denoiser is asked, (steps,)."""
        return solver.timesteps

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """z_t = α_t z₀ + σ_t ε; ``timesteps`` (B,)."""
        level = self._of_batch(timesteps)
        return level.signal * clean + level.noise * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """See :func:`predictions.target`; ``timesteps`` (B,)."""
        return predictions.target(self.prediction_type, clean, noise, self._of_batch(timesteps))

    def predict_clean(self, output: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """See :func:`predictions.clean_latent`; ``timesteps`` (B,)."""
        level = self._of_batch(timesteps)
        return predictions.clean_latent(self.prediction_type, output, noisy, level)

    def _of_batch(self, timesteps: Tensor) -> Level:
        return self.level(timesteps.view(-1, 1, 1, 1))


class DiffusionSchedule(Schedule):
    """α_t = √ᾱ_t, σ_t = √(1−ᾱ_t) over integer timesteps.

    Args:
        settings: Of the model's diffusers scheduler.
        device: Where the levels are looked up.
    """

    def __init__(self, settings: dict[str, Any], device: torch.device):
        from diffusers import DDPMScheduler

        self.settings = settings
        training = DDPMScheduler.from_config(settings)
        self.prediction_type = training.config.prediction_type
        self.alphas_cumprod: Tensor = training.alphas_cumprod.to(device)
        self.levels = len(self.alphas_cumprod)

    def level(self, timesteps: Tensor) -> Level:
        """See :class:`Schedule`."""
        return Level.of(self.alphas_cumprod[timesteps.long()])

    def draw(self, count: int, draws: torch.Generator, *, gamma: float) -> Tensor:
        """See :class:`Schedule`; always all levels alike."""
        return torch.randint(0, self.levels, (count,), generator=draws)

    def weights(self, timesteps: Tensor, *, gamma: float) -> Tensor:
        """Min-SNR weights (Hang et al., 2023)."""
        return predictions.min_snr_weights(
            self.alphas_cumprod[timesteps], gamma=gamma, prediction_type=self.prediction_type
        )

    def solver(self, name: str, steps: int, device: torch.device) -> Any:
        """See :class:`Schedule`. All keep z_t in the form in which guidance is written."""
        import diffusers

        kinds: dict[str, tuple[Any, dict[str, Any]]] = {
            "ddim": (diffusers.DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": True}),
            "dpm++": (
                diffusers.DPMSolverMultistepScheduler,
                {"algorithm_type": "dpmsolver++", "solver_order": 2},
            ),
            "unipc": (diffusers.UniPCMultistepScheduler, {}),
        }
        kind, options = kinds[name]
        # Trailing steps begin at the pure noise that sampling starts from; the default of SD 1.x
        # begins short of it (Lin et al., 2024).
        solver = kind.from_config(self.settings, timestep_spacing="trailing", **options)
        solver.set_timesteps(steps, device=device)
        return solver


class FlowSchedule(Schedule):
    """α_t = 1 − σ_t, timestep = 1000 σ_t: rectified flow, as in Stable Diffusion 3.

    Levels are *shifted* towards noise, σ ← s σ / (1 + (s−1) σ), because large images need more of
    it (Esser et al., 2024, equation 23).

    Args:
        settings: Of the model's ``FlowMatchEulerDiscreteScheduler``.
    """

    prediction_type = "flow_prediction"

    def __init__(self, settings: dict[str, Any]):
        self.levels = int(settings.get("num_train_timesteps", 1000))
        self.shift = float(settings.get("shift", 1.0))

    def level(self, timesteps: Tensor) -> Level:
        """See :class:`Schedule`."""
        noise = timesteps.float() / self.levels
        signal = 1 - noise
        return Level(signal, noise, torch.hypot(signal, noise))

    def draw(self, count: int, draws: torch.Generator, *, gamma: float) -> Tensor:
        """See :class:`Schedule`. Flow's counterpart to min-SNR weights: middle levels are drawn
        more often, logit-normally (Esser et al., 2024, section 3.1)."""
        if gamma == 0:
            share = torch.rand(count, generator=draws)
        else:
            share = torch.randn(count, generator=draws).sigmoid()
        return self.levels * self.shift * share / (1 + (self.shift - 1) * share)

    def weights(self, timesteps: Tensor, *, gamma: float) -> Tensor:
        """All ones: the draw has weighted already."""
        return torch.ones_like(timesteps)

    def solver(self, name: str, steps: int, device: torch.device) -> Any:
        """See :class:`Schedule`. DDIM is Euler's method for diffusion; Euler's is its namesake."""
        import diffusers

        common = {"num_train_timesteps": self.levels}
        flow = {
            **common,
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "flow_shift": self.shift,
        }
        solver: Any
        if name == "ddim":
            solver = diffusers.FlowMatchEulerDiscreteScheduler(shift=self.shift, **common)
        elif name == "dpm++":
            solver = diffusers.DPMSolverMultistepScheduler(
                algorithm_type="dpmsolver++", solver_order=2, **flow
            )
        else:
            solver = diffusers.UniPCMultistepScheduler(**flow)
        solver.set_timesteps(steps, device=device)
        # By count: their timesteps are rounded, so that two may be the same.
        solver.set_begin_index(0)
        return solver

    def times(self, solver: Any) -> Tensor:
        """Of the exact levels; the solvers' own timesteps are rounded."""
        return (solver.sigmas[:-1] * self.levels).to(solver.timesteps.device)
