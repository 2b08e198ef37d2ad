"""A trainer of a tiny model on a few made-up latents."""

from pathlib import Path

import torch

from dpd_core.config import ProjectConfig, TrainConfig
from dpd_core.hardware import Hardware, choose_hardware
from dpd_core.models.backbone import Backbone, Posterior
from dpd_core.train.classifier import LatentClassifier
from dpd_core.train.trainer import Examples, Trainer

CPU = choose_hardware(ProjectConfig(device="cpu", dtype="float32"))
QUICK = TrainConfig(
    steps=4,
    batch_size=3,
    rank=2,
    warmup_steps=2,
    checkpoint_steps=100,
    preview_steps=0,
    targets="all",
    consistency_max_noise=1.0,
)


def trainer(
    model: Path,
    folder: Path,
    config: TrainConfig = QUICK,
    hardware: Hardware = CPU,
    *,
    held_out: bool = False,
) -> Trainer:
    backbone = Backbone.load(str(model), hardware=hardware, image_size=32)
    torch.manual_seed(5)
    classifier = LatentClassifier(["forest", "harbor"], backbone.latent_shape[0])
    mean = torch.randn(7, *backbone.latent_shape, generator=torch.Generator().manual_seed(1))
    examples = Examples(
        Posterior(mean, torch.full_like(mean, 0.1)),
        torch.tensor([0, 1] * 3 + [0]),
        [0, 1] * 3 + [0],
        backbone.encode_prompts(["a forest", "a harbor"]),
    )
    more = torch.randn(5, *backbone.latent_shape, generator=torch.Generator().manual_seed(2))
    others = Examples(
        Posterior(more, torch.full_like(more, 0.1)),
        torch.tensor([0, 1, 0, 1, 0]),
        [0, 1, 0, 1, 0],
        examples.prompts,
    )
    return Trainer(
        backbone,
        classifier,
        examples,
        config,
        folder=folder,
        seed=3,
        held_out=others if held_out else None,
    )
