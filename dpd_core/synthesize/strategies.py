"""Named ways of making a distilled set: start + guidance + selection.

Guidance terms are the pure functions of :mod:`dpd_core.models.guidance`, selection rules those of
:mod:`dpd_core.synthesize.selection`. To add a strategy, put it in :data:`STRATEGIES`: the command
line and the app take it from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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
            from a real start noised to that level.
        start: What that is: the ``prototype``, or ``members``, two of the slot's members joined;
            see :mod:`dpd_core.synthesize.starts`.
        cfg: Classifier-free guidance scale where the setting leaves it to the strategy. 1, which is
            none, is what students learn most from with the bundled model: guidance makes images
            plainer to the eye, and more alike and richer in contrast than real ones. It costs
            half of the time, too.
        guide: Guidance term: ``none``, ``prototype``, ``mode``, ``classifier``, ``information``,
            ``learnability`` or ``influence``; see :func:`dpd_core.synthesize.guides.build_guide`.
        scale: Scale of the term; the setting ``guidance_scale`` multiplies it.
        end: Share of the steps after which guidance ends at the latest.
        rule: Selection rule that ranks the candidates of a slot, a name in ``selection.RULES``;
            or ``set``: the candidates of all slots are chosen together, see
            :mod:`dpd_core.synthesize.choice`.
        candidates: Images sampled for each slot.
        max_similarity: Share of real images that are less near to others than a candidate may come
            to one; 1: no candidate is refused. See :mod:`dpd_core.synthesize.guard`.
        tuned_decoder: Whether latents are decoded by the decoder that the train stage has tuned to
            the training images, where it has.
        choice: The choice of prototypes that the method was made for, by which the benchmark
            compares it; see :mod:`dpd_core.prototypes.choice`. A set of a project has the
            project's prototypes, whatever they are.
        training: Settings of the train stage that belong to the method.
    """

    source: str
    description: str
    formula: str = ""
    strength: float = 1.0
    start: str = "prototype"
    cfg: float = 1.0
    guide: str = "none"
    scale: float = 1.0
    end: float = 1.0
    rule: str = "margin"
    candidates: int = 5
    max_similarity: float = 1.0
    tuned_decoder: bool = False
    choice: str = "typical"
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


STRATEGIES: dict[str, Strategy] = {
    "dpd+": Strategy(
        source="DPD (Xu, Ghamisi, Weng, arXiv 2601.15829), completed by us; the loss of the choice "
        "after FRePo (Zhou et al., NeurIPS 2022)",
        description="Makes many new images for each slot, each begun from two members of the "
        "cluster joined and noised, and pulled weakly toward the prototype. Those too near to a "
        "real image are refused; of the others the set is chosen as a whole, by what it teaches.",
        formula="z_τ = √ᾱ_τ·E(m∘x₁ + (1−m)∘x₂) + √(1−ᾱ_τ)·ε, then DPD's pull; of the candidates "
        "argmin ½‖Y_r − K_rs(K_ss + λI)⁻¹Y_s‖² + β·mean_r(1 − max_s cos)",
        strength=0.2,
        start="members",
        guide="prototype",
        scale=0.5,
        rule="set",
        candidates=24,
        max_similarity=0.95,
        choice="taught",
        tuned_decoder=True,
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
