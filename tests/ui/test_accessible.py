"""The page for everybody: what axe-core finds in each tab and both themes, and the keyboard."""

from __future__ import annotations

from typing import Any

import pytest

from dpd_core import STAGES
from tests.support.studio_app import ROOT, App, open_app

pytestmark = [pytest.mark.ui, pytest.mark.slow]

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"

NOT_OURS = (
    # Gradio's own markup, which no setting changes.
    "aria-allowed-attr",
    "aria-required-children",
    "aria-required-parent",
    "nested-interactive",
    "scrollable-region-focusable",
)


def findings(page: Any) -> list[str]:
    """Rules that are broken seriously, with the first three places each."""
    found = page.evaluate(
        "() => axe.run(document, { resultTypes: ['violations'] }).then((all) => all.violations"
        ".filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) =>"
        " [one.id, one.nodes.length, one.nodes.slice(0, 3).map((node) => node.target.join(' ')"
        " + ': ' + node.any.map((check) => check.message).join(' '))]))"
    )
    return [
        f"{rule} × {count}: {'; '.join(places)}"
        for rule, count, places in found
        if rule not in NOT_OURS
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_tab(page: Any, app: App, theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not there; `npm install` gets it")
    open_app(page, app, query=f"?__theme={theme}")
    page.add_script_tag(path=str(AXE))
    found = {}
    for stage in ("start", *STAGES):
        label = stage.capitalize()
        page.get_by_role("tab", name=label, exact=True).click()
        page.wait_for_function(f"() => !document.body.classList.contains('cover-{stage}')")
        page.wait_for_timeout(1500)
        found[label] = findings(page)
    assert {label: here for label, here in found.items() if here} == {}


def test_arrow_keys_go_from_tab_to_tab(page: Any, app: App) -> None:
    open_app(page, app)
    selected = page.locator("#tabs > .tab-wrapper [role=tab][aria-selected=true]")
    page.get_by_role("tab", name="Dataset", exact=True).focus()
    for key, label in (
        ("ArrowRight", "Prototypes"),
        ("End", "Export"),
        ("ArrowRight", "Start"),
        ("ArrowLeft", "Export"),
        ("Home", "Start"),
    ):
        page.keyboard.press(key)
        selected.get_by_text(label, exact=True).wait_for()
