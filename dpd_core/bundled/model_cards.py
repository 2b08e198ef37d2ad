"""Model cards of the bundled models, with the numbers measured on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpd_core.bundled.recipe import PretrainRecipe
from dpd_core.storage import write_json

_DATA = """\
Two sources, about half each:

- Procedural top-down scenes drawn by `dpd_core.bundled.scenes` (20 classes, 1,000 images a
  class), captioned from what was drawn. Seeds from 1,000,000 on are held out.
- [EuroSAT RGB](https://github.com/phelber/EuroSAT) (MIT; Helber et al., IEEE JSTARS 2019;
  contains modified Copernicus Sentinel data): 10 classes, at most 1,800 images a class. 100
  images a class are held out, chosen by the SHA-256 of their files. Captions name the class
  and what was measured in the pixels: colour, brightness, texture, orientation.

No other images, no pretrained weights."""

_BASE = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [remote-sensing, latent-diffusion]
---

# DPD Studio base

A small Stable Diffusion pipeline for 64 x 64 pixel remote-sensing patches: an autoencoder to
4 x 16 x 16 latents, a CLIP text encoder with its own byte-level vocabulary, and a UNet that
predicts v. It exists so that every stage of DPD Studio runs on a laptop without a network.

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("assets/base")
image = pipeline("a satellite image of a harbor", height=64, width=64).images[0]
```

Weights are stored in half precision and load as float32.

## Training

{data}

{steps}

## Measured

{table}

PSNR is the mean over held-out images of the reconstruction in float32. "Sampled accuracy" is
the share of images sampled from "a satellite image of <class>" that a small classifier,
trained from scratch on real images of that collection, assigns to the class; its accuracy on
real held-out images is given beside it.
"Best guidance scale" has the largest sum over both collections and was
picked on these same samples.

## Limits

It knows thirty kinds of places and simple words about them. Classes of other collections
need the training stage (LoRA) first; small objects and counts are unreliable. Names shared
by both sources ("forest", "river", "industrial area") give a mix of drawn and Sentinel-2
looks. Straight lines come out bent and fine detail soft. Not for measuring anything about
the Earth.

Reproduce: `python -m dpd_core.bundled --eurosat DIR --work WORKDIR --out assets`.
"""

_CAPTIONER = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-to-text
tags: [remote-sensing, image-captioning, blip]
---

# DPD Studio captioner

A small BLIP that describes 64 x 64 pixel remote-sensing patches in one sentence beginning
"a satellite image of". Larger images are resized to 64 x 64 by the processor.

```python
from transformers import AutoProcessor, BlipForConditionalGeneration

model = BlipForConditionalGeneration.from_pretrained("assets/captioner")
processor = AutoProcessor.from_pretrained("assets/captioner")
ids = model.generate(**processor(images=image, return_tensors="pt"))
print(processor.batch_decode(ids, skip_special_tokens=True)[0])
```

Weights are stored in half precision and load as float32.

## Training

{data}

{steps}

## Measured

{table}

The share of held-out images whose caption names the right class first.

## Limits

It can only name the thirty classes it was trained on and describes anything else as the
nearest of them; counts are approximate. For other collections correct the captions in the
application, or choose a larger captioner.

Reproduce: `python -m dpd_core.bundled --eurosat DIR --work WORKDIR --out assets`.
"""


def _steps(name: str, recipe: PretrainRecipe) -> str:
    """The optimizer steps of a model's parts, in words."""
    parts = {
        "base": {"autoencoder": recipe.vae, "text encoder and UNet": recipe.base},
        "captioner": {"captioner": recipe.captioner},
    }[name]
    return "\n".join(
        f"- {part}: {loop.steps:,} AdamW steps of {loop.batch_size} images, peak learning rate "
        f"{loop.learning_rate:g}, on two CPU cores"
        for part, loop in parts.items()
    )


def write_cards(
    assets: Path, results: Mapping[str, Mapping[str, Any]], recipe: PretrainRecipe
) -> None:
    """Write ``metrics.json`` and ``README.md`` beside each measured model."""
    for name, template in (("base", _BASE), ("captioner", _CAPTIONER)):
        if name not in results:
            continue
        rows = [f"| {key.replace('_', ' ')} | {value} |" for key, value in results[name].items()]
        table = "\n".join(["| measure | value |", "| --- | --- |", *rows])
        folder = assets / name
        write_json(folder / "metrics.json", dict(results[name]))
        card = template.format(data=_DATA, table=table, steps=_steps(name, recipe))
        (folder / "README.md").write_text(card, encoding="utf-8")
