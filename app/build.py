"""The page: sidebar, seven tabs, and the clock that tells them what changed on disk."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.api import add_api
from app.captions.tab import CaptionsTab
from app.dataset.tab import DatasetTab
from app.evaluate.tab import EvaluateTab
from app.export.tab import ExportTab
from app.prototypes.tab import PrototypesTab
from app.server import paths
from app.server.jobs import JobDesk
from app.server.limits import Limits
from app.server.pictures import ImageServer
from app.server.settings import Settings
from app.shell import projects
from app.shell.sidebar import KEEP_THEME, Sidebar
from app.synthesize.tab import SynthesizeTab
from app.train.tab import TrainTab
from app.ui import revisions
from app.ui.context import Context, address
from app.ui.gradio_patches import keep_ids
from dpd_core import STAGES
from dpd_core.errors import DPDError

TABS: dict[str, Any] = dict(
    zip(
        STAGES,
        (DatasetTab, PrototypesTab, CaptionsTab, TrainTab, SynthesizeTab, EvaluateTab, ExportTab),
        strict=True,
    )
)
"""The tab of each stage."""

LOOKED_AT = {stage: (stage,) for stage in STAGES} | {"prototypes": ("prototypes", "captions")}
"""Whose changes a tab shows. The other tabs hear of a change when they are opened: half of what a
page asks for would otherwise be for tabs that nobody sees."""


def build(settings: Settings) -> tuple[gr.Blocks, Context]:
    """Make the page; the caller launches it."""
    keep_ids()
    paths.hide(settings)
    with gr.Blocks(
        title="DPD Studio",
        fill_width=True,
        analytics_enabled=False,
        # Uploads that nobody took, and files made for a download.
        delete_cache=(600, 3600),
    ) as page:
        session = gr.BrowserState({}, storage_key="dpd-studio", secret="dpd-studio")
        limits = Limits(settings)
        ctx = Context(
            settings,
            JobDesk(settings, limits, address),
            ImageServer(settings.secret),
            session,
            limits,
        )
        # Hidden text boxes and not states: a state set outside the queue announces no change.
        ctx.revision = {
            stage: gr.Textbox(visible="hidden", elem_id=f"revision-{stage}")
            for stage in ("project", "all", *STAGES)
        }
        ctx.pulse = gr.Textbox(visible="hidden", elem_id="pulse")
        sidebar = Sidebar(ctx)
        sidebar.build()
        tabs: dict[str, Any] = {}
        with gr.Tabs(elem_id="tabs") as tab_bar:
            for stage in STAGES:
                with gr.Tab(stage.capitalize(), id=stage, elem_id=f"tab-{stage}") as tab:
                    tabs[stage] = TABS[stage](ctx)
                    tabs[stage].tab = tab
                    tabs[stage].build()
        sidebar.wire()
        for tab in tabs.values():
            tab.wire()
        _wire_clock(page, ctx, sidebar, tab_bar)
        add_api(ctx)
    return page, ctx


def _wire_clock(page: gr.Blocks, ctx: Context, sidebar: Sidebar, tab_bar: gr.Tabs) -> None:
    """Load, tick and switch of project all end in the same question: what is new on disk?"""
    assert ctx.pulse is not None
    clock = gr.Timer(ctx.settings.tick_seconds)
    states = {**ctx.revision, "pulse": ctx.pulse}
    shown = sidebar.shown
    silent: dict[str, Any] = {
        "queue": False,
        "show_progress": "hidden",
        "api_visibility": "private",
    }

    def look(session: dict[str, Any] | None, *known: str) -> list[Any]:
        if not isinstance(session, dict) or not session.get("project"):  # not loaded yet
            return [gr.skip()] * (len(known) + len(shown))
        found = _now_on_disk(ctx, session)
        # All tabs of a project just opened are filled, so that nothing comes over what is typed in.
        opened = found.get("project") != known[0]
        tabs = STAGES if opened else LOOKED_AT.get(str(session.get("tab")), STAGES)
        looked_at = {"project", "all", "pulse", *tabs}
        # "gone" where there is no project any more, which is told once.
        new = {
            key: now
            for key, old in zip(states, known, strict=True)
            if key in looked_at and (now := found.get(key, "gone")) != old
        }
        changed = "project" in new or "all" in new
        return [
            *(new.get(key, gr.skip()) for key in states),
            *(sidebar.show_project(session) if changed else [gr.skip()] * len(shown)),
        ]

    def load(session: dict[str, Any] | None) -> list[Any]:
        session = ctx.begin(session)
        return [session, gr.Tabs(selected=session["tab"])]

    page.load(None, js=KEEP_THEME, api_visibility="private")
    page.load(load, inputs=[ctx.session], outputs=[ctx.session, tab_bar], **silent)
    gr.on(
        [clock.tick, ctx.session.change],
        look,
        inputs=[ctx.session, *states.values()],
        outputs=[*states.values(), *shown],
        trigger_mode="once",
        **silent,
    )

    def remember(session: dict[str, Any], event: gr.SelectData) -> dict[str, Any]:
        return {**(session or {}), "tab": str(event.value).lower()}

    tab_bar.select(remember, inputs=[ctx.session], outputs=[ctx.session], **silent)


def _now_on_disk(ctx: Context, session: dict[str, Any]) -> dict[str, str]:
    """The tokens of the open project; none where it is gone (deleted in another tab)."""
    try:
        project = ctx.project(session)
        names = ctx.workspace(session).names()
        stages = revisions.revisions(project)
        # The last stage's token carries all earlier ones and the manifest.
        return {
            "project": projects.token(project, names),
            "all": stages[STAGES[-1]],
            **stages,
            "pulse": revisions.pulse(project, ctx.jobs),
        }
    except DPDError:
        return {}
