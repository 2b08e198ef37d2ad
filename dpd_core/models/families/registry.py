"""Which family a model is of."""

from __future__ import annotations

from pathlib import Path

from dpd_core.errors import ModelError
from dpd_core.models.families.base import Family
from dpd_core.models.families.stable_diffusion import StableDiffusion
from dpd_core.models.families.stable_diffusion_3 import StableDiffusion3
from dpd_core.models.families.stable_diffusion_xl import StableDiffusionXL
from dpd_core.models.files import denoiser_settings

FAMILIES: tuple[type[Family], ...] = (StableDiffusion, StableDiffusionXL, StableDiffusion3)


def family_of(folder: Path) -> type[Family]:
    """The family of the model in a folder, by the settings of its denoiser.

    Raises:
        ModelError: it is of none.
    """
    settings = denoiser_settings(folder)
    for family in FAMILIES:
        if family.recognises(settings):
            return family
    known = ", ".join(family.name for family in FAMILIES)
    raise ModelError(
        f"not a usable text-to-image model: its {settings.get('_class_name', 'denoiser')} is of no "
        "family that is known here.",
        where=folder,
        fix=f"Use a model of one of these families: {known}.",
    )
