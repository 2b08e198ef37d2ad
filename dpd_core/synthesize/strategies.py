"""Named ways of making a distilled set: start + guidance + selection.

Guidance terms are the pure functions of :mod:`dpd_core.models.guidance`, selection rules those of
:mod:`dpd_core.synthesize.selection`. To add a strategy, put it in :data:`STRATEGIES`: the command
line and the app take it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from dpd_core.errors import ConfigError

OBJECTIVES = ("classifier", "information", "learnability", "influence")
"""The guidance terms that climb an objective of the latent classifier or of a student."""


@dataclass(frozen=True)
class Strategy:
    """One method.

    Attributes:
        source: Paper or code it is written from.
        description: One sentence for a person.
        formula: What it computes, in the symbols of :mod:`dpd_core.models.guidance`; empty if
            nothing.
        strength: Share of the noise schedule that is sampled: 1 starts from pure noise, less
            starts from the prototype noised to that level.
        cfg: Classifier-free guidance scale where the setting leaves it to the strategy. 1, which is
            none, is what students learn most from with the bundled model: guidance makes images
            plainer to the eye, and more alike and richer in contrast than real ones. It costs
            half of the time, too.
        guide: Guidance term: ``none``, ``prototype``, ``mode``, ``classifier``, ``information``,
            ``learnability`` or ``influence``; see :func:`dpd_core.synthesize.guides.build_guide`.
        scale: Scale of the term; the setting ``guidance_scale`` multiplies it.
        end: Share of the steps after which guidance ends at the latest.
        rule: Selection rule that ranks the candidates of a slot, a name in ``selection.RULES``.
        detail: Share of the prototype's detail that the autoencoder loses and that is put back.
        tuned_decoder: Whether latents are decoded by the decoder that the train stage has tuned to
            the training images, where it has.
        choice: The choice of prototypes that the method was made for, by which the benchmark
            compares it; see :mod:`dpd_core.prototypes.choice`. A set of a project has the
            project's prototypes, whatever they are.
        refine_steps: Steps of refining the whole set after sampling; see
            :mod:`dpd_core.synthesize.refine`.
        training: Settings of the train stage that belong to the method.
    """

    source: str
    description: str
    formula: str = ""
    strength: float = 1.0
    cfg: float = 1.0
    guide: str = "none"
    scale: float = 1.0
    end: float = 1.0
    rule: str = "margin"
    detail: float = 0.0
    tuned_decoder: bool = False
    choice: str = "typical"
    refine_steps: int = 0
    training: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def definition(self) -> dict[str, Any]:
        """All that determines the images, for a set's recipe."""
        words = ("source", "description", "formula", "choice")
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in (*words, "training")
        }


_DPD_PLUS = Strategy(
    source="DPD (Xu, Ghamisi, Weng, arXiv 2601.15829), completed by us; the loss of choice "
    "and refining after FRePo (Zhou et al., NeurIPS 2022)",
    description="Starts from the prototype noised a little; the right and most distinct "
    "candidate is kept, and the detail the autoencoder lost is put back. Then all images are moved "
    "together, a little, until what they teach holds for the real ones. They stay close to copies "
    "of their prototypes, so the set is not private: for new images take dpd+new or dpd.",
    formula="z_τ = √ᾱ_τ·p + √(1−ᾱ_τ)·ε, strength 0.1; with more strength DPD's pull, in the first "
    "80 % of the schedule; at last all images down ½‖Y_r − K_rs(K_ss + λI)⁻¹Y_s‖², K of students "
    "of the set",
    strength=0.1,
    guide="prototype",
    rule="diverse",
    detail=1.0,
    choice="taught",
    tuned_decoder=True,
    refine_steps=120,
)
STRATEGIES: dict[str, Strategy] = {
    "dpd+": _DPD_PLUS,
    "dpd+new": replace(
        _DPD_PLUS,
        description="As dpd+, but its images are new: sampled through half of the noise schedule "
        "and pulled toward their prototypes, without the prototypes' own detail. Students learn "
        "somewhat less from them. Nothing proves that they give nothing away: look at the nearest "
        "real images before you share them.",
        strength=0.5,
        detail=0.0,
    ),
    "dpd": Strategy(
        source="DPD (Xu, Ghamisi, Weng, arXiv 2601.15829), published code",
        description="Random start, pulled toward the prototype; the candidate with the largest "
        "latent-classifier margin is kept.",
        formula="z_t + s·√(1−ᾱ_t)·(p − ẑ₀)/‖p − ẑ₀‖₂, s = 1, first 80 % of the steps",
        guide="prototype",
    ),
    "d4m": Strategy(
        source="D4M (Su et al., CVPR 2024)",
        description="Starts from the noised prototype (strength 0.7), no guidance, no selection.",
        formula="z_τ = √ᾱ_τ·p + √(1−ᾱ_τ)·ε",
        strength=0.7,
        rule="first",
    ),
    "mgd3": Strategy(
        source="MGD³ (Chan-Santiago et al., ICML 2025)",
        description="Random start, the predicted noise is led toward the prototype for the first "
        "half of the steps; no selection.",
        formula="ε̂ = ε − √(1−ᾱ_t)·λ·(p − ẑ₀), λ = 0.1, first 50 % of the steps",
        guide="mode",
        scale=0.1,
        end=0.5,
        rule="first",
    ),
    "classifier": Strategy(
        source="Classifier guidance (Dhariwal & Nichol, NeurIPS 2021), CaO₂'s selection",
        description="Random start, led to what the latent classifier takes for the class; right "
        "and confident candidates are kept.",
        formula="z_t + s·√(1−ᾱ_t)·g/‖g‖₂, g = ∇ log p(y|ẑ₀)",
        guide="classifier",
        rule="correct",
    ),
    "information": Strategy(
        source="Information-guided diffusion sampling (2025), our stand-in for its estimators",
        description="Led to the class and, the more images a class gets, away from the other "
        "prototypes of the class.",
        formula="g = ∇[log p(y|ẑ₀) + β(1 − 1/IPC)·mean_j ‖ẑ₀ − p_j‖], β = 1",
        guide="information",
        rule="correct",
    ),
    "learnability": Strategy(
        source="Learnability-guided diffusion, single-stage form",
        description="Led to what a classifier trained on the prototypes alone still gets wrong "
        "and the classifier of all images gets right, and away from the other prototypes.",
        formula="g = ∇[ℓ(student) − ω·ℓ(reference) − ρ·max_j cos(ẑ₀, p_j)], ω = 1.5, ρ = 1",
        guide="learnability",
        rule="correct",
    ),
    "influence": Strategy(
        source="IGD (Chen et al., ICLR 2025), last layer of one checkpoint",
        description="Led to images whose training gradient agrees with that of the class's real "
        "images, and away from the other prototypes.",
        formula="g = ∇[cos(∇_W ℓ(ẑ₀), mean real ∇_W ℓ) − δ·max_j cos(ẑ₀, p_j)], δ = 0.1",
        guide="influence",
        rule="correct",
    ),
    "minimax": Strategy(
        source="Minimax diffusion (Gu et al., CVPR 2024)",
        description="Random start without guidance from an adapter that was trained to be "
        "representative of the class and diverse.",
        formula="L + λ_r·(1 − min cos(ẑ₀, real)) + λ_d·max cos(ẑ₀, predicted), 0.002 and 0.008",
        rule="first",
        training=MappingProxyType({"representativeness": 0.002, "diversity": 0.008}),
    ),
    "template": Strategy(
        source="Stable Diffusion with LoRA, no distillation method",
        description="Words only: random start, no guidance, the first sample is kept.",
        rule="first",
    ),
}


def get_strategy(name: str) -> Strategy:
    """Look a strategy up by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in STRATEGIES:
        raise ConfigError(
            f"unknown strategy {name!r}.",
            where="synthesize.strategy",
            fix=f"Known strategies: {', '.join(STRATEGIES)}.",
        )
    return STRATEGIES[name]
