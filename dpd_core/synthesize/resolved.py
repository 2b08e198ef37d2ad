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
        strength: Share of the schedule that is sampled; below 1 from the noised prototype.
        cfg: Classifier-free guidance scale; 1: none.
        guide, scale: Guidance term, and its scale; a term of scale 0 is ``none``.
        end: Share of the steps after which guidance ends.
        spherical: Whether prototype terms aim at a random point near the prototype.
        rule: Selection rule, a name in ``selection.RULES``.
        detail: Share of the prototype's detail that is put back.
        tuned_decoder: Whether latents are decoded by the adapter's tuned decoder.
        decoder_required: Whether it is an error if there is none; else the model's own decodes.
        refine_steps: Steps of refining the whole set.
        candidates: Images sampled for each slot.
        batch_size: Images sampled at once.
    """

    strategy: str
    steps: int
    scheduler: str
    strength: float
    cfg: float
    guide: str
    scale: float
    end: float
    spherical: bool
    rule: str
    detail: float
    tuned_decoder: bool
    decoder_required: bool
    refine_steps: int
    candidates: int
    batch_size: int

    @property
    def needs_classifier(self) -> bool:
        """Whether the latent classifier steers the sampling."""
        return self.guide in OBJECTIVES

    @property
    def needs_prototype(self) -> bool:
        """Whether an image cannot be sampled without a prototype."""
        return self.guide != "none" or self.strength < 1 or self.detail > 0


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
        strength=_own(config.strength, strategy.strength),
        cfg=_own(config.cfg, strategy.cfg),
        guide=strategy.guide if scale else "none",
        scale=scale,
        end=min(config.guidance_end, strategy.end),
        spherical=config.spherical,
        rule=_own(config.selection, strategy.rule),
        detail=_own(config.detail, strategy.detail),
        tuned_decoder=_decoder(config, strategy) == "tuned",
        decoder_required=config.decoder == "tuned",
        refine_steps=_own(config.refine_steps, strategy.refine_steps),
        candidates=config.candidates,
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
