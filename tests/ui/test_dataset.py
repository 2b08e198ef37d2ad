"""The tab Dataset in a real browser: read, rename, look, upload."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.studio_app import App, open_app

pytestmark = pytest.mark.ui

EVIL = "<img src=x onerror=window.evil=1>"


def png(red: int, green: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (red, green, 60)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A zip of two classes, one of them with a hostile name, and a file that is no image."""
    path = tmp_path / "scenes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, red in (("meadow", 40), (EVIL, 200)):
            for number in range(6):
                archive.writestr(f"{name}/{number}.png", png(red, 20 * number))
        archive.writestr("meadow/broken.png", b"no image")
        archive.writestr("meadow/notes.txt", b"hello")
    return path


@pytest.fixture
def own_app(start_app: Callable[..., App]) -> Iterator[App]:
    """A server without any project but the demo."""
    yield start_app()


def test_a_class_gets_a_readable_name_and_a_hostile_one_stays_text(page: Any, app: App) -> None:
    open_app(page, app, "Dataset")
    field = page.get_by_label("Readable name of the class forest")
    field.fill(EVIL)
    field.press("Enter")
    page.locator("#dataset-grid figcaption", has_text="<img").first.wait_for()
    assert json.loads((app.project() / "dataset" / "names.json").read_text()) == {"forest": EVIL}
    page.reload()
    page.wait_for_function(
        "text => document.querySelector('#dataset-balance input')?.value === text", arg=EVIL
    )
    assert page.evaluate("window.evil") is None
    field = page.get_by_label("Readable name of the class forest")
    field.fill("sandy forest")
    field.press("Enter")
    page.locator("#dataset-grid figcaption", has_text="sandy forest").first.wait_for()


def test_thumbnails_are_shown_by_class_and_split(page: Any, app: App) -> None:
    open_app(page, app, "Dataset")
    page.locator("#dataset-grid img").first.wait_for()
    assert page.locator("#dataset-grid img").count() == 48
    page.get_by_label("Show class").click()
    page.get_by_role("option", name="river").click()
    page.wait_for_function("document.querySelectorAll('#dataset-grid img').length === 16")
    page.get_by_label("Split").click()
    page.get_by_role("option", name="Test").click()
    page.wait_for_function("document.querySelectorAll('#dataset-grid img').length === 4")
    # Each picture really comes.
    page.wait_for_function(
        "[...document.querySelectorAll('#dataset-grid img')].every(i => i.naturalWidth > 0)"
    )


def test_an_uploaded_zip_is_read_and_reported(page: Any, own_app: App, scenes: Path) -> None:
    open_app(page, own_app, "Dataset")
    page.locator("#project-new").click()
    page.locator("#project-name textarea, #project-name input").fill("mine")
    page.locator("#project-confirm").click()
    page.wait_for_function("document.querySelector('#project input').value === 'mine'")
    page.get_by_label("Upload", exact=True).check()
    page.locator("#dataset-upload input[type=file]").set_input_files(str(scenes))
    page.locator("#dataset-upload").get_by_text("scenes").first.wait_for()
    page.locator("#dataset-take").click()
    page.locator("#dataset-uploads", has_text="scenes.zip").wait_for()
    page.locator("#dataset-run").click()
    report = page.locator("#dataset-report")
    report.get_by_text("refused files and why").wait_for(timeout=120_000)
    text = report.inner_text()
    assert "meadow/broken.png" in text
    assert "not an image but a .txt file" in text
    names = page.locator("#dataset-balance input").evaluate_all("n => n.map(i => i.title)")
    assert any(EVIL in title for title in names)
    assert page.evaluate("window.evil") is None
    page.locator("#stage-list li.done", has_text="dataset").wait_for()
    assert page.locator("#dataset-grid img").count() == 12
