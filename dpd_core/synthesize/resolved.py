"""A strategy with the settings laid over it: what the sampler does, nothing left open.

In the settings ``None`` leaves a value to the strategy. Here, and nowhere else, it gets one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from dpd_core.config import PreviewConfig, SynthesizeConfig
from dpd_core.synthesize.strategies import OBJECTIVES, Strategy, get_strategy

Value = TypeVar("Value")


@dataclass(frozen=True)
class ResolvedSynthesis:
    """How images are sampled and chosen.

    Attributes:
        strategy: Its name.
        steps, scheduler: Steps of the whole schedule, and the solver.
        start: What is noised where strength is below 1: the ``prototype``, or ``members``.
        strength: Share of the schedule that is sampled.
        cfg: Classifier-free guidance scale; 1: none.
        guide, scale: Guidance term, and its scale; a term of scale 0 is ``none``.
        end: Share of the steps after which guidance ends.
        spherical: Whether prototype terms aim at a random point near the prototype.
        rule: Selection rule, a name in ``selection.RULES``; ``set``: chosen together.
        max_similarity: Share of real images that are less near to others than a candidate may come
            to one; 1: no candidate is refused.
        tuned_decoder: Whether latents are decoded by the adapter's tuned decoder.
        decoder_required: Whether it is an error if there is none; else the model's own decodes.
        candidates: Images sampled for each slot.
        batch_size: Images sampled at once.
    """

    strategy: str
    steps: int
    scheduler: str
    start: str
    strength: float
    cfg: float
    guide: str
    scale: float
    end: float
    spherical: bool
    rule: str
    max_similarity: float
    tuned_decoder: bool
    decoder_required: bool
    candidates: int
    batch_size: int

    @property
    def needs_classifier(self) -> bool:
        """Whether the latent classifier steers the sampling."""
        return self.guide in OBJECTIVES

    @property
    def needs_prototype(self) -> bool:
        """Whether an image cannot be sampled without a prototype."""
        return self.guide != "none" or self.strength < 1

    @property
    def from_members(self) -> bool:
        """Whether sampling starts from the slot's members."""
        return self.start == "members" and self.strength < 1

    @property
    def chooses_together(self) -> bool:
        """Whether the set is chosen as a whole."""
        return self.rule == "set"


def resolved(config: SynthesizeConfig) -> ResolvedSynthesis:
    """What the settings of the stage ``synthesize`` mean.

    Raises:
        ConfigError: there is no such strategy.
    """
    strategy = get_strategy(config.strategy)
    scale = strategy.scale * config.guidance_scale
    return ResolvedSynthesis(
        strategy=config.strategy,
        steps=config.steps,
        scheduler=config.scheduler,
        start=strategy.start,
        strength=_own(config.strength, strategy.strength),
        cfg=_own(config.cfg, strategy.cfg),
        guide=strategy.guide if scale else "none",
        scale=scale,
        end=min(config.guidance_end, strategy.end),
        spherical=config.spherical,
        rule=_own(config.selection, strategy.rule),
        max_similarity=_own(config.max_similarity, strategy.max_similarity),
        tuned_decoder=_decoder(config, strategy) == "tuned",
        decoder_required=config.decoder == "tuned",
        candidates=_own(config.candidates, strategy.candidates),
        batch_size=config.batch_size,
    )


def resolved_preview(config: PreviewConfig) -> ResolvedSynthesis:
    """What the settings of a preview mean: those of the stage, but for what it has of its own.

    All images of a text are one batch.

    Raises:
        ConfigError: there is no such strategy.
    """
    return resolved(
        SynthesizeConfig(
            strategy=config.strategy,
            steps=config.steps,
            scheduler=config.scheduler,
            cfg=config.cfg,
            guidance_scale=config.guidance_scale,
            candidates=config.images,
            batch_size=config.images,
        )
    )


def _own(given: Value | None, own: Value) -> Value:
    return own if given is None else given


def _decoder(config: SynthesizeConfig, strategy: Strategy) -> str:
    return _own(config.decoder, "tuned" if strategy.tuned_decoder else "model")
