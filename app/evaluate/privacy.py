"""The privacy view: each distilled image beside the training image it resembles most."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Report = Mapping[str, Any]
PER_PAGE = 12
ORDINARY_SHARE = 0.05
"""Share of real images above the 95th percentile of the real-to-real similarity, by definition."""

SUMMARY_TEMPLATE = """{{#if value.lead}}<div class='privacy-summary {{value.tone}}'>
<p><b>{{value.lead}}</b> {{value.text}}</p><p class='small'>{{value.small}}</p></div>{{else}}
<p class='empty'>{{value.empty}}</p>{{/if}}"""

PAIRS_TEMPLATE = """<ol class='pairs'>{{#each value.pairs}}<li class='{{this.kind}}'>
<div><figure><img src='{{this.image}}' alt='distilled image of {{this.name}}' loading='lazy'>
<figcaption>distilled</figcaption></figure>
<figure><img src='{{this.nearest}}' alt='{{this.nearest_alt}}' loading='lazy'>
<figcaption>{{this.nearest_label}}</figcaption></figure></div>
<p><b>{{this.similarity}}</b> {{this.name}} <small>{{this.note}}</small></p>
</li>{{/each}}</ol>"""


def summary(report: Report | None) -> dict[str, str]:
    """What the similarities mean, in plain words."""
    if report is None:
        return {"empty": "There is no report yet."}
    found = report.get("privacy")
    if not found:
        return {
            "empty": "This report has no similarities: evaluate again with the distribution "
            "metrics turned on."
        }
    count = found["nn_ssim"]["images"]
    above = round(found["share_above_p95"] * count)
    ours, real = found["nn_ssim"]["mean_highest"], found["real_to_real"]["mean_highest"]
    numbers = (
        f"The nearest training image is {ours:.3f} alike (SSIM; 1 is identical) on average; "
        f"for {found['real_to_real']['images']} real test images, which copy nothing, it is "
        f"{real:.3f}. {above} of the {count} distilled images ({above / count:.0%}) are "
        f"nearer than 95 % of the real ones; of images that copy nothing, 5 % would be."
    )
    if found["share_above_p95"] > ORDINARY_SHARE and above > 1:
        tone, lead = "bad", "Some distilled images are unusually near to training images."
        text = numbers + " Look at the first pairs below before you publish the set."
    elif ours > real:
        tone, lead = "even", "A little nearer to the training images than real images are."
        text = numbers
    else:
        tone, lead = "good", "No nearer to the training images than other real images are."
        text = numbers
    small = (
        "Structural similarity compares images of one class pixel by pixel at the students' "
        f"size ({report['protocol']['size']} px). A copy that is shifted or mirrored can "
        "escape it: the pairs are for your eyes."
    )
    return {"tone": tone, "lead": lead, "text": text, "small": small}


def pages(report: Report | None) -> int:
    """Number of pages of pairs, at least 1."""
    found = report.get("privacy") if report else None
    count = len(found["nearest"]) if found else 0
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
    if report is None or not report.get("privacy"):
        return {"pairs": []}
    found = report["privacy"]
    start = min(max(page, 0), pages(report) - 1) * PER_PAGE
    shown = []
    for record in found["nearest"][start : start + PER_PAGE]:
        near = record["ssim"] > found["real_to_real_p95"]
        own = record["image_id"] == prototype(record["class"], record["slot"])
        shown.append(
            {
                "image": image(record["class"], record["slot"]),
                "nearest": thumbnail(record["image_id"]),
                "nearest_alt": f"training image {record['image_id']}",
                "nearest_label": "its own prototype" if own else "nearest real",
                "name": f"{readable(record['class'])}, image {record['slot'] + 1}",
                "similarity": f"{record['ssim']:.3f}",
                "kind": "near" if near else "",
                "note": "nearer than 95 % of real images" if near else "",
            }
        )
    return {"pairs": shown}
