"""One command for a machine with a GPU: ``python -m tests.benchmarks.gpu --json FILE [--toy]``.

No network, no data and no files of weights: models of full size are built with random weights on
the device, images are drawn. A line of JSON a row, and all of them in the file. ``--toy`` does the
same with tiny models, also on a processor, to see that it runs.

- *ceiling*: bfloat16 products of square matrices, which shares are taken of.
- *encoding*: images a second through the autoencoder.
- *training*: LoRA of rank 4 at Stable-Diffusion-1.5 and XL size: ours; and a plain loop that does
  in every step what the diffusers example script does: encode the images and the texts, predict,
  weigh, clip, step. The loop is ours, written after the script; the script itself is compared with
  by ``python -m tests.benchmarks lora_full_size``. Operations are those of the denoiser alone.
- *synthesis*: guided sampling with batches across slots; the published loop (one prototype, five
  candidates, prompt encoded each time); diffusers' pipeline at our steps, batch and solver, whose
  autoencoder computes in bfloat16 where ours does in float32.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dpd_core.config import ProjectConfig, TrainConfig
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.models.backbone import Backbone, Posterior
from dpd_core.models.families.base import Family
from dpd_core.models.families.registry import FAMILIES
from dpd_core.models.predictions import min_snr_weights
from dpd_core.models.sampling import PrototypeGuidance, sample
from dpd_core.train.classifier import LatentClassifier
from dpd_core.train.trainer import Examples, Trainer
from tests.benchmarks.harness import machine
from tests.support import models

SECONDS = 15.0
"""Limit of each measurement after its warm-up."""
TEXTS = ["A satellite image of a harbor", "A satellite image of a forest"]


class Bench:
    """What all measurements share."""

    def __init__(self, hardware: Hardware, *, toy: bool):
        self.hardware, self.toy = hardware, toy
        self.rows: list[dict[str, Any]] = []
        self.ceiling = 0.0

    def measure(self, work: Callable[[], Any], *, least: int = 2) -> float:
        """Seconds of one call, after one that does not count."""
        work()
        self._wait()
        started, done = time.perf_counter(), 0
        while done < least or (time.perf_counter() - started < SECONDS and done < 20):
            work()
            self._wait()
            done += 1
            if self.toy and done >= least:
                break
        return (time.perf_counter() - started) / done

    def row(self, work: str, seconds: float, units: int, unit: str, flops: float = 0.0) -> None:
        """Note and print a result."""
        made: dict[str, Any] = {"work": work, f"{unit}_per_second": units / seconds}
        if flops:
            made["tflops"] = flops / seconds / 1e12
            if self.ceiling:
                made["share_of_ceiling"] = flops / seconds / self.ceiling
        if self.hardware.device.type == "cuda":
            made["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
            torch.cuda.reset_peak_memory_stats()
        self.rows.append(made)
        print(json.dumps(made), flush=True)

    def _wait(self) -> None:
        if self.hardware.device.type == "cuda":
            torch.cuda.synchronize()


def build(kind: str, hardware: Hardware, folder: Path, side: int, *, toy: bool) -> Backbone:
    """A model with random weights: ``"sd15"`` or ``"sdxl"``. Toys go through files, as all models
    do; large ones are built where they are needed."""
    save = models.save_model if kind == "sd15" else models.save_model_xl
    if toy:
        return Backbone.load(str(save(folder / kind)), hardware=hardware, image_size=side)
    sizes = models.STABLE_DIFFUSION_1 if kind == "sd15" else models.STABLE_DIFFUSION_XL
    with torch.device(hardware.device):
        pipeline = (models.build_model if kind == "sd15" else models.build_model_xl)(sizes)
    known: type[Family] = FAMILIES[0 if kind == "sd15" else 1]
    names = known.kinds()
    parts = {name: getattr(pipeline, name) for name in names if "tokenizer" not in name}
    for part in parts.values():
        part.requires_grad_(False).eval()
    torch.nn.Module.to(parts["unet"], hardware.dtype)
    tokenizers = {name: getattr(pipeline, name) for name in names if "tokenizer" in name}
    family = known(parts, tokenizers, dict(pipeline.scheduler.config), folder)
    return Backbone(family, hardware, side)


def ceiling(bench: Bench) -> None:
    """The most that products of matrices reach here."""
    size = 256 if bench.toy else 8192
    first, second = torch.randn(
        2, size, size, device=bench.hardware.device, dtype=torch.bfloat16
    ).unbind(0)
    seconds = bench.measure(lambda: [first @ second for _ in range(10)]) / 10
    bench.row("matrix ceiling, bfloat16", seconds, 1, "products", 2.0 * size**3)
    bench.ceiling = 2.0 * size**3 / seconds


def encoding(bench: Bench, backbone: Backbone, batch: int) -> None:
    """The autoencoder, as the stage ``prototypes`` uses it."""
    side = backbone.image_size
    pixels = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8)
    seconds = bench.measure(lambda: backbone.encode_images(pixels).mean.cpu())
    bench.row(f"encoding, {side} px, float32", seconds, batch, "images")


def training(bench: Bench, kind: str, backbone: Backbone, batch: int, folder: Path) -> None:
    """Ours, and the plain loop on the same network."""
    draws = torch.Generator().manual_seed(0)
    mean = torch.randn(64, *backbone.latent_shape, generator=draws)
    prompts = backbone.encode_prompts(TEXTS).to("cpu", bench.hardware.dtype)
    rows = [number % 2 for number in range(64)]
    examples = Examples(
        Posterior(mean, torch.full_like(mean, 0.1)), torch.tensor(rows), rows, prompts
    )
    config = TrainConfig(steps=10**6, batch_size=batch, consistency_weight=0.0, warmup_steps=0)
    classifier = LatentClassifier(["forest", "harbor"], backbone.latent_shape[0])
    trainer = Trainer(backbone, classifier, examples, config, folder=folder, seed=0)
    with FlopCounterMode(display=False) as counted:
        trainer.step(0)
    flops = float(counted.get_total_flops())
    side = backbone.image_size
    theirs = bench.measure(lambda: plain_step(trainer, batch))
    bench.row(f"LoRA {kind}, {side} px, batch {batch}: plain loop", theirs, batch, "samples", flops)
    backbone.rest()
    steps = iter(range(1, 10**6))
    ours = bench.measure(lambda: trainer.step(next(steps)))
    bench.row(f"LoRA {kind}, {side} px, batch {batch}: ours", ours, batch, "samples", flops)
    bench.rows[-1]["times_the_plain_loop"] = theirs / ours


def plain_step(trainer: Trainer, batch: int) -> Tensor:
    """A step that encodes its images and texts, as the example script does."""
    backbone, schedule = trainer.backbone, trainer.backbone.schedule
    device, side = backbone.device, backbone.image_size
    pixels = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8)
    posterior = backbone.encode_images(pixels)
    clean = posterior.sample(torch.randn_like(posterior.mean))
    noise = torch.randn_like(clean)
    timesteps = torch.randint(0, schedule.levels, (batch,), device=device)
    text = backbone.encode_prompts([TEXTS[row % 2] for row in range(batch)])
    noisy = schedule.add_noise(clean, noise, timesteps)
    with trainer.accelerator.autocast():
        output = backbone.predict(noisy, timesteps, text.batch(list(range(batch))))
    alphas = schedule.level(timesteps).signal.square()
    weights = min_snr_weights(alphas, gamma=5.0, prediction_type=schedule.prediction_type)
    error = (output - schedule.target(clean, noise, timesteps)).square().mean((1, 2, 3))
    loss = (weights * error).mean()
    trainer.accelerator.backward(loss)
    trainer.accelerator.clip_grad_norm_(trainer.parameters.values(), 1.0)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    return loss.detach()


def synthesis(bench: Bench, backbone: Backbone, batch: int, steps: int) -> None:
    """Guided sampling: ours, the published loop, a plain pipeline."""

    def guided(count: int, solver: str, number: int) -> None:
        prompts = backbone.encode_prompts(TEXTS[:1])
        text = prompts.batch([0] * count)
        latents = sample(
            backbone,
            noise=torch.randn(count, *backbone.latent_shape),
            embeddings=text,
            unconditional=prompts.unconditional(text),
            steps=number,
            scheduler=solver,
            guide=PrototypeGuidance(torch.zeros(count, *backbone.latent_shape)),
        )
        backbone.decode_latents(latents).cpu()

    side = backbone.image_size
    fast = bench.measure(lambda: guided(batch, "dpm++", steps), least=1)
    bench.row(f"synthesis, {side} px: ours, {steps} steps, batch {batch}", fast, batch, "images")
    slow = bench.measure(lambda: guided(5, "ddim", 2 * steps), least=1)
    bench.row(f"synthesis, {side} px: published loop, {2 * steps} steps", slow, 5, "images")
    bench.rows[-2]["times_the_published_loop"] = (batch / fast) / (5 / slow)
    parts = dict(backbone.family.parts)
    for name in ("vae", "text_encoder"):
        torch.nn.Module.to(parts[name], bench.hardware.dtype)
    pipeline = StableDiffusionPipeline(
        **parts,
        tokenizer=backbone.family.tokenizers["tokenizer"],
        scheduler=backbone.schedule.solver("dpm++", steps, backbone.device),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)

    def plain() -> None:
        pipeline(TEXTS[:1] * batch, height=side, width=side, num_inference_steps=steps)

    seconds = bench.measure(plain, least=1)
    work = f"synthesis, {side} px: pipeline, {steps} steps, batch {batch}"
    bench.row(work, seconds, batch, "images")
    bench.rows[-3]["times_the_pipeline"] = seconds / fast


def main() -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--toy", action="store_true", help="tiny models, to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the record to this file")
    given = parser.parse_args()
    hardware = choose_hardware(ProjectConfig(dtype="bfloat16"))
    if hardware.device.type != "cuda" and not given.toy:
        print("there is no GPU here; --toy shows that it runs", file=sys.stderr)
        return 2
    bench, started = Bench(hardware, toy=given.toy), time.perf_counter()
    ceiling(bench)
    with tempfile.TemporaryDirectory(prefix="dpd-gpu-") as name:
        folder = Path(name)
        for kind, side, batch in (("sd15", 256, 8), ("sdxl", 512, 4)):
            side, batch = (32, 2) if given.toy else (side, batch)
            backbone = build(kind, hardware, folder, side, toy=given.toy)
            if kind == "sd15":
                encoding(bench, backbone, 2 if given.toy else 16)
                # Before LoRA layers are in the network; the pipeline changes the encoders' format.
                synthesis(bench, backbone, 2 if given.toy else 20, 2 if given.toy else 25)
                for part in (backbone.vae, *backbone.family.encoders):
                    torch.nn.Module.to(part, torch.float32)
            training(bench, kind, backbone, batch, folder)
            del backbone
            if hardware.device.type == "cuda":
                torch.cuda.empty_cache()
    device = "cpu"
    if hardware.device.type == "cuda":
        device = torch.cuda.get_device_name(hardware.device)
    record = {
        "device": device,
        "toy": given.toy,
        "seconds": round(time.perf_counter() - started, 1),
        "machine": machine(),
        "rows": bench.rows,
    }
    text = json.dumps(record, indent=1)
    if given.json:
        given.json.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
