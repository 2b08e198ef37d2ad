"""What a training takes of a GPU, said before it starts: in the log and on the page."""

from __future__ import annotations

from pathlib import Path

from dpd_core.config import ProjectConfig, TrainConfig
from dpd_core.hardware import Hardware
from dpd_core.models.files import native_side
from dpd_core.models.memory import TrainingMemory, training_memory

PREVIEWED = 6
"""Classes of which previews are made: the first ones."""
_SHORT = 2
"""Bytes a number on a GPU, as long as there is none to ask."""
_WORTH_SAYING = 1.0
"""GiB: smaller models fit any GPU, and nobody without one has to know."""


def needed(
    folder: Path, project: ProjectConfig, config: TrainConfig, hardware: Hardware
) -> TrainingMemory:
    """The estimate for a training with these settings.

    Args:
        folder: The model.
        project: Gives the size of the images.
        config: The training.
        hardware: Where it would run; without a GPU the estimate is for one.

    Raises:
        ModelError: as :func:`dpd_core.models.memory.training_memory`.
    """
    number = _SHORT if hardware.device.type == "cpu" else hardware.dtype.itemsize
    return training_memory(
        folder,
        side=project.image_size or native_side(folder),
        batch=config.batch_size,
        rank=config.rank,
        targets=config.targets,
        checkpointing=config.gradient_checkpointing,
        number=number,
        previewed=PREVIEWED if config.preview_steps else 0,
    )


def told(estimate: TrainingMemory, hardware: Hardware, *, detail: str) -> tuple[str, str]:
    """What there is to say, and a warning; each empty where there is none.

    Args:
        estimate: See :func:`needed`.
        hardware: Where the training would run.
        detail: The estimate in words.
    """
    if hardware.device.type == "cpu":
        small = estimate.weights + estimate.trained <= _WORTH_SAYING
        return ("" if small else f"on a GPU this training would take {detail}"), ""
    there = gpu_memory(hardware)
    warning = ""
    if there is not None and estimate.total > there:
        warning = (
            f"this GPU has {there:.1f} GB, which may be too little: use "
            "--gradient-checkpointing, a smaller --batch-size or a smaller --image-size"
        )
    return f"the training takes {detail}", warning


def gpu_memory(hardware: Hardware) -> float | None:
    """GiB of the NVIDIA GPU, ``None`` on other devices."""
    if hardware.device.type != "cuda":
        return None
    import torch

    return torch.cuda.get_device_properties(hardware.device).total_memory / 2**30
