"""The documentation, as pages beside the app: what the repository's Markdown files say, offline."""

from __future__ import annotations

import html
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

ROOT = Path(__file__).resolve().parents[2]
PATH = "/documentation"
"""Where the pages are."""
START = "README.md"

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto;
  padding: 0 1rem; color: #0f172a; background: #fff; }}
a {{ color: #0f766e; }} img {{ max-width: 100%; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
td, th {{ border: 1px solid #cbd5e1; padding: 0.3rem 0.6rem; text-align: left;
  vertical-align: top; }} pre {{ overflow-x: auto; background: #f1f5f9; padding: 0.7rem; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e2e8f0; background: #0b1120; }}
  a {{ color: #5eead4; }} pre {{ background: #1e293b; }} td, th {{ border-color: #475569; }} }}
</style></head><body><nav aria-label="Pages">{links}</nav>{body}</body></html>"""


def titles() -> dict[str, str]:
    """The pages: file below the repository, and what it is called."""
    below = (*sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("assets/*/README.md")))
    names = [START, *(path.relative_to(ROOT).as_posix() for path in below)]
    found = {}
    for name in names:
        lines = _text(name).splitlines()
        found[name] = next((line[2:].strip() for line in lines if line.startswith("# ")), name)
    return found


def route() -> Route:
    """The route of pages and pictures."""
    return Route(PATH + "/{path:path}", _answer, methods=["GET"])


def _answer(request: Request) -> Response:
    name = request.path_params["path"] or START
    # Only what is on the lists: the name comes from outside.
    if name in titles():
        return HTMLResponse(_page(name))
    if name in {f"assets/pictures/{path.name}" for path in (ROOT / "assets/pictures").glob("*.*")}:
        return FileResponse(ROOT / name)
    return Response("There is no such page.", status_code=404, media_type="text/plain")


def _text(name: str) -> str:
    path = ROOT / name
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.startswith("---\n"):  # what a Space reads
        text = text.partition("\n---\n")[2]
    return text


@cache
def _page(name: str) -> str:
    up = "../" * name.count("/")
    links = " · ".join(
        f'<a href="{up}{html.escape(other)}">{html.escape(title)}</a>'
        for other, title in titles().items()
    )
    # Raw HTML in the files (comments) is left out, not passed on.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(_shown(_text(name)))
    return _PAGE.format(title=html.escape(titles()[name]), links=links, body=body)


def _shown(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("<!--"))
