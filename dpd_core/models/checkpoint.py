"""Training checkpoints as safetensors and JSON: adapter, optimizer and step.

There is no random state to keep: every draw of a training step derives from the seed and the
step's number (see :mod:`dpd_core.seeding`), so a resumed run draws what an uninterrupted one
would have drawn. Nothing is pickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dpd_core import storage
from dpd_core.errors import ModelError


def finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor holds a value that is infinite or not a number."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def save_checkpoint(
    path: Path,
    *,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    """Write one atomic file with the trained parameters and the optimizer's moments.

    Args:
        path: A ``.safetensors`` file; replaced if it is there.
        step: Number of finished steps.
        parameters: Trained parameters by name.
        optimizer: An AdamW over exactly these parameters.
        history: The last steps' values, from which the final means are made.
    """
    tensors = {f"parameter/{name}": value.detach() for name, value in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    contiguous = {name: value.cpu().contiguous() for name, value in tensors.items()}
    with storage.atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata={"state": json.dumps([step, history])})


def load_checkpoint(
    path: Path,
    *,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> tuple[int, list[dict[str, float]]]:
    """Restore what :func:`save_checkpoint` wrote, in place; 0 steps if there is no file.

    Returns:
        Number of finished steps, and the last steps' values.

    Raises:
        SafetensorError: the file is damaged.
        KeyError: it holds other parameters.
    """
    if not path.exists():
        return 0, []
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(file.get_tensor(f"parameter/{name}"))
        for name, parameter in parameters.items():
            state: dict[str, Any] = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                full = f"optimizer/{key}/{name}"
                if full in keys:
                    value: Tensor = file.get_tensor(full)
                    state[key] = value if key == "step" else value.to(parameter.device)
            if state:
                optimizer.state[parameter] = state
        step, history = json.loads(file.metadata()["state"])
        return step, history


def resume_checkpoint(
    path: Path,
    *,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> tuple[int, list[dict[str, float]]]:
    """Like :func:`load_checkpoint`, where a damaged file is the user's to decide on.

    Raises:
        ModelError: the file is damaged, holds another adapter's parameters, or values that are
            no numbers.
    """
    try:
        found = load_checkpoint(path, parameters=parameters, optimizer=optimizer)
        if not finite(parameters.values()):
            raise ValueError("it holds values that are no numbers")
        return found
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"the checkpoint is damaged ({error}).",
            where=path,
            fix="Delete it; the training then starts from its first step.",
        ) from error


def run_steps(
    step: Callable[[int], float],
    steps: int,
    path: Path,
    *,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    every: int,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Run an optimisation to its last step, from its checkpoint on if there is one.

    Args:
        step: Called with the step's number, from 0, which determines all its draws; returns the
            loss.
        steps: Steps in all.
        path: The checkpoint, also written on a stop; removed by the caller.
        parameters, optimizer: As for :func:`save_checkpoint`.
        every: The checkpoint is written after each so many steps.
        on_step: Called with the number of finished steps and the loss; may raise to stop.

    Raises:
        ModelError: the checkpoint is damaged, or the loss or a parameter is no number any more;
            the last checkpoint stays then.
    """
    done, _ = resume_checkpoint(path, parameters=parameters, optimizer=optimizer)

    def save() -> None:
        if not finite(parameters.values()):
            raise _diverged(f"a parameter is no number after step {done}", path)
        save_checkpoint(path, step=done, parameters=parameters, optimizer=optimizer, history=[])

    while done < steps:
        loss = step(done)
        if not math.isfinite(loss):
            raise _diverged(f"the loss became {loss} in step {done + 1}", path)
        done += 1
        if done % every == 0 and done < steps:
            save()
        try:
            if on_step is not None:
                on_step(done, loss)
        except BaseException:
            # A stop request comes as an exception between two steps.
            save()
            raise


def _diverged(what: str, path: Path) -> ModelError:
    return ModelError(
        f"the optimisation diverged: {what}.",
        where=path.parent,
        fix="Go on from the last checkpoint, which is whole; if it happens again, use another "
        "seed, or float32 (--dtype float32).",
    )
