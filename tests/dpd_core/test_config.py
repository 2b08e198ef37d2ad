"""Settings: one declaration, checked values, presets."""

import pytest

from dpd_core.config import CONFIGS, PRESETS, DatasetConfig, SynthesizeConfig, TrainConfig, resolve
from dpd_core.errors import ConfigError
from dpd_core.settings import settings_of


@pytest.mark.parametrize("stage", CONFIGS)
def test_settings_survive_a_round_trip(stage: str) -> None:
    config = CONFIGS[stage]()
    assert CONFIGS[stage].from_dict(config.to_dict()) == config


def test_text_from_a_command_line_is_converted() -> None:
    config = DatasetConfig.from_dict(
        {"classes": "forest, river", "bands": "4,3,2", "demo": "yes", "test_fraction": "0.3"}
    )
    assert config.classes == ("forest", "river")
    assert config.bands == ("4", "3", "2")
    assert config.demo is True
    assert config.test_fraction == 0.3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, r"train\.steps: got 0\. Use at least 1"),
        ({"steps": "0"}, r"train\.steps: got 0\. Use at least 1"),
        ({"steps": "many"}, r"train\.steps: got 'many'\. A value of type int"),
        ({"steps": 1.5}, "type int"),
        ({"steps": True}, "type int"),
        ({"learning_rate": float("nan")}, "type float"),
        ({"schedule": "linear"}, "Use one of constant, cosine"),
        ({"stepz": 3}, "unknown setting stepz"),
    ],
)
def test_a_bad_value_is_named_with_its_limits(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict(values)


def test_a_given_value_wins_over_the_preset_and_the_preset_over_the_default() -> None:
    assert resolve("train", "quick").steps == PRESETS["quick"]["train"]["steps"]
    assert resolve("train", "quick", steps=7).steps == 7
    assert resolve("train", "quick", steps=None).steps == PRESETS["quick"]["train"]["steps"]
    assert resolve("train").steps == 20000
    with pytest.raises(ConfigError, match="Known presets"):
        resolve("train", "warp")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset: str) -> None:
    for stage in CONFIGS:
        resolve(stage, preset)


def test_the_defaults_are_the_published_hyper_parameters() -> None:
    train, synthesize = TrainConfig(), SynthesizeConfig()
    assert (train.rank, train.learning_rate, train.batch_size, train.steps) == (4, 5e-4, 8, 20000)
    assert (train.min_snr_gamma, train.warmup_steps, train.targets) == (5.0, 200, "attention")
    assert (synthesize.steps, synthesize.cfg, synthesize.candidates) == (50, 7.5, None)
    assert (synthesize.guidance_scale, synthesize.guidance_end) == (1.0, 0.8)


def test_every_setting_explains_itself() -> None:
    for config in CONFIGS.values():
        for field in settings_of(config).values():
            assert field.help.endswith("."), f"{config.__name__}.{field.name}"


@pytest.mark.parametrize(("text", "values"), [("", ()), (" ", ()), ("3, 2,1,", ("3", "2", "1"))])
def test_an_empty_text_is_an_empty_list(text, values):
    assert DatasetConfig(bands=text).bands == values
    assert DatasetConfig(classes=text).classes == tuple(map(str, values))
