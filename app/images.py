"""Images for the page: thumbnails and results of a project, behind unguessable links.

A link is ``/studio/<ticket>/<kind>/<key>``. The ticket is a keyed digest of the project's path,
so it opens this one project's pictures and nothing else, and cannot be made up. Gradio's own file
route is not used for them, because it would show whole folders to every visitor.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from dpd_core.dataset import load_index, thumbnail
from dpd_core.errors import DPDError
from dpd_core.project import Project

SHOWN = {
    "distilled": (".png", ".jpg"),
    "adapters": (".png", ".jpg"),
    "captions": (".png", ".jpg"),
    "reports": (".png", ".jpg"),
    "export": (".zip",),
}
"""What may be fetched from a project: file endings by top folder."""

_HEADERS = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}


class ImageServer:
    """Makes the links and answers them.

    Args:
        secret: Key of the installation.
    """

    def __init__(self, secret: str):
        self._key = secret.encode()
        self._roots: dict[str, Path] = {}

    def thumbnail(self, project: Project, image_id: str) -> str:
        """Link to the thumbnail of an image of the data set."""
        return f"{self._base(project)}/thumb/{quote(image_id, safe='/')}"

    def file(self, project: Project, path: Path) -> str:
        """Link to a result in the project (see :data:`SHOWN`), renewed when the file changes."""
        version = path.stat().st_mtime_ns if path.exists() else 0
        return f"{self._base(project)}/file/{quote(project.relative(path))}?v={version:x}"

    def base(self, project: Project) -> str:
        """What all links of a project begin with; ``/thumb/<image id>`` and ``/file/<path>``
        (percent-encoded) follow. For components that make many links in the browser."""
        return self._base(project)

    @property
    def route(self) -> Route:
        """The route to put before Gradio's own."""
        return Route("/studio/{ticket}/{kind}/{key:path}", self._answer)

    def _base(self, project: Project) -> str:
        digest = hmac.new(self._key, str(project.root).encode(), hashlib.sha256).hexdigest()[:40]
        self._roots[digest] = project.root
        return f"/studio/{digest}"

    async def _answer(self, request: Request) -> Response:
        root = self._roots.get(request.path_params["ticket"])
        if root is None:
            return PlainTextResponse("no such image", 404)
        kind, key = request.path_params["kind"], request.path_params["key"]
        path = await run_in_threadpool(self._find, Project(root), kind, key)
        if path is None:
            return PlainTextResponse("no such image", 404)
        return FileResponse(path, headers=_HEADERS)

    def _find(self, project: Project, kind: str, key: str) -> Path | None:
        try:
            if kind == "thumb":
                records = load_index(project).by_id
                return thumbnail(project, records[key]) if key in records else None
            path = project.path(key).resolve()
            top = path.relative_to(project.root).parts[0]
        except (DPDError, ValueError, OSError, IndexError):
            return None
        shown = kind == "file" and path.suffix in SHOWN.get(top, ()) and path.is_file()
        return path if shown else None
