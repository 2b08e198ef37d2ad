"""Texts in templates stay texts, although Gradio evaluates them as template literals."""

import gradio as gr

from app.ui.html import guard, literal


def test_a_text_cannot_become_a_program() -> None:
    value = {"rows": [{"text": r"${alert(1)} \1 \u costs $5", "count": 3}], "none": None}
    assert literal(value) == {
        "rows": [{"text": r"\${alert(1)} \\1 \\u costs \$5", "count": 3}],
        "none": None,
    }


def test_every_filled_template_is_guarded_and_scripts_get_plain_values() -> None:
    guard()
    guard()
    assert gr.HTML(html_template="<p>{{value}}</p>").postprocess("${x}") == r"\${x}"
    assert gr.HTML(html_template="<div></div>").postprocess({"a": "${x}"}) == {"a": "${x}"}
