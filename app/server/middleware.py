"""What every request passes before Gradio sees it: each class is one ASGI middleware.

:func:`guards` gives them in their order, outermost first, for one installation.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.arrivals import free_bytes
from app.server.faults import Faults
from app.server.pace import Pace, network
from app.server.settings import LOCAL_HOSTS, MB, Settings

MAX_BODY = MB
"""Bytes of a request that is no upload."""

UPLOAD = "/gradio_api/upload"

UNUSED = (
    "/gradio_api/proxy=",
    "/gradio_api/deep_link",
    "/gradio_api/run-history",
    "/gradio_api/runs",
    "/gradio_api/vibe-",
    "/gradio_api/undo-vibe-edit",
    "/gradio_api/process_recording",
    "/gradio_api/dev/",
    "/gradio_api/profiling",
    "/monitoring",
    "/proxy=",
    "/docs",
    "/redoc",
    "/openapi.json",
)
"""Routes of Gradio and FastAPI that no page of ours asks for."""

_UNCOUNTED = ("/assets/", "/static/", "/theme.css", "/favicon.ico", "/gradio_api/heartbeat/")
_START = "/gradio_api/startup-events"
"""Gradio asks this of itself when it starts."""

TOKEN = "token"
_REQUESTS = (30.0, 600.0)
"""Requests of one address: a second, and at once. A page that is opened makes about a hundred, and
then two a second."""


def guards(settings: Settings, *, token: str | None = None) -> list[Middleware]:
    """The middleware of an installation, outermost first.

    Args:
        token: What a browser must bring once in ``?token=``; ``None`` asks for none.
    """
    found = [
        Middleware(Proxies, trusted=settings.proxies),
        Middleware(SafeHeaders, framed_by=("https://huggingface.co",) if settings.space else ()),
        Middleware(KnownHosts, names=known_names(settings)),
    ]
    if token is not None:
        found.append(Middleware(TokenRequired, token=token, cookie=f"dpd-{TOKEN}-{settings.port}"))
    if settings.hosted:
        found.append(Middleware(RequestPace, settings=settings))
    found += [Middleware(BodyLimit, settings=settings), Middleware(Faults)]
    return found


def known_names(settings: Settings) -> frozenset[str]:
    """Host names under which the server may be asked; addresses need not be listed."""
    names = {"localhost", settings.host, settings.space, *settings.allowed_hosts}
    return frozenset(name.lower().rstrip(".") for name in names if name)


class Proxies:
    """Believe what a proxy says of the visitor (``X-Forwarded-*``) only if it is a known one; from
    anybody else these headers are taken off, so that nobody can choose an address.

    Args:
        trusted: Networks of the proxies.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str] = ()):
        self.app = app
        self._trusted = [ipaddress.ip_network(network, strict=False) for network in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            client = scope.get("client") or ("", 0)
            if self._knows(client[0]):
                told = headers.get("x-forwarded-for", "").split(",")
                chain = [
                    client[0],
                    *(address.strip() for address in reversed(told) if address.strip()),
                ]
                # The first from behind that is no proxy of ours; what stands before it anybody may
                # have written.
                scope["client"] = (
                    next((host for host in chain if not self._knows(host)), chain[-1]),
                    0,
                )
                if headers.get("x-forwarded-proto") in ("http", "https"):
                    scope["scheme"] = headers["x-forwarded-proto"]
            else:
                scope["headers"] = [
                    (name, value)
                    for name, value in scope["headers"]
                    if not name.lower().startswith((b"x-forwarded-", b"forwarded", b"x-real-ip"))
                ]
        await self.app(scope, receive, send)

    def _knows(self, host: str) -> bool:
        try:
            found = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(found in network for network in self._trusted)


class SafeHeaders:
    """Headers that tell the browser to be careful with every answer.

    Args:
        framed_by: Origins whose pages may show this one in a frame, besides its own.
    """

    def __init__(self, app: ASGIApp, framed_by: Sequence[str] = ()):
        self.app = app
        ancestors = " ".join(("'self'", *framed_by))
        # Gradio evaluates templates and starts its page by scripts in it, hence the two "unsafe";
        # what keeps captions from being run is app/ui/html.py. Nothing may come from, or be sent
        # to, another server.
        self._policy = (
            "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
            "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
            "font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self'; "
            "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
            f"form-action 'self' https://huggingface.co; frame-ancestors {ancestors}"
        )
        self._framed = bool(framed_by)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self._policy)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                # Links to images are keys; another site must not hear of them.
                headers.setdefault("Referrer-Policy", "same-origin")
                if not self._framed:
                    headers.setdefault("X-Frame-Options", "SAMEORIGIN")
            await send(message)

        await self.app(scope, receive, careful)


class KnownHosts:
    """Answer only where the server was asked by a name of its own, and by pages of its own.

    A foreign page can make its own name lead to this machine (DNS rebinding), and can send
    requests here from the visitor's browser; in both cases ``Host`` or ``Origin`` tells. An address
    as a host is harmless, because no name was looked up.

    Args:
        names: Host names in lower case.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]):
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing of ours speaks it
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        fault = self._fault(Headers(scope=scope))
        if fault is None and scope["path"].startswith(UNUSED):
            await PlainTextResponse("not found", 404)(scope, receive, send)
        elif fault is None:
            await self.app(scope, receive, send)
        else:
            await _refusal(403, fault)(scope, receive, send)

    def _fault(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._known(_name(host)):
            return (
                f"this server does not answer to the name {_name(host)[:80]!r}. Use its address, "
                "or start it with --allow-host NAME."
            )
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site") == "cross-site" and headers.get(
                "sec-fetch-mode"
            ) not in ("navigate", None):
                return "a page of another site may not ask this server."
            return None
        forwarded = headers.get("x-forwarded-host", "").split(",")[0].strip()
        scheme, _, source = origin.partition("://")
        if _same(source, host, scheme):
            return None
        if forwarded and self._known(_name(forwarded)):
            if _same(source, forwarded, scheme):
                return None
        elif _name(source) in self.names - set(LOCAL_HOSTS):
            return None  # a proxy that does not pass the name on
        return "a page of another site may not ask this server."

    def _known(self, name: str) -> bool:
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


class TokenRequired:
    """A key in the address, as Jupyter has it: asked for once, then kept as a cookie.

    Programs send it as the header ``X-DPD-Token``.

    Args:
        token: The key.
        cookie: Name of the cookie.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str):
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["path"] == _START and _is_own(scope)):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if self._fits(_cookie(headers, self.cookie)) or self._fits(headers.get("x-dpd-token", "")):
            await self.app(scope, receive, send)
        elif self._fits(dict(query).get(TOKEN, "")) and scope["method"] in ("GET", "HEAD"):
            rest = urlencode([(name, value) for name, value in query if name != TOKEN])
            answer: Response = RedirectResponse(
                scope["path"] + (f"?{rest}" if rest else ""), status_code=303
            )
            answer.set_cookie(
                self.cookie,
                self.token,
                httponly=True,
                samesite="strict",
                secure=scope.get("scheme") == "https",
            )
            await answer(scope, receive, send)
        else:
            fault = "open the address that the server printed when it started; it ends in ?token=…"
            await _refusal(401, fault)(scope, receive, send)

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())


class RequestPace:
    """Not more requests from one address than pages need, and not more uploads than fit a quota.

    Args:
        settings: The numbers.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app = app
        self._requests = Pace(*_REQUESTS)
        uploads = 2 * settings.quota / MB
        self._megabytes = Pace(uploads / 3600.0, uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_UNCOUNTED):
            await self.app(scope, receive, send)
            return
        client = scope.get("client") or ("", 0)
        place = network(client[0])
        wait = self._requests.take(place)
        if not wait and scope["path"].startswith(UPLOAD):
            size = _length(Headers(scope=scope)) or 0
            wait = self._megabytes.take(place, max(1.0, size / MB))
        if wait:
            answer = _refusal(429, "too many requests came from your address; wait a little.")
            answer.headers["Retry-After"] = str(int(wait) + 1)
            await answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class BodyLimit:
    """No request is larger than what it is for: a megabyte, or the largest upload.

    Args:
        settings: The numbers.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        upload = scope["path"].startswith(UPLOAD)
        limit = self.settings.max_upload + 4 * MB if upload else MAX_BODY
        length = _length(Headers(scope=scope))
        if length is not None and length > limit:
            await self._too_large(limit)(scope, receive, send)
        elif not upload:
            await self._whole(scope, receive, send, limit)
        elif length is None:
            await _refusal(411, "an upload has to say its length.")(scope, receive, send)
        elif free_bytes(self.settings) < self.settings.min_free + length:
            await _refusal(507, "the server's disk is nearly full.")(scope, receive, send)
        else:
            await self.app(scope, receive, send)  # the server reads no more than the length said

    async def _whole(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Read the body, at most so much, and hand it on as one piece."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":  # the visitor has gone
                return
            body += message.get("body", b"")
            if len(body) > limit:
                await self._too_large(limit)(scope, receive, send)
                return
            if not message.get("more_body"):
                break
        try:
            body.decode()
        except UnicodeDecodeError:  # FastAPI's own refusal of it would fail
            await _refusal(400, "the request is no text.")(scope, receive, send)
            return
        pieces: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return pieces.pop() if pieces else await receive()

        await self.app(scope, replay, send)

    def _too_large(self, limit: int) -> Response:
        return _refusal(413, f"the request is larger than {limit / MB:.0f} MB.")


def _refusal(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text, "detail": text}, status)


def _name(netloc: str) -> str:
    """The host of ``host:port``, in lower case."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _same(address: str, expected: str, scheme: str) -> bool:
    """Whether two ``host:port`` are one place, the port of the scheme left out or not."""
    usual = {"http": 80, "https": 443}.get(scheme)
    try:
        first, second = urlsplit(f"//{address}"), urlsplit(f"//{expected}")
        ports = (first.port or usual, second.port or usual)
    except ValueError:
        return False
    return bool(first.hostname) and first.hostname == second.hostname and ports[0] == ports[1]


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _length(headers: Headers) -> int | None:
    value = headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def _is_own(scope: Scope) -> bool:
    """Whether the request comes from this machine."""
    client = scope.get("client") or ("", 0)
    return client[0] in LOCAL_HOSTS
