"""The page: sidebar, start page, seven tabs, and the clock that tells them what changed on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.api import add_api
from app.captions.tab import CaptionsTab
from app.dataset.tab import DatasetTab
from app.evaluate.tab import EvaluateTab
from app.export.tab import ExportTab
from app.prototypes.tab import PrototypesTab
from app.server import paths
from app.server.jobs import JobQueue
from app.server.limits import Limits
from app.server.pictures import ImageServer
from app.server.settings import Settings
from app.shell import projects
from app.shell.sidebar import AT_FIRST, Sidebar
from app.start.tab import StartTab
from app.synthesize.tab import SynthesizeTab
from app.train.tab import TrainTab
from app.ui import revisions
from app.ui.context import COVER, Context, address
from app.ui.gradio_patches import answer_no_preflights, keep_ids
from dpd_core import STAGES, storage
from dpd_core.errors import DPDError

TABS: dict[str, Any] = dict(
    zip(
        STAGES,
        (DatasetTab, PrototypesTab, CaptionsTab, TrainTab, SynthesizeTab, EvaluateTab, ExportTab),
        strict=True,
    )
)
"""The tab of each stage."""

START = "start"
"""The page before the stages' tabs."""

LOOKED_AT = {stage: (stage,) for stage in (START, *STAGES)} | {"prototypes": ("prototypes", "map")}
"""Whose changes a tab shows. The other tabs hear of a change when they are opened: most of what a
page asks for would otherwise be for tabs that nobody sees."""

LIVE = (START, "captions", "train", "synthesize")
"""Tabs that follow the job at work."""


def build(settings: Settings) -> tuple[gr.Blocks, Context]:
    """Make the page; the caller launches it."""
    keep_ids()
    answer_no_preflights()
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
            JobQueue(settings, limits, address),
            ImageServer(settings.secret, settings.prefix),
            session,
            limits,
        )
        # Hidden text boxes and not states: a state set outside the queue announces no change.
        ctx.revision = _hidden("revision", ("project", "all", "job", "map", START, *STAGES))
        ctx.pulse = _hidden("pulse", LIVE)
        ctx.filled = _hidden("filled", (START, *STAGES))
        sidebar = Sidebar(ctx)
        sidebar.build()
        tabs: dict[str, Any] = {}
        with gr.Tabs(elem_id="tabs") as tab_bar:
            for stage, kind in ({START: StartTab} | TABS).items():
                with gr.Tab(stage.capitalize(), id=stage, elem_id=f"tab-{stage}") as tab:
                    tabs[stage] = kind(ctx)
                    tabs[stage].tab = tab
                    tabs[stage].build()
        sidebar.wire()
        for tab in tabs.values():
            tab.wire()
        ctx.wire_changes()
        _wire_clock(page, ctx, sidebar, tab_bar)
        add_api(ctx)
    return page, ctx


def _hidden(prefix: str, names: Sequence[str]) -> dict[str, gr.Textbox]:
    return {name: gr.Textbox(visible="hidden", elem_id=f"{prefix}-{name}") for name in names}


def _wire_clock(page: gr.Blocks, ctx: Context, sidebar: Sidebar, tab_bar: gr.Tabs) -> None:
    """Load, tick and switch of project all end in the same question: what is new on disk?"""
    clock = gr.Timer(ctx.settings.tick_seconds)
    states = {**ctx.revision, **{f"pulse-{tab}": box for tab, box in ctx.pulse.items()}}
    of_project, of_job = sidebar.shown, sidebar.job_outputs
    silent: dict[str, Any] = {
        "queue": False,
        "show_progress": "hidden",
        "api_visibility": "private",
    }

    def look(session: dict[str, Any] | None, *known: str) -> list[Any]:
        if not isinstance(session, dict) or not session.get("project"):  # not loaded yet
            return [gr.skip()] * (len(known) + len(of_project) + len(of_job))
        found = _now_on_disk(ctx, session)
        tab = str(session.get("tab"))
        looked_at = {"project", "all", "job", f"pulse-{tab}", *LOOKED_AT.get(tab, ())}
        # "gone" where there is no project any more, which is told once.
        new = {
            key: now
            for key, old in zip(states, known, strict=True)
            if key in looked_at and (now := found.get(key, "gone")) != old
        }
        project, job = [gr.skip()] * len(of_project), [gr.skip()] * len(of_job)
        if "project" in new or "all" in new:
            project = sidebar.show_project(session)
        if {"job", "project", "all"} & set(new) and found:
            job = sidebar.show_job(ctx.project(session))
        return [*(new.get(key, gr.skip()) for key in states), *project, *job]

    def load(session: dict[str, Any] | None) -> list[Any]:
        session = ctx.begin(session)
        return [session, gr.Tabs(selected=session["tab"])]

    page.load(None, js=AT_FIRST, api_visibility="private")
    ctx.session.change(None, inputs=[ctx.session], js=COVER, api_visibility="private")
    page.load(load, inputs=[ctx.session], outputs=[ctx.session, tab_bar], **silent)
    gr.on(
        [clock.tick, ctx.session.change],
        look,
        inputs=[ctx.session, *states.values()],
        outputs=[*states.values(), *of_project, *of_job],
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
        job, current = revisions.pulse(project, ctx.jobs), ctx.jobs.current(project)
        return {
            "project": projects.token(project, names),
            # The last stage's token carries all earlier ones and the manifest.
            "all": stages[STAGES[-1]],
            **stages,
            # Also when work begins and ends, after which other buttons make sense.
            START: storage.digest(stages[STAGES[-1]], current and (current.id, current.status)),
            "map": stages["captions"],  # it tells the captions of the prototypes
            "job": job,
            **{f"pulse-{tab}": job for tab in LIVE},
        }
    except DPDError:
        return {}
