"""Visitors who mean harm, for :mod:`tests.benchmarks.load`: each asks as fast as it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import httpx

from app.server.workspaces import new_visitor

_REST = 0.05


async def molest(url: str, number: int, wait: float, end: float, answers: dict[int, int]) -> None:
    """One of them, from an address of its own.

    Args:
        url: The server.
        number: Which one, below 250.
        wait, end: Seconds before it begins; when it ends, by the monotonic clock.
        answers: How often each status was answered; grows.
    """
    await asyncio.sleep(wait)
    headers = {"X-Forwarded-For": f"203.0.113.{number}"}
    async with httpx.AsyncClient(base_url=url, timeout=30, headers=headers) as client:
        while time.monotonic() < end:
            act = random.choice(
                (_junk, _large, _forged, _made_up, _foreign, _broken_off, _traversal)
            )
            with contextlib.suppress(httpx.HTTPError, OSError):
                status = await act(client, number)
                answers[status] = answers.get(status, 0) + 1
            await asyncio.sleep(_REST)


async def _junk(client: httpx.AsyncClient, number: int) -> int:
    """A body that is no JSON, or deep."""
    body = random.choice((b"{", b"[" * 50_000, random.randbytes(2000), b'{"data": null}'))
    return (await client.post("/gradio_api/run/predict", content=body)).status_code


async def _large(client: httpx.AsyncClient, number: int) -> int:
    """A body larger than allowed."""
    reply = await client.post("/gradio_api/run/predict", content=b'{"data":[' + b"{}," * 700_000)
    return reply.status_code


async def _forged(client: httpx.AsyncClient, number: int) -> int:
    """An event of the page with values of its own making."""
    body = {
        "data": [{"visitor": new_visitor(), "project": "../..", "tab": "x"}, None, "delete"],
        "fn_index": random.randrange(200),
        "session_hash": f"bad{number}-{random.getrandbits(20)}",
    }
    return (await client.post("/gradio_api/queue/join", json=body)).status_code


async def _made_up(client: httpx.AsyncClient, number: int) -> int:
    """Another new visitor who starts a run."""
    token = new_visitor()
    body = {"data": ["mine", token]}
    await client.post("/gradio_api/call/create_project", json=body)
    settings = {"demo": True, "demo_per_class": 4}
    body = {"data": ["mine", "dataset", settings, "quick", token]}
    return (await client.post("/gradio_api/call/start_stage", json=body)).status_code


async def _foreign(client: httpx.AsyncClient, number: int) -> int:
    """A page of another site."""
    return (await client.get("/config", headers={"Origin": "http://evil.example"})).status_code


async def _traversal(client: httpx.AsyncClient, number: int) -> int:
    """A file of the server."""
    path = random.choice(("/gradio_api/file=/etc/passwd", "/studio/x/file/../../secret", "/file=x"))
    return (await client.get(path)).status_code


async def _broken_off(client: httpx.AsyncClient, number: int) -> int:
    """An upload or a stream that is begun and left."""
    url = client.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    begun = random.choice(
        ("POST /gradio_api/upload", f"GET /gradio_api/queue/data?session_hash={number}")
    )
    head = f"{begun} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.{number}\r\n"
    writer.write(f"{head}Content-Length: 900\r\n\r\nx".encode())
    await writer.drain()
    writer.close()
    return 0


_ACTS = (_junk, _large, _forged, _made_up, _foreign, _broken_off, _traversal)
