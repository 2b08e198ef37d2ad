"""The page around the tabs: projects, jobs, and what survives a refresh."""

from __future__ import annotations

from typing import Any

import pytest
from studio_app import PROJECT, App, open_app

from dpd_core import STAGES

pytestmark = pytest.mark.ui


def test_the_page_shows_the_project_and_its_finished_stages(page: Any, app: App) -> None:
    open_app(page, app)
    assert page.locator("#project input").input_value() == PROJECT
    stages = page.locator("#stage-list li.done span").all_inner_texts()
    assert stages == list(STAGES)
