"""What makes the first page quick, and keeps a session small."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import gradio as gr
from gradio.state_holder import SessionState

from app.ui.gradio_patches import keep_ids
from tests.support.studio_app import ROOT


def test_the_page_is_built_without_the_heavy_libraries() -> None:
    """Each of them takes seconds to import; what needs them imports them when it is used."""
    heavy = ["torch", "diffusers", "transformers", "peft", "sklearn", "umap", "datasets"]
    code = f"import sys, app.build; print(*[name for name in {heavy} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


def test_a_session_keeps_the_number_of_its_components() -> None:
    """However often a handler leaves its output as it is, or changes a property of it."""
    keep_ids()
    with gr.Blocks() as page:
        box = gr.Textbox("one")
        box.submit(lambda text: gr.skip(), [box], [box])
        box.blur(lambda text: gr.Textbox(label=text), [box], [box])
    state = SessionState(page)
    before = set(state.blocks_config.blocks)
    for _ in range(3):
        for function in page.fns.values():
            asyncio.run(page.process_api(function, ["two"], state=state))
    assert set(state.blocks_config.blocks) == before
    assert state[box._id].label == "two"
