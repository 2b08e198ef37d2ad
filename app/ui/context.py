"""What all tabs share: settings, workspaces, jobs, images, and the session in the browser.

A handler gets the visitor's open project as its first argument, raises :class:`DPDError` for
whatever the visitor can mend, and knows nothing of sessions::

    ctx.on(button.click, rename, inputs=[field], outputs=[table])

    def rename(project: Project, text: str) -> dict: ...
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from app.server import paths
from app.server.arrivals import Arrivals
from app.server.jobs import JobQueue
from app.server.limits import Limits
from app.server.pace import network
from app.server.pictures import ImageServer
from app.server.settings import Settings
from app.server.workspaces import LOCAL_VISITOR, Workspace, new_visitor
from app.ui.messages import message, unexpected
from dpd_core import STAGES
from dpd_core.errors import DPDError
from dpd_core.project import Project

log = logging.getLogger(__name__)


COVER = """(session) => {
  if (session?.project === window.dpdProject) return;
  window.dpdProject = session?.project;
  const covers = STAGES.map((stage) => `cover-${stage}`);
  document.body.classList.add(...covers);
  setTimeout(() => document.body.classList.remove(...covers), 30000);
}""".replace("STAGES", json.dumps(["start", *STAGES]))
"""Nothing of another project: as soon as the session has another one, all tabs are covered (see
``assets/app/head.html``), each until its own data are there."""

UNCOVER = """(filled, session) => {
  if (filled === session?.project) document.body.classList.remove('cover-STAGE');
}"""


@dataclass(frozen=True)
class Refresh:
    """A function that fills ``outputs`` from ``(project, *inputs)``."""

    function: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]


@dataclass
class Context:
    """Made once by :func:`app.build.build`; components are added while it builds.

    Attributes:
        settings, jobs, images, limits: The application's parts.
        session: Kept by the browser: ``visitor``, ``project`` (name) and ``tab``. Untrusted.
        revision: By stage, a hidden token that changes whenever what its tab shows may have
            changed: another project, a finished stage, edited captions, a new distilled set. Attach
            ``ctx.on_change(stage, refresh, outputs=…)``. ``project`` tells of the project itself,
            ``all`` of any stage.
        pulse: By tab, a hidden token that changes with every event of the project's current job as
            long as somebody looks at the tab; for live views.
        filled: By stage, the name of the project that its tab shows.
    """

    settings: Settings
    jobs: JobQueue
    images: ImageServer
    session: gr.BrowserState
    limits: Limits
    revision: dict[str, gr.Textbox] = field(default_factory=dict)
    pulse: dict[str, gr.Textbox] = field(default_factory=dict)
    filled: dict[str, gr.Textbox] = field(default_factory=dict)
    refreshes: dict[str, list[Refresh]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._arrivals = Arrivals(self.settings)

    def workspace(self, session: dict[str, Any] | None) -> Workspace:
        """The workspace of the session's visitor."""
        visitor = str((session or {}).get("visitor", ""))
        return Workspace.of(self.settings, visitor, lambda: self._arrivals.admit(address()))

    def project(self, session: dict[str, Any] | None) -> Project:
        """The open project.

        Raises:
            ProjectError: none is open, or it is gone.
        """
        return self.workspace(session).open(str((session or {}).get("project", "")))

    def shown_command(self, project: Project, command: str) -> str:
        """A job's command line for the page; strangers do not see where the server keeps things."""
        return paths.hidden(command)

    def begin(self, session: dict[str, Any] | None) -> dict[str, Any]:
        """The session of a page just loaded: with a visitor token and an existing project."""
        session = dict(session) if isinstance(session, dict) else {}
        try:
            workspace = self.workspace(session)
        except DPDError:
            workspace = None
        if workspace is None or not session.get("visitor"):
            session["visitor"] = new_visitor() if self.settings.hosted else LOCAL_VISITOR
            workspace = self.workspace(session)
        if session.get("project") not in workspace.names():
            try:
                session["project"] = workspace.latest() or workspace.ensure_demo()
            except DPDError as error:
                raise message(error) from error
        if session.get("tab") not in STAGES:
            session["tab"] = "start"
        return session

    def on(
        self,
        trigger: Any,
        function: Callable[..., Any],
        *,
        inputs: Sequence[Any] = (),
        outputs: Sequence[Any] | Any = (),
        quiet: bool = False,
        **options: Any,
    ) -> Any:
        """Wire an event: ``function(project, *inputs)`` → ``outputs``; private to the page.

        A :class:`DPDError` becomes a message on the page and leaves the outputs as they are.

        Args:
            trigger: An event of a component, e.g. ``button.click``.
            function: Handler. A parameter annotated ``gr.EventData`` (or a subclass) gets the
                event, as usual.
            inputs, outputs: Components.
            quiet: For refreshes that nobody asked for: what cannot be shown yet is no error, and
                no progress is drawn.
            options: Passed on to Gradio.
        """
        if quiet:
            options = {"queue": False, "show_progress": "hidden", **options}
        return trigger(
            self.handler(function, quiet=quiet),
            inputs=[self.session, *inputs],
            outputs=outputs or None,
            api_visibility="private",
            **options,
        )

    def on_change(
        self,
        stage: str,
        function: Callable[..., Any],
        *,
        inputs: Sequence[Any] = (),
        outputs: Sequence[Any] | Any = (),
    ) -> None:
        """Refresh a stage's views whenever its revision changes and somebody looks.

        All refreshes of a stage are one request (:meth:`wire_changes`), in the order they are given
        here; one that cannot be shown yet leaves its outputs as they are.
        """
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        self.refreshes.setdefault(stage, []).append(Refresh(function, list(inputs), list(outputs)))

    def wire_changes(self) -> None:
        """Attach what :meth:`on_change` has gathered, when all tabs are wired."""
        for stage, refreshes in self.refreshes.items():
            shown = [self.filled[stage]] if stage in self.filled else []
            done = self.on(
                self.revision[stage].change,
                together(refreshes, tell=bool(shown)),
                inputs=[component for refresh in refreshes for component in refresh.inputs],
                outputs=[out for refresh in refreshes for out in refresh.outputs] + shown,
                quiet=True,
                trigger_mode="always_last",
            )
            if shown:
                uncover = UNCOVER.replace("STAGE", stage)
                done.then(None, inputs=[*shown, self.session], js=uncover, api_visibility="private")

    def on_pulse(
        self,
        tab: str,
        function: Callable[..., Any],
        *,
        inputs: Sequence[Any] = (),
        outputs: Sequence[Any] | Any = (),
    ) -> Any:
        """Refresh a tab's live view with every sign of life of the current job."""
        return self.on(
            self.pulse[tab].change,
            function,
            inputs=inputs,
            outputs=outputs,
            quiet=True,
            trigger_mode="always_last",
        )

    def handler(self, function: Callable[..., Any], *, quiet: bool = False) -> Callable[..., Any]:
        """The function with the session in place of the project and errors as messages."""

        @functools.wraps(function)
        def handle(session: dict[str, Any] | None, *values: Any) -> Any:
            try:
                return function(self.project(session), *values)
            except DPDError as error:
                if quiet:
                    log.debug("not shown: %s", error)
                    return gr.skip()
                raise message(error) from error
            except (gr.Error, KeyboardInterrupt):
                raise
            except Exception as error:
                # A bug of ours, or a made-up request. The traceback is for the log alone.
                log.exception("a handler failed: %s", getattr(function, "__qualname__", function))
                raise unexpected() from error

        return handle


def address() -> str:
    """Where the request being answered came from; empty outside of one."""
    request = LocalContext.request.get(None)
    client = getattr(request, "client", None)
    return network(client.host) if client is not None else ""


def together(refreshes: Sequence[Refresh], *, tell: bool) -> Callable[..., list[Any]]:
    """One handler for several; with ``tell`` its last output is the project's name."""

    def refresh_all(project: Project, *values: Any) -> list[Any]:
        answers: list[Any] = []
        rest = list(values)
        for refresh in refreshes:
            taken, rest = rest[: len(refresh.inputs)], rest[len(refresh.inputs) :]
            count = len(refresh.outputs)
            try:
                answer = refresh.function(project, *taken)
            except DPDError as error:
                log.debug("not shown: %s", error)
                answer = [gr.skip()] * count if count > 1 else gr.skip()
            answers += answer if count > 1 else [answer]
        return [*answers, project.name] if tell else answers

    return refresh_all
