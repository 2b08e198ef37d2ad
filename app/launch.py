"""The command ``python app.py``: arguments, server, shutdown."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import threading
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.server import documents
from app.server.environment import TOKEN_VARIABLES
from app.server.middleware import TOKEN, guards
from app.server.settings import LOCAL_HOSTS, TEMPORARY, Settings

if TYPE_CHECKING:
    from app.ui.context import Context

MAX_WAITING = 200
"""Most calls of the page or the API that wait for an answer at the same time."""


def main(arguments: list[str] | None = None) -> int:
    """Build the page and serve it until Ctrl-C; returns the exit status."""
    # Nothing leaves the machine unasked.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Who is a proxy is decided by app/server/middleware.py, not by the web server.
    os.environ["FORWARDED_ALLOW_IPS"] = "none"
    options, settings = parse(arguments)
    # Apart from other programs' files, so that what a killed server leaves can be cleaned up.
    os.environ.setdefault("GRADIO_TEMP_DIR", str(settings.home / TEMPORARY))
    if settings.hosted:
        renounce_tokens()
    serve(settings, open_browser=options.open)
    return 0


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, Settings]:
    """The options, and the settings that they and the environment make."""
    settings = Settings.from_environment()
    parser = argparse.ArgumentParser(
        prog="python app.py", description="DPD Studio in the browser.", allow_abbrev=False
    )
    parser.add_argument(
        "--host",
        default=settings.host,
        help="address to listen on; anything but this machine's own turns hosted mode on",
    )
    parser.add_argument(
        "--port", type=int, default=settings.port, help="port to listen on (%(default)s)"
    )
    parser.add_argument("--home", type=Path, default=settings.home, help="where all state is kept")
    parser.add_argument("--open", action="store_true", help="open a browser")
    parser.add_argument(
        "--token",
        action=argparse.BooleanOptionalAction,
        help="ask for the token that is printed at the start; by default where another host than "
        "this machine's own is listened on and DPD_HOSTED does not say that it is for everybody",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name under which the server is reached, e.g. that of a proxy before it",
    )
    options = parser.parse_args(arguments)
    own = options.host in LOCAL_HOSTS
    token = not own and not settings.hosted if options.token is None else options.token
    settings = replace(
        settings,
        host=options.host,
        port=options.port,
        home=options.home.expanduser().resolve(),
        token=token,
        allowed_hosts=(*settings.allowed_hosts, *options.allow_host),
    )
    return options, settings if own else settings.served_to_strangers()


def serve(settings: Settings, *, open_browser: bool = False) -> None:
    """Launch the page and wait."""
    from app.build import build
    from app.server import janitor, scheduler
    from app.server.leftovers import Leftovers
    from app.ui.assets import ASSETS
    from app.ui.gradio_patches import LAUNCH, ask_queue_seldom

    page, ctx = build(settings)
    page.queue(default_concurrency_limit=8, max_size=MAX_WAITING)
    ask_queue_seldom(page)
    scheduler.start(ctx.jobs)
    janitor.start(settings, Leftovers(page._queue).sweep)
    token = secrets.token_hex(16) if settings.token else None
    address = f"http://{_bracketed(settings.host)}:{settings.port}/"
    if token is not None:
        address += f"?{TOKEN}={token}"
    page.launch(
        server_name=settings.host,
        server_port=settings.port,
        quiet=True,
        prevent_thread_lock=True,
        show_error=False,
        max_file_size=settings.max_upload,
        app_kwargs=app_arguments(settings, ctx, token=token),
        state_session_capacity=settings.sessions,
        footer_links=["api"],
        favicon_path=ASSETS / "favicon.svg",
        ssr_mode=False,
        theme=theme(),
        **LAUNCH,
        css_paths=sorted(ASSETS.glob("*.css")),
        head_paths=sorted(ASSETS.glob("*.html")),
    )
    print(f"DPD Studio is at {address} (state in {settings.home})", file=sys.stderr, flush=True)
    if open_browser:
        webbrowser.open(address)
    # The first page asks what the machine computes on, which imports torch: seconds, spent now.
    threading.Thread(target=warm_up, daemon=True).start()
    page.block_thread()


def app_arguments(settings: Settings, ctx: Context, *, token: str | None = None) -> dict[str, Any]:
    """What Gradio's own application is made with: our routes, and what every request passes."""
    return {
        "routes": [ctx.images.route, documents.route()],
        "middleware": guards(settings, token=token),
        "docs_url": None,
        "redoc_url": None,
    }


def renounce_tokens() -> None:
    """Forget the Hub token of whoever started the server: what it does for strangers, it does with
    no rights or with theirs. Call it before the Hub's library is imported."""
    for name in TOKEN_VARIABLES:
        os.environ.pop(name, None)
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    os.environ["HF_TOKEN_PATH"] = os.devnull


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def warm_up() -> None:
    """Import what the first visitor would otherwise wait for."""
    from dpd_core.config import ProjectConfig
    from dpd_core.hardware import choose_hardware

    choose_hardware(ProjectConfig())


def theme() -> Any:
    """The look of Gradio's own components: quiet labels, no fonts from elsewhere, and every text at
    a contrast of 4.5 to 1 or more (``tests/ui/test_accessible.py``; the rest is in
    ``assets/app/head.html``)."""
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
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_300",
        color_accent="*primary_700",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        checkbox_label_text_color_selected="white",
        checkbox_label_text_color_selected_dark="white",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_cancel_background_fill="*neutral_50",
        button_cancel_background_fill_dark="*neutral_600",
        button_cancel_text_color="#b91c1c",
        button_cancel_text_color_dark="#fecaca",
        button_cancel_text_color_hover="#991b1b",
        button_cancel_text_color_hover_dark="#fecaca",
    )
