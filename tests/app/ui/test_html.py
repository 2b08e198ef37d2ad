"""Texts in templates stay texts, although Gradio evaluates them as template literals."""

import asyncio
import inspect
from pathlib import Path

import gradio as gr
from gradio.state_holder import SessionState

from app.build import build
from app.server.settings import Settings
from app.ui.html import HTML, literal, sent


def test_literal_keeps_a_text_from_becoming_a_program() -> None:
    value = {"rows": [{"text": r"${alert(1)} \1 \u costs $5", "count": 3}], "none": None}
    assert literal(value) == {
        "rows": [{"text": r"\${alert(1)} \\1 \\u costs \$5", "count": 3}],
        "none": None,
    }


def test_html_guards_filled_templates_and_gives_scripts_plain_values() -> None:
    assert HTML(html_template="<p>{{value}}</p>").postprocess("${x}") == r"\${x}"
    assert HTML(html_template="<div></div>").postprocess({"a": "${x}"}) == {"a": "${x}"}


def test_html_keeps_its_guard_when_a_session_changes_it() -> None:
    with gr.Blocks() as page:
        box, shown = gr.Textbox(), HTML(html_template="<p>{{value}}</p>")
        box.submit(lambda text: HTML(value=text, visible=True), [box], [shown])
        box.blur(lambda text: text, [box], [shown])
    state = SessionState(page)
    for function in page.fns.values():
        answer = asyncio.run(page.process_api(function, ["${x}"], state=state))["data"][0]
        assert (answer["value"] if isinstance(answer, dict) else answer) == r"\${x}"


def test_every_html_component_of_the_page_is_a_guarded_one(tmp_path: Path) -> None:
    page, _ = build(Settings(home=tmp_path))
    found = [block for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert len(found) > 20
    assert all(isinstance(block, HTML) for block in found)
    assert not Path(inspect.getfile(HTML)).with_suffix(".pyi").exists()


def test_sent_gives_what_an_event_says_and_none_else() -> None:
    event = gr.EventData(None, {"class_name": "beach"})
    assert sent(event, "class_name") == "beach"
    assert sent(event, "cluster") is None
    assert sent(gr.EventData(None, None), "class_name") is None
