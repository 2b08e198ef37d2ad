"""What tests of several engine packages share."""

from pathlib import Path

import pytest

from tests.support.models import save_model


@pytest.fixture(scope="module")
def v_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("tiny"), prediction_type="v_prediction")
