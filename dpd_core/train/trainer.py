"""The optimisation of an adapter: its losses, its draws, its checkpoint.

The images' latents and the captions' embeddings are computed once; a training step touches
only the denoiser. Every draw of a step (which images, posterior noise, diffusion noise, noise
level, dropped captions, flips) comes from a generator seeded by the step's number, so a
resumed run and a run on several processes see the samples of an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from dpd_core import controls
from dpd_core.config import TrainConfig
from dpd_core.errors import ModelError
from dpd_core.events import Emit, Log, Meter, Metric, ignore
from dpd_core.models import weights as adapter_weights
from dpd_core.models.backbone import Backbone, Posterior
from dpd_core.models.checkpoint import finite, resume_checkpoint, save_checkpoint
from dpd_core.models.prompts import Prompts, TextEmbeddings
from dpd_core.seeding import derive_seed, generator
from dpd_core.students.schedules import warmup_cosine
from dpd_core.train import adapters, minimax
from dpd_core.train.classifier import LatentClassifier

STAGE = "train"

_WEIGHT_DECAY = 1e-2
_CLIP = 1.0
"""Limit of the gradient's norm."""
CHECKS = 20
"""How often in a training the loss on images that are not trained on is measured."""
HELD_OUT = 32
"""On so many of them: a check takes about half as long as a training step of a quick run."""


@dataclass(frozen=True)
class Examples:
    """What a training step draws from, all on the CPU.

    Attributes:
        posterior: Latent means and deviations, (N, C, h, w).
        labels: Column of each image's class in the classifier, (N,).
        captions: Row of each image's caption in :attr:`prompts`, N of them.
        prompts: The encoded captions, each text once.
    """

    posterior: Posterior
    labels: Tensor
    captions: list[int]
    prompts: Prompts

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True)
class Batch:
    """One step's draw on the device: clean and noisy latents, noise, levels, texts, classes."""

    clean: Tensor
    noise: Tensor
    timesteps: Tensor
    embeddings: TextEmbeddings
    labels: Tensor
    real: Tensor | None = None
    """Real latents of each sample's class, (B, M, C, h, w), for the minimax losses."""


class Trainer:
    """The optimization of one adapter. :meth:`fit` runs it to the end or to a stop.

    Args:
        backbone: Model whose denoiser is trained.
        classifier: Frozen latent classifier of the consistency loss.
        examples: What to learn from.
        config: Hyper-parameters.
        folder: Where the checkpoint and the weights go.
        seed: Project seed.
        held_out: Images that are not trained on, for the curve ``validation``. It changes nothing
            of the training.
    """

    def __init__(
        self,
        backbone: Backbone,
        classifier: LatentClassifier,
        examples: Examples,
        config: TrainConfig,
        *,
        folder: Path,
        seed: int,
        held_out: Examples | None = None,
    ):
        self.held_out = held_out
        self.backbone, self.config, self.folder, self.seed = backbone, config, folder, seed
        self.examples = examples
        # accelerate keeps the first precision of a process for good; another project may want
        # another one.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision=backbone.hardware.precision, cpu=backbone.device.type == "cpu"
        )
        self.classifier = classifier.to(self.accelerator.device).eval().requires_grad_(False)
        with torch.random.fork_rng():
            # peft draws the initial LoRA weights from the global generator.
            torch.manual_seed(derive_seed(seed, "lora", config.rank, config.targets))
            if config.targets == "whole":
                adapter_weights.unfreeze(backbone.denoiser)
            else:
                adapter_weights.add_lora(
                    backbone.denoiser,
                    type(backbone.family),
                    rank=config.rank,
                    targets=config.targets,
                )
        if config.gradient_checkpointing:
            backbone.denoiser.enable_gradient_checkpointing()
        self.parameters: dict[str, nn.Parameter] = {
            name: value
            for name, value in backbone.denoiser.named_parameters()
            if value.requires_grad
        }
        optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.learning_rate,
            weight_decay=_WEIGHT_DECAY,
            betas=(0.9, 0.999),
        )
        # What a checkpoint holds: the trained weights, and the memory of the minimax losses.
        self.state: dict[str, Any] = dict(self.parameters)
        self.memory = None
        if config.diversity:
            classes = int(examples.labels.max()) + 1
            self.memory = minimax.PredictedMemory(
                classes, examples.posterior.mean.shape[1:], self.accelerator.device
            )
            self.state |= {"memory": self.memory.latents, "memory counts": self.memory.counts}
        self.unwrapped = backbone.denoiser
        backbone.denoiser, self.optimizer = self.accelerator.prepare(backbone.denoiser, optimizer)

    @property
    def checkpoint(self) -> Path:
        """The file a stopped or killed run continues from."""
        return self.folder / "checkpoint.safetensors"

    def fit(
        self, emit: Emit = ignore, *, preview: Callable[[Backbone, int], None] | None = None
    ) -> dict[str, float]:
        """Train to the last step and save the adapter.

        On a stop request the checkpoint is written first, so nothing is lost.

        Returns:
            Means of the measured values over the last tenth of the steps.

        Raises:
            ModelError: the training diverged; the last checkpoint, which is finite, stays.
        """
        config = self.config
        step, history = resume_checkpoint(
            self.checkpoint, parameters=self.state, optimizer=self.optimizer.optimizer
        )
        if self.accelerator.num_processes > 1:
            emit(Log(STAGE, f"{self.accelerator.num_processes} processes share the work"))
        tail = max(config.steps // 10, 10)
        between = True
        if self.accelerator.is_main_process:
            adapters.cut_curve(self.folder, step)
        try:
            self.backbone.rest()
            meter = Meter(emit, STAGE, config.steps, done=step, message="training")
            while step < config.steps:
                between = False
                values = self.step(step)
                step += 1
                if not math.isfinite(values["loss"]):
                    raise self._diverged(f"the loss became {values['loss']}", step)
                history = [*history[1 - tail :], values]
                between = True
                if step % 10 == 0 or step == config.steps:
                    values = _mean(history[-10:])
                    self._measured(step, values | self._validation(step), emit)
                if step % config.checkpoint_steps == 0 and step < config.steps:
                    self._check_finite(step)
                    self._save(step, history)
                if preview and self._preview_due(step):
                    preview(self.backbone, step)
                    self.backbone.rest()
                meter.advance()
        except BaseException:
            # A stop request comes between two steps. A fault or a second Ctrl-C may come in the
            # middle of one, when some weights are updated and others not: the last checkpoint
            # stays then.
            if between and self._finite():
                self._save(step, history)
            raise
        self._check_finite(step)
        if self.accelerator.is_main_process:
            adapter_weights.save(self.unwrapped, self.folder, type(self.backbone.family))
        self.accelerator.wait_for_everyone()
        return _mean(history)

    def step(self, number: int) -> dict[str, float]:
        """One optimizer step; ``number`` counts from 0 and determines every random draw."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, number)
        batch = self.draw(number)
        loss, values = self.losses(batch)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.parameters.values(), _CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return values

    def draw(self, number: int) -> Batch:
        """The samples of a step: this process's share of the whole batch.

        The whole batch is drawn on the CPU and then divided, so that the number of processes
        does not change what is learned from.
        """
        config, device = self.config, self.accelerator.device
        rows = self._rows(number)
        draw = generator(self.seed, "train", number)
        shape = (len(rows), *self.examples.posterior.mean.shape[1:])
        posterior_noise, noise = torch.randn(2, *shape, generator=draw)
        timesteps = self.backbone.schedule.draw(len(rows), draw, gamma=config.min_snr_gamma)
        dropped = torch.rand(len(rows), generator=draw) < config.caption_dropout
        flips = torch.rand(len(rows), 2, generator=draw) < 0.5
        mine = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        picked = torch.tensor(rows)[mine]
        posterior = self.examples.posterior
        clean = posterior.rows(picked).sample(posterior_noise[mine])
        if config.flips:
            clean = _flip(clean, flips[mine])
        embeddings = self.examples.prompts.batch([self.examples.captions[i] for i in picked])
        empty = self.examples.prompts.unconditional(embeddings)
        embeddings = embeddings.replaced(dropped[mine], empty)
        labels, real = self.examples.labels, None
        if config.representativeness:
            real = minimax.draw_real(posterior.mean, labels, labels[picked], draw).to(device)
        return Batch(
            clean.to(device),
            noise[mine].to(device),
            timesteps[mine].to(device),
            embeddings.to(device),
            labels[picked].to(device),
            real,
        )

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Diffusion loss plus the weighted others, and their values for the record.

        The diffusion loss is the mean squared error with the schedule's weights (min-SNR).
        The consistency loss is the cross-entropy of the frozen latent classifier on ẑ₀, over
        the samples whose noise level lies in the first ``consistency_max_noise`` of the
        schedule; above that, ẑ₀ is a blur that no class fits. For the minimax losses see
        :mod:`dpd_core.train.minimax`.
        """
        schedule, config = self.backbone.schedule, self.config
        diffusion, output, noisy = self._diffusion(batch)
        values = {"diffusion": diffusion.item(), "loss": diffusion.item()}
        loss = diffusion
        if config.representativeness or config.diversity:
            predicted = schedule.predict_clean(output, noisy, batch.timesteps)
            added, measured = self._minimax(predicted, batch)
            loss = loss + added
            values |= {**measured, "loss": loss.item()}
        if config.consistency_weight == 0:
            return loss, values
        last = config.consistency_max_noise * schedule.levels
        clear = batch.timesteps < last
        if not clear.any():
            return loss, values
        clean = schedule.predict_clean(output, noisy, batch.timesteps)[clear]
        with self.accelerator.autocast():
            logits = self.classifier(clean).float()
        labels = batch.labels[clear]
        cross_entropy = nn.functional.cross_entropy(logits, labels, reduction="sum")
        # Divided by the whole batch, so that a draw with few clear samples weighs little.
        consistency = cross_entropy / len(batch.labels)
        loss = loss + config.consistency_weight * consistency
        values |= {
            "loss": loss.item(),
            "consistency": (cross_entropy / len(labels)).item(),
            "classifier_accuracy": (logits.argmax(1) == labels).float().mean().item(),
        }
        return loss, values

    def _diffusion(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The diffusion loss, the model's output and the noisy latents, (B, C, h, w) each."""
        backbone, schedule = self.backbone, self.backbone.schedule
        noisy = schedule.add_noise(batch.clean, batch.noise, batch.timesteps)
        with self.accelerator.autocast():
            output = backbone.predict(noisy, batch.timesteps, batch.embeddings)
        target = schedule.target(batch.clean, batch.noise, batch.timesteps)
        weights = schedule.weights(batch.timesteps, gamma=self.config.min_snr_gamma)
        per_sample = (output - target).square().mean(dim=(1, 2, 3))
        return (weights * per_sample).mean(), output, noisy

    @torch.no_grad()
    def validation_loss(self) -> float:
        """The diffusion loss on :data:`HELD_OUT` images that are not trained on, with the same
        noise and noise levels whenever it is asked for, so that only the model changes it."""
        assert self.held_out is not None
        count = min(HELD_OUT, len(self.held_out))
        draw = generator(self.seed, "validation")
        rows = torch.randperm(len(self.held_out), generator=draw)[:count]
        noise = torch.randn(count, *self.held_out.posterior.mean.shape[1:], generator=draw)
        # Levels evenly spread: a handful drawn at random says little of the others.
        levels = self.backbone.schedule.levels
        timesteps = ((torch.arange(count) + 0.5) / count * levels).long()
        texts = [self.held_out.captions[row] for row in rows]
        device = self.accelerator.device
        batch = Batch(
            self.held_out.posterior.mean[rows].to(device),
            noise.to(device),
            timesteps.to(device),
            self.held_out.prompts.batch(texts),
            self.held_out.labels[rows].to(device),
        )
        return self._diffusion(batch)[0].item()

    def _validation(self, step: int) -> dict[str, float]:
        every = max(self.config.steps // CHECKS // 10 * 10, 10)
        if self.held_out is None or not (step % every == 0 or step == self.config.steps):
            return {}
        return {"validation": self.validation_loss()}

    def _minimax(self, clean: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The weighted minimax losses of ẑ₀, and their values; ẑ₀ is remembered."""
        added, values = clean.new_zeros(()), {}
        if batch.real is not None:
            far = minimax.unrepresentative(clean, batch.real).mean()
            added = added + self.config.representativeness * far
            values["unrepresentative"] = far.item()
        if self.memory is not None:
            near = minimax.redundant(clean, batch.labels, self.memory).mean()
            added = added + self.config.diversity * near
            values["redundant"] = near.item()
            self.memory.add(clean, batch.labels)
        return added, values

    def _measured(self, step: int, values: dict[str, float], emit: Emit) -> None:
        # The curve first: a stop request, which comes with the event, must not leave a gap in it.
        if self.accelerator.is_main_process:
            adapters.append_curve(self.folder, step, values)
        emit(Metric(STAGE, step, values))

    def _preview_due(self, step: int) -> bool:
        every = self.config.preview_steps
        # Asked first, so that a request made just now is answered by the previews that are due.
        return controls.take(controls.SAMPLE_NOW) or bool(every and step % every == 0)

    def _rows(self, number: int) -> list[int]:
        """Images of a step: consecutive places in a fresh shuffle for each epoch."""
        size, count = self.config.batch_size, len(self.examples)
        rows = []
        for place in range(number * size, (number + 1) * size):
            epoch, offset = divmod(place, count)
            rows.append(self._shuffle(epoch)[offset])
        return rows

    def _shuffle(self, epoch: int) -> list[int]:
        if getattr(self, "_epoch", None) != epoch:
            draw = generator(self.seed, "epoch", epoch)
            self._order = torch.randperm(len(self.examples), generator=draw).tolist()
            self._epoch = epoch
        return self._order

    def _finite(self) -> bool:
        return finite(self.parameters.values())

    def _check_finite(self, step: int) -> None:
        if not self._finite():
            raise self._diverged("a weight is no number any more", step)

    def _diverged(self, what: str, step: int) -> ModelError:
        kept = "The last checkpoint is kept. " if self.checkpoint.exists() else ""
        return ModelError(
            f"the training diverged: {what} in step {step}.",
            where="train.learning_rate",
            fix=f"{kept}Use a learning rate below {self.config.learning_rate:g}, or a longer "
            "warm-up (--warmup-steps).",
        )

    def _save(self, step: int, history: list[dict[str, float]]) -> None:
        if step and self.accelerator.is_main_process:
            save_checkpoint(
                self.checkpoint,
                step=step,
                parameters=self.state,
                optimizer=self.optimizer.optimizer,
                history=history,
            )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then constant or cosine to zero."""
    steps = None if config.schedule == "constant" else config.steps
    return config.learning_rate * warmup_cosine(step, warmup=config.warmup_steps, steps=steps)


def _flip(latents: Tensor, flips: Tensor) -> Tensor:
    horizontal, vertical = (flips[:, side, None, None, None] for side in (0, 1))
    latents = torch.where(horizontal, latents.flip(3), latents)
    return torch.where(vertical, latents.flip(2), latents)


def _mean(history: list[dict[str, float]]) -> dict[str, float]:
    keys = sorted({key for values in history for key in values})
    return {
        key: sum(values[key] for values in history if key in values)
        / sum(key in values for values in history)
        for key in keys
    }
