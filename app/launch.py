"""The command ``python app.py``: arguments, server, shutdown."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.server.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Build the page and serve it until Ctrl-C; returns the exit status."""
    # Nothing leaves the machine unasked.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from app.server.settings import LOCAL_HOSTS, Settings

    settings = Settings.from_environment()
    parser = argparse.ArgumentParser(prog="python app.py", description="DPD Studio in the browser.")
    parser.add_argument(
        "--host",
        default=settings.host,
        help="address to listen on; anything but this machine's own turns hosted mode on",
    )
    parser.add_argument("--port", type=int, default=settings.port)
    parser.add_argument("--home", type=Path, default=settings.home, help="where all state is kept")
    parser.add_argument("--open", action="store_true", help="open a browser")
    options = parser.parse_args(arguments)
    settings = replace(
        settings, host=options.host, port=options.port, home=options.home.expanduser().resolve()
    )
    if settings.host not in LOCAL_HOSTS:
        settings = settings.served_to_strangers()
    serve(settings, open_browser=options.open)
    return 0


def serve(settings: Settings, *, open_browser: bool = False) -> None:
    """Launch the page and wait."""
    from app.build import build
    from app.server import janitor
    from app.ui.assets import ASSETS
    from app.ui.gradio_patches import LAUNCH, ask_queue_seldom

    page, ctx = build(settings)
    janitor.start(settings)
    page.queue(default_concurrency_limit=8)
    ask_queue_seldom(page)
    page.launch(
        server_name=settings.host,
        server_port=settings.port,
        inbrowser=open_browser,
        quiet=True,
        prevent_thread_lock=True,
        show_error=False,
        max_file_size=settings.max_upload,
        app_kwargs={"routes": [ctx.images.route]},
        footer_links=["api"],
        ssr_mode=False,
        theme=theme(),
        **LAUNCH,
        css_paths=sorted(ASSETS.glob("*.css")),
        head_paths=sorted(ASSETS.glob("*.html")),
    )
    print(
        f"DPD Studio is at http://{settings.host}:{settings.port} (state in {settings.home})",
        file=sys.stderr,
    )
    # The first page asks what the machine computes on, which imports torch: seconds, spent now.
    threading.Thread(target=warm_up, daemon=True).start()
    page.block_thread()


def warm_up() -> None:
    """Import what the first visitor would otherwise wait for."""
    from dpd_core.config import ProjectConfig
    from dpd_core.hardware import choose_hardware

    choose_hardware(ProjectConfig())


def theme() -> Any:
    """The look of Gradio's own components: quiet labels, no fonts from elsewhere."""
    import gradio as gr

    return gr.themes.Soft(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["monospace"],
        spacing_size="sm",
    ).set(
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_title_text_weight="600",
        # The theme draws the empty box of a choice white on white.
        checkbox_border_color="*neutral_400",
        checkbox_border_width="1px",
    )
