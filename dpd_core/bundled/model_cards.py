"""Model cards of the bundled models, with the numbers measured on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpd_core.storage import write_json

_DATA = """\
Two sources, no others; the packed corpus is made by the command below.

- [EuroSAT RGB](https://github.com/phelber/EuroSAT) (MIT; Helber et al., IEEE JSTARS 2019;
  contains modified Copernicus Sentinel data): 10 classes, at most 1,600 images a class. 100
  images a class are held out, chosen by the SHA-256 of their files.
- Aerial photographs without classes: NAIP of eight Californian cities at 0.6 m a pixel (USDA,
  public domain; from Ventura et al., "Individual tree detection in large-scale urban environments
  using high-resolution multispectral imagery", CC BY 4.0) and drone mosaics of OpenAerialMap
  contributors (CC BY 4.0), cut into 64 px at several scales. Every twelfth place is held out.

Captions say the class, where there is one, and what was measured in the pixels: colours, texture,
the run of lines, how much is water, vegetation, built up or bare, and where. Each image is seen in
eight orientations, with the caption measured in the turned image."""

_BASE = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [remote-sensing, latent-diffusion]
---

# DPD Studio base

A small Stable Diffusion pipeline for 64 x 64 pixel remote-sensing patches: an autoencoder to
latents of 16 x 16, a CLIP text encoder with its own byte-level vocabulary, and a UNet that
predicts v. It exists so that every stage of DPD Studio runs on a laptop without a network.

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("assets/base")
image = pipeline("a satellite image of a river", height=64, width=64).images[0]
```

Weights are stored in half precision and load as float32.

## Training

{data}

{steps}

## Measured

{table}

"Unseen" images are of a collection that nothing was trained on (`--unseen`), reduced to 64 px; the
students see ten images a class of it, or their reconstructions, and are asked for twenty others.
The pretrained student is ridge regression on EfficientNet-lite0 features, which the
autoencoder's perceptual loss is made of as well. "Class named" is the share of samples of "a
satellite image of <class>" that such a student, trained on real images, assigns to the class.

## Limits

It knows the ten classes of EuroSAT by name, and towns seen from the air by what is said of
them. Classes of other collections need the training stage (LoRA) first; small objects and
counts are unreliable. Not for measuring anything about the Earth.

Reproduce: `python -m dpd_core.bundled --eurosat DIR --aerial DIR --work WORKDIR --out assets`.
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
"a satellite image". Larger images are resized to 64 x 64 by the processor. It goes on from the
class that it is told ("a satellite image of a river") with what it sees.

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

On held-out EuroSAT images told their class; each statement between commas is checked against
a measurement of the image.

## Limits

It speaks of colours, texture, lines, cover and places only; it counts nothing and names no objects.
What is dark and smooth is called water or vegetation by the class that it was told.

Reproduce: `python -m dpd_core.bundled --eurosat DIR --aerial DIR --work WORKDIR --out assets`.
"""

_PARTS = {"base": ("autoencoder", "text_to_image"), "captioner": ("captioner",)}


def _steps(name: str, trained: Mapping[str, Mapping[str, Any]]) -> str:
    """How long a model's parts were trained, in words."""
    return "\n".join(
        f"- {part.replace('_', '-')}: {trained[part]['step']:,} AdamW steps, "
        f"{trained[part]['samples']:,} samples, {trained[part]['minutes']:g} minutes"
        for part in _PARTS[name]
        if part in trained
    )


def write_cards(
    assets: Path,
    results: Mapping[str, Mapping[str, Any]],
    trained: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write ``metrics.json`` and ``README.md`` beside each measured model.

    Args:
        assets: Folder of the models.
        results: What was measured of each.
        trained: What the checkpoints say of each part.
    """
    for name, template in (("base", _BASE), ("captioner", _CAPTIONER)):
        if name not in results:
            continue
        rows = [f"| {key.replace('_', ' ')} | {value} |" for key, value in results[name].items()]
        table = "\n".join(["| measure | value |", "| --- | --- |", *rows])
        folder = assets / name
        write_json(folder / "metrics.json", dict(results[name]))
        card = template.format(data=_DATA, table=table, steps=_steps(name, trained))
        (folder / "README.md").write_text(card, encoding="utf-8")
