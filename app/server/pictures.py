"""Images for the page: thumbnails and results of a project, behind unguessable links.

A link is ``/studio/<ticket>/<kind>/<key>``. The ticket is a keyed digest of the project's path,
so it opens this one project's pictures and nothing else, and cannot be made up. Gradio's own file
route is not used for them, because it would show whole folders to every visitor.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dpd_core.dataset.index import load_index
from dpd_core.dataset.pixels import LARGE, THUMBNAIL, on_screen
from dpd_core.errors import DPDError
from dpd_core.pipeline.stages import COMMANDS
from dpd_core.project import Project

SHOWN = {top: endings for command in COMMANDS.values() for top, endings in command.served.items()}
"""What may be fetched from a project: file endings by top folder."""

SIZES = {"thumb": THUMBNAIL, "large": LARGE}
"""Side of the images of the data set in px, by kind of link."""

_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
"""Of images that are shown as they are."""

_HEADERS = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}


class ImageServer:
    """Makes the links and answers them.

    Args:
        secret: Key of the installation.
        prefix: Path under which a proxy shows the app, like ``/dpd``, which it takes away before
            it asks; the links begin with it.
    """

    def __init__(self, secret: str, prefix: str = ""):
        self._key, self._prefix = secret.encode(), prefix
        self._roots: dict[str, Path] = {}
        self._data: dict[str, Callable[[Project], Any]] = {}

    def thumbnail(self, project: Project, image_id: str) -> str:
        """Link to the thumbnail of an image of the data set."""
        return f"{self.base(project)}/thumb/{quote(image_id, safe='/')}"

    def large(self, project: Project, image_id: str) -> str:
        """Link to an image of the data set at up to ``LARGE`` px."""
        return f"{self.base(project)}/large/{quote(image_id, safe='/')}"

    def file(self, project: Project, path: Path) -> str:
        """Link to a result in the project (see :data:`SHOWN`), renewed when the file changes."""
        version = path.stat().st_mtime_ns if path.exists() else 0
        return f"{self.base(project)}/file/{quote(project.relative(path))}?v={version:x}"

    def provide(self, name: str, function: Callable[[Project], Any]) -> None:
        """Answer ``<base>/data/<name>`` with what a function says of the project, as JSON: for
        components whose data is too much to be sent unasked."""
        self._data[name] = function

    def base(self, project: Project) -> str:
        """What all links of a project begin with; ``/thumb/<image id>`` and ``/file/<path>``
        (percent-encoded) follow. For components that make many links in the browser."""
        digest = hmac.new(self._key, str(project.root).encode(), hashlib.sha256).hexdigest()[:40]
        self._roots[digest] = project.root
        return f"{self._prefix}/studio/{digest}"

    @property
    def route(self) -> Route:
        """The route to put before Gradio's own."""
        return Route("/studio/{ticket}/{kind}/{key:path}", self._answer)

    async def _answer(self, request: Request) -> Response:
        root = self._roots.get(request.path_params["ticket"])
        if root is None:
            return PlainTextResponse("no such image", 404)
        kind, key = request.path_params["kind"], request.path_params["key"]
        if kind == "data" and key in self._data:
            packed = "gzip" in request.headers.get("accept-encoding", "")
            return await run_in_threadpool(self._tell, Project(root), key, packed)
        found = await run_in_threadpool(self._find, Project(root), kind, key)
        if found is None:
            return PlainTextResponse("no such image", 404)
        if isinstance(found, Path):
            return FileResponse(found, headers=_HEADERS)
        content, suffix = found
        return Response(content, media_type=_KINDS[suffix], headers=_HEADERS)

    def _tell(self, project: Project, name: str, packed: bool) -> Response:
        try:
            content = self._data[name](project)
        except DPDError as error:
            return JSONResponse({"error": str(error)}, 404)
        # The link names a version, so the browser may keep it.
        response: Response = JSONResponse(content, headers={**_HEADERS, "Vary": "Accept-Encoding"})
        if packed:
            body = gzip.compress(bytes(response.body), 5)
            response = Response(
                body,
                media_type="application/json",
                headers={**_HEADERS, "Vary": "Accept-Encoding", "Content-Encoding": "gzip"},
            )
        return response

    def _find(self, project: Project, kind: str, key: str) -> Path | tuple[bytes, str] | None:
        """The file; or its content and ending where it lies outside the project."""
        try:
            if kind in SIZES:
                record = load_index(project).by_id.get(key)
                shown = on_screen(project, record, SIZES[kind]) if record else None
                if record is None or shown != record.path:
                    return shown
                # Whatever lies there now, maybe behind a link, only the image itself is sent.
                content = shown.read_bytes()
                same = hashlib.sha256(content).hexdigest() == record.sha256
                return (content, shown.suffix.lower()) if same else None
            path = project.path(key).resolve()
            top = path.relative_to(project.root).parts[0]
        except (DPDError, ValueError, OSError, IndexError):
            return None
        sent = kind == "file" and path.suffix in SHOWN.get(top, ()) and path.is_file()
        return path if sent else None
