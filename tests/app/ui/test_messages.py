"""Errors as the page says them."""

from pathlib import Path

from app.ui.messages import BUTTONS, escaped, in_words, needed, of_job
from dpd_core import STAGES
from dpd_core.errors import DatasetError, StageMissing
from dpd_core.project import Project


def test_in_words_names_the_button_and_no_path_and_no_command(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "mine")
    for stage in STAGES:
        try:
            project.result(stage)
        except StageMissing as error:
            text = in_words(error)
            tab, button = BUTTONS[stage]
            assert needed(error) == stage
            assert f"Press “{button}” in the tab {tab}" in text
            assert text[0].isupper()
            assert str(tmp_path) not in text
            assert "dpd_core" not in text
            assert f"data-go='{stage}'" in escaped(error)


def test_in_words_keeps_a_files_name_and_other_places(tmp_path: Path) -> None:
    file = tmp_path / "prototypes.json"
    assert in_words(DatasetError("not JSON.", where=file)) == "prototypes.json: not JSON."
    assert in_words(DatasetError("got 3.", where="steps", fix="Give 4.")) == "steps: got 3. Give 4."
    assert needed(DatasetError("no.", fix="Run the stage 'dataset' again.")) is None


def test_escaped_keeps_what_a_visitor_sent_as_text() -> None:
    assert "<b>" not in escaped(DatasetError("there is no <b>."))


def test_a_jobs_error_names_the_button_and_no_command() -> None:
    text = "there are no prototypes. Run `python -m dpd_core prototypes --project /x/y` first."
    assert of_job(text) == (
        "there are no prototypes. Press “Re-cluster” in the tab Prototypes first."
    )
