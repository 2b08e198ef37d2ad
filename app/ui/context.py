"""What all tabs share: settings, workspaces, jobs, images, and the session in the browser.

A handler gets the visitor's open project as its first argument, raises :class:`DPDError` for
whatever the visitor can mend, and knows nothing of sessions::

    ctx.on(button.click, rename, inputs=[field], outputs=[table])

    def rename(project: Project, text: str) -> dict: ...
"""

from __future__ import annotations

import functools
import html
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.server import janitor
from app.server.jobs import JobDesk
from app.server.limits import Limits
from app.server.pictures import ImageServer
from app.server.settings import Settings
from app.server.workspaces import LOCAL_VISITOR, Workspace, new_visitor
from dpd_core import STAGES
from dpd_core.errors import DPDError, ProjectError
from dpd_core.project import Project

log = logging.getLogger(__name__)


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
        pulse: Changes with every event of the project's current job; for live views.
    """

    settings: Settings
    jobs: JobDesk
    images: ImageServer
    session: gr.BrowserState
    limits: Limits
    revision: dict[str, gr.Textbox] = field(default_factory=dict)
    pulse: gr.Textbox | None = None

    def workspace(self, session: dict[str, Any] | None) -> Workspace:
        """The workspace of the session's visitor."""
        return Workspace.of(self.settings, str((session or {}).get("visitor", "")))

    def project(self, session: dict[str, Any] | None) -> Project:
        """The open project.

        Raises:
            ProjectError: none is open, or it is gone.
        """
        return self.workspace(session).open(str((session or {}).get("project", "")))

    def shown_command(self, project: Project, command: str) -> str:
        """A job's command line for the page; strangers do not see where the server keeps things."""
        return command.replace(str(project.root), project.name) if self.settings.hosted else command

    def begin(self, session: dict[str, Any] | None) -> dict[str, Any]:
        """The session of a page just loaded: with a visitor token and an existing project."""
        session = dict(session) if isinstance(session, dict) else {}
        try:
            workspace = self.workspace(session)
        except DPDError:
            workspace = None
        if workspace is None or not session.get("visitor"):
            session["visitor"] = self._new_visitor()
            workspace = self.workspace(session)
        names = workspace.names()
        if session.get("project") not in names:
            session["project"] = workspace.latest() or workspace.ensure_demo()
        if session.get("tab") not in STAGES:
            session["tab"] = STAGES[0]
        return session

    def _new_visitor(self) -> str:
        if not self.settings.hosted:
            return LOCAL_VISITOR
        if janitor.is_full(self.settings) and not janitor.sweep(self.settings):
            raise message(
                ProjectError(
                    "this server has no place for another visitor now.", fix="Come back later."
                )
            )
        return new_visitor()

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
    ) -> Any:
        """Refresh a stage's views whenever its revision changes (and when the page loads)."""
        return self.on(
            self.revision[stage].change,
            function,
            inputs=inputs,
            outputs=outputs,
            quiet=True,
            trigger_mode="always_last",
        )

    def on_pulse(
        self,
        function: Callable[..., Any],
        *,
        inputs: Sequence[Any] = (),
        outputs: Sequence[Any] | Any = (),
    ) -> Any:
        """Refresh a live view with every sign of life of the current job."""
        assert self.pulse is not None, "the pulse is made before the tabs are wired"
        return self.on(
            self.pulse.change,
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


def message(error: DPDError) -> gr.Error:
    """The error as a message on the page."""
    return gr.Error(escaped(error), print_exception=False, duration=15)


def escaped(error: DPDError) -> str:
    """The error's text for the page, which takes it for HTML; it may quote what a visitor sent."""
    return html.escape(str(error), quote=False)


def unexpected() -> gr.Error:
    """What a visitor is told of a fault of ours."""
    return gr.Error(
        "This did not work, through a fault of the program. The server's log says more.",
        print_exception=False,
        duration=15,
    )
