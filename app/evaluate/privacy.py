"""The privacy view: each distilled image beside the training image it resembles most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dpd_core.evaluate.report import ORDINARY_SHARE, Report

PER_PAGE = 12

SUMMARY_TEMPLATE = """{{#if value.lead}}<div class='privacy-summary {{value.tone}}'>
<p><b>{{value.lead}}</b> {{value.text}}</p><p class='small'>{{value.small}}</p></div>{{else}}
<p class='empty'>{{value.empty}}</p>{{/if}}"""

PAIRS_TEMPLATE = """<ol class='pairs'>{{#each value.pairs}}<li class='{{this.kind}}'>
<div><figure><img src='{{this.image}}' alt='distilled image of {{this.name}}' loading='lazy'>
<figcaption>distilled</figcaption></figure>
<figure><img src='{{this.nearest}}' alt='{{this.nearest_alt}}' loading='lazy'>
<figcaption>{{this.nearest_label}}</figcaption></figure></div>
<p><b title='features / layout / SSIM'>{{this.similarity}}</b> {{this.name}}
<small>{{this.note}}</small></p>
</li>{{/each}}</ol>"""


def summary(report: Report | None) -> dict[str, str]:
    """What the similarities mean, in plain words."""
    if report is None:
        return {"empty": "There is no report yet."}
    found = report.privacy
    if found is None:
        return {
            "empty": "This report has no similarities: evaluate again with the distribution "
            "metrics turned on."
        }
    text = (
        f"{found.sentence} Compared were {found.images} distilled and {found.real_images} test "
        "images. "
        f"Guessing from the set which real images were in the training split succeeds with an "
        f"area under the curve of {found.attack.features:.2f} (by layout "
        f"{found.attack.layout:.2f}); 0.5 is chance."
    )
    if found.copied:
        tone, lead = "bad", "Some distilled images are unusually near to training images."
        text += " Look at the first pairs below before you publish the set."
    elif found.share > ORDINARY_SHARE:
        tone, lead = "even", "No more of them are near to training images than chance explains."
    else:
        tone, lead = "good", "No nearer to the training images than other real images are."
    small = (
        "Each image is compared in all eight orientations: by pretrained features of the slightly "
        f"blurred image (nearest on average {found.features.ours:.2f}, of real test images "
        f"{found.features.real:.2f}), by its layout at 16 × 16 pixels ({found.layout.ours:.2f}, "
        f"{found.layout.real:.2f}), and pixel by pixel (SSIM; {found.ssim.ours:.2f}, "
        f"{found.ssim.real:.2f}). A part of an image, cut out and enlarged, can escape all three: "
        "the pairs are for your eyes."
    )
    return {"tone": tone, "lead": lead, "text": text, "small": small}


def pages(report: Report | None) -> int:
    """Number of pages of pairs, at least 1."""
    count = len(report.privacy.nearest) if report and report.privacy else 0
    return max(1, -(-count // PER_PAGE))


def pairs(
    report: Report | None,
    page: int,
    *,
    readable: Callable[[str], str],
    image: Callable[[str, int], str],
    thumbnail: Callable[[str], str],
    prototype: Callable[[str, int], str],
) -> dict[str, Any]:
    """One page of pairs, the most similar first.

    Args:
        page: Page number, from 0; brought into range.
        readable: A class's name in words.
        image: (class name, slot) → link to the distilled image.
        thumbnail: Image id → link to the training image.
        prototype: (class name, slot) → image id of the prototype it was made from.
    """
    if report is None or report.privacy is None:
        return {"pairs": []}
    start = min(max(page, 0), pages(report) - 1) * PER_PAGE
    shown = []
    for pair in report.privacy.nearest[start : start + PER_PAGE]:
        own = pair.image_id == prototype(pair.class_name, pair.slot)
        shown.append(
            {
                "image": image(pair.class_name, pair.slot),
                "nearest": thumbnail(pair.image_id),
                "nearest_alt": f"training image {pair.image_id}",
                "nearest_label": "its own prototype" if own else "nearest real",
                "name": f"{readable(pair.class_name)}, image {pair.slot + 1}",
                "similarity": f"{pair.features:.2f} / {pair.layout:.2f} / {pair.ssim:.2f}",
                "kind": "near" if pair.near else "",
                "note": "nearer than 95 % of real images" if pair.near else "",
            }
        )
    return {"pairs": shown}
