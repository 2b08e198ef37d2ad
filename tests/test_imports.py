"""The floor plan holds: imports lead down the stages, and never in a circle."""

from tests import imports


def test_imports_lead_down_and_in_no_circle() -> None:
    assert imports.faults() == []


def test_imports_finds_an_arrow_upwards_and_a_circle(monkeypatch) -> None:
    up = imports.Arrow("dpd_core.dataset.index", "dpd_core.train.stage", 3)
    back = imports.Arrow("dpd_core.train.stage", "dpd_core.dataset.index", 4)
    monkeypatch.setattr(imports, "arrows", lambda: iter([up, back]))
    found = imports.faults()
    assert any("upwards" in fault and "dataset.index:3" in fault for fault in found)
    assert any("circle" in fault for fault in found)
