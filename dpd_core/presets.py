"""Named sets of settings, and how a stage gets its own: defaults, preset, what is given."""

from __future__ import annotations

from typing import Any

from dpd_core.config import CONFIGS, StageConfig
from dpd_core.errors import ConfigError

PRESET_NOTES: dict[str, str] = {
    "quick": "Minutes on two CPU cores: see the whole way through, with rough images.",
    "standard": "An hour or two on a CPU, minutes on a GPU: the bundled model, properly adapted.",
    "published": "The published hyper-parameters: for a GPU and a full-size model.",
}
"""For whom each preset is, one sentence a preset."""

_TRAIN = {
    "targets": "all",
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "classifier_epochs": 60,
    "caption_dropout": 0.1,
    "flips": True,
}
_PROTOTYPES = {"choice": "taught"}
_SYNTHESIZE = {"strategy": "dpd+", "steps": 25, "scheduler": "dpm++", "cfg": 0.0}
"""What the presets for the bundled model have in common; they differ in how much is computed."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "prototypes": _PROTOTYPES,
        "train": {
            **_TRAIN,
            "steps": 200,
            "decoder_steps": 400,
            "batch_size": 24,
            "rank": 16,
            "warmup_steps": 20,
            "classifier_steps": 120,
            "checkpoint_steps": 50,
            "preview_steps": 100,
        },
        "synthesize": _SYNTHESIZE,
        "evaluate": {"student_steps": 200, "feature_steps": 200, "seeds": 3},
    },
    "standard": {
        "prototypes": _PROTOTYPES,
        "train": {
            **_TRAIN,
            "steps": 1200,
            "decoder_steps": 1200,
            "batch_size": 32,
            "rank": 32,
            "warmup_steps": 50,
            "classifier_steps": 1000,
            "checkpoint_steps": 100,
            "preview_steps": 300,
        },
        "synthesize": _SYNTHESIZE,
        "evaluate": {"student_steps": 600, "feature_steps": 600, "seeds": 3},
    },
    "published": {},
}
"""Values by preset and stage. ``quick``: minutes on two CPU cores; ``standard``: an hour or
two; ``published``: the published hyper-parameters, which are the defaults, for a GPU."""


def resolve(stage: str, preset: str | None = None, **given: Any) -> StageConfig:
    """The settings of a stage: defaults, then the preset's values, then those given.

    Args:
        stage: A name in :data:`CONFIGS`.
        preset: A name in :data:`PRESETS`, or ``None``.
        given: Values by setting name; ``None`` means not given.

    Raises:
        ConfigError: unknown preset or setting, or a bad value.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(
            f"unknown preset {preset!r}.", fix=f"Known presets: {', '.join(PRESETS)}."
        )
    values = dict(PRESETS[preset].get(stage, {})) if preset else {}
    values.update({name: value for name, value in given.items() if value is not None})
    return CONFIGS[stage].from_dict(values)
