"""The public API: a few typed endpoints for ``gradio_client``; everything else is private.

The docstrings are what callers read on the page "Use via API". On a server that serves strangers
each endpoint wants the visitor's token (32 hexadecimal digits of the caller's own making, e.g.
``secrets.token_hex(16)``); on one's own machine it stays empty. See ``docs/api.md``.
"""

# No `from __future__ import annotations` here: Gradio reads the types of the answers as they are.
import functools
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from app import api_service as service
from app.server.workspaces import Workspace
from app.ui.context import Context
from app.ui.messages import message, unexpected
from dpd_core.errors import DPDError

log = logging.getLogger(__name__)


class Api:
    """The endpoints; each public method is one, under its own name.

    Args:
        ctx: The application's context.
    """

    def __init__(self, ctx: Context):
        self.ctx = ctx

    def list_projects(self, visitor: str = "") -> list[dict[str, Any]]:
        """List your projects.

        Args:
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            Each project's name, and the state of its stages: done, stale or open.
        """
        return service.list_projects(self._workspace(visitor))

    def create_project(self, name: str, visitor: str = "") -> dict[str, Any]:
        """Make an empty project. Start its stage "dataset" with {"demo": true} for demo data.

        Args:
            name: Up to 60 letters, digits, spaces, '-' or '_'.
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            The project's name and the state of its stages.
        """
        return service.create_project(self._workspace(visitor), name, self.ctx.limits)

    def start_stage(
        self,
        project: str,
        stage: str,
        settings: dict[str, Any] | None = None,
        preset: str = "quick",
        visitor: str = "",
    ) -> str:
        """Start a stage as a job, or put it on the waiting list.

        Args:
            project: Name of the project.
            stage: dataset, prototypes, captions, train, synthesize, evaluate or export.
            settings: Values by setting name, as in `python -m dpd_core STAGE --help` with "_"
                for "-"; what is missing comes from the preset.
            preset: quick, standard or published.
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            The job id, for job_status.
        """
        opened = self._workspace(visitor).open(project)
        return service.start_stage(opened, self.ctx.jobs, stage, settings, preset)

    def job_status(self, project: str, job_id: str, visitor: str = "") -> dict[str, Any]:
        """Ask how far a job is.

        Args:
            project: Name of the project.
            job_id: What start_stage returned.
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            stage, status (queued, starting, running, paused, done, stopped, failed or
            interrupted), done, total, eta in seconds or null, message, error, and position on
            the waiting list.
        """
        opened = self._workspace(visitor).open(project)
        return service.job_status(opened, self.ctx.jobs, job_id)

    def dataset_summary(self, project: str, visitor: str = "") -> dict[str, Any]:
        """Describe a project's images.

        Args:
            project: Name of the project.
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            The classes with their readable names and numbers of train and test images, the
            numbers of refused files and of duplicate groups, and the kind of source.
        """
        return service.dataset_summary(self._workspace(visitor).open(project))

    def list_prototypes(self, project: str, visitor: str = "") -> list[dict[str, Any]]:
        """List the prototypes with their captions.

        Args:
            project: Name of the project.
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            For each prototype its class, cluster, image id, cluster size, margin, caption (null
            if it has none), the caption's author and version, and a link to its thumbnail.
        """
        opened = self._workspace(visitor).open(project)
        return service.list_prototypes(opened, self.ctx.images)

    def set_caption(
        self, project: str, class_name: str, cluster: int, text: str, visitor: str = ""
    ) -> dict[str, Any]:
        """Write the caption of a prototype; it can be undone in the tab Captions.

        Args:
            project: Name of the project.
            class_name: Class of the prototype.
            cluster: Number of its cluster, from list_prototypes.
            text: The caption.
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            The caption as it stands now: text, author and version.
        """
        opened = self._workspace(visitor).open(project)
        return service.set_caption(opened, class_name, cluster, text)

    def list_distilled(self, project: str, visitor: str = "") -> list[dict[str, Any]]:
        """List the distilled sets with their images.

        Args:
            project: Name of the project.
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            For each set its name, strategy, images per class, whether it is evaluated, and the
            images: class, slot, caption, score and a link.
        """
        opened = self._workspace(visitor).open(project)
        return service.list_distilled(opened, self.ctx.images)

    def evaluation_report(
        self, project: str, set_name: str = "latest", visitor: str = ""
    ) -> dict[str, Any]:
        """Read the evaluation of a distilled set.

        Args:
            project: Name of the project.
            set_name: Name of the set; "latest" is the one evaluated last.
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            The report: accuracy by set with all seeds, protocol, confusion matrix, FID, KID,
            coverage and NN-SSIM.
        """
        return service.evaluation_report(self._workspace(visitor).open(project), set_name)

    def export_link(
        self, project: str, set_name: str = "latest", visitor: str = ""
    ) -> dict[str, Any]:
        """Get the link to an exported set. Export it first with start_stage.

        Args:
            project: Name of the project.
            set_name: Name of the set; "latest" is the one exported last.
            visitor: Your visitor token on a shared server; empty on your own machine.

        Returns:
            The set's name, the size of the zip in bytes, and a link, relative to the server.
        """
        opened = self._workspace(visitor).open(project)
        return service.export_link(opened, self.ctx.images, set_name)

    def _workspace(self, visitor: str) -> Workspace:
        return self.ctx.workspace({"visitor": visitor})


ENDPOINTS = (
    "list_projects",
    "create_project",
    "start_stage",
    "job_status",
    "dataset_summary",
    "list_prototypes",
    "set_caption",
    "list_distilled",
    "evaluation_report",
    "export_link",
)
"""Everything that is public."""


def add_api(ctx: Context) -> None:
    """Make the endpoints; call it inside the Blocks."""
    api = Api(ctx)
    for name in ENDPOINTS:
        gr.api(_answering(getattr(api, name)), api_name=name)


def _answering(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint with the core's errors as answers."""

    @functools.wraps(endpoint)
    def answer(*values: Any) -> Any:
        try:
            return endpoint(*values)
        except DPDError as error:
            raise message(error) from error
        except Exception as error:
            log.exception("the endpoint %s failed", endpoint.__name__)
            raise unexpected() from error

    return answer
