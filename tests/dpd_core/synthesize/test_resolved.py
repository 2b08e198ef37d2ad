"""What a setting leaves to the strategy is the strategy's, in one place."""

import pytest

from dpd_core.config import PreviewConfig, SynthesizeConfig, resolve
from dpd_core.errors import ConfigError
from dpd_core.settings import command_words
from dpd_core.synthesize.resolved import resolved, resolved_preview
from dpd_core.synthesize.strategies import STRATEGIES

OPEN = {
    "cfg": None,
    "strength": None,
    "selection": None,
    "max_similarity": None,
    "candidates": None,
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_resolved_takes_the_strategys_own_where_nothing_is_given(name: str) -> None:
    strategy, how = STRATEGIES[name], resolved(SynthesizeConfig(strategy=name, **OPEN))
    assert (how.cfg, how.strength, how.rule) == (strategy.cfg, strategy.strength, strategy.rule)
    assert (how.candidates, how.max_similarity) == (strategy.candidates, strategy.max_similarity)
    assert (how.guide, how.scale) == (strategy.guide, strategy.scale)
    assert how.end == min(strategy.end, SynthesizeConfig().guidance_end)
    assert how.tuned_decoder == strategy.tuned_decoder
    assert not how.decoder_required


def test_resolved_takes_what_is_given() -> None:
    given = {"cfg": 3, "strength": 1, "selection": "first", "max_similarity": 1}
    how = resolved(SynthesizeConfig(strategy="dpd+", decoder="model", guidance_scale=2, **given))
    assert (how.cfg, how.strength, how.rule) == (3.0, 1.0, "first")
    assert (how.max_similarity, how.tuned_decoder, how.scale) == (1.0, False, 1.0)
    assert resolved(SynthesizeConfig(strategy="dpd", decoder="tuned")).decoder_required


def test_resolved_has_the_published_number_of_candidates_where_none_is_given() -> None:
    assert resolved(resolve("synthesize", "published")).candidates == 5


def test_resolved_has_no_guide_of_scale_zero() -> None:
    assert resolved(SynthesizeConfig(strategy="mgd3", guidance_scale=0)).guide == "none"


@pytest.mark.parametrize("name", STRATEGIES)
def test_resolved_preview_is_the_strategy_it_names(name: str) -> None:
    stage = resolved(SynthesizeConfig(strategy=name, cfg=None))
    preview = resolved_preview(PreviewConfig(strategy=name, cfg=None))
    for field in ("guide", "scale", "end", "strength", "cfg", "start", "tuned_decoder"):
        assert getattr(preview, field) == getattr(stage, field), field


@pytest.mark.parametrize("name", OPEN)
def test_auto_and_an_empty_field_leave_a_setting_to_the_strategy(name: str) -> None:
    for text in ("auto", ""):
        assert getattr(SynthesizeConfig(**{name: text}), name) is None


def test_former_sentinels_are_refused() -> None:
    former = {"cfg": 0, "strength": 0, "max_similarity": 0, "candidates": 0, "decoder": "strategy"}
    for name, value in former.items():
        with pytest.raises(ConfigError, match=name):
            SynthesizeConfig(**{name: value})


def test_the_command_says_auto_where_the_default_is_a_number(tmp_path) -> None:
    words = command_words("synthesize", resolve("synthesize", "quick"), tmp_path)
    assert words[words.index("--cfg") + 1] == "auto"
