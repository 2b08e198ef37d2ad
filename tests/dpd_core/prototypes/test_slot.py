"""The name of a slot."""

import pytest

from dpd_core.config import ResampleConfig
from dpd_core.errors import ConfigError
from dpd_core.prototypes.files import Slot


def test_str_of_a_slot_is_class_and_number():
    assert f"{Slot('forest', 3)}" == str(Slot("forest", 3)) == "forest/3"


@pytest.mark.parametrize("name", ["forest", "a,b", "50% water", "park/lake", "a/3", "<img src=x>"])
def test_parse_gives_the_slot_back_through_a_setting(name):
    slot = Slot(name, 12)
    (text,) = ResampleConfig.from_dict({"slots": str(slot)}).slots
    assert Slot.parse(text) == slot


@pytest.mark.parametrize("text", ["forest", "forest/x", "forest/-1", "forest/²", "/3", ""])
def test_parse_refuses_other_texts(text):
    with pytest.raises(ConfigError, match="CLASS/NUMBER"):
        Slot.parse(text)
