"""How the served app bears many visitors: ``python -m tests.benchmarks.load --visitors 50``.

Each visitor speaks to the real server as the page in a browser does: loads the page, asks every two
seconds what is new, follows every announced change as the page's own event graph says, turns pages
of thumbnails and fetches them, and opens and saves captions. Meanwhile one of them trains, and
others (``--hostile``) do harm. Printed are the latency of each kind of request of the honest ones,
and the memory and open files of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.server.jobs import JobQueue
from app.server.settings import Settings
from app.server.workspaces import SEEN, folder_name, new_visitor
from dpd_core.config import resolve
from dpd_core.project import Project
from tests.benchmarks.hostile_visitors import molest
from tests.support.studio_app import PROJECT, App, free_port

PACE_SECONDS = Settings(home=Path()).served_to_strangers().tick_seconds

ARRIVAL_SECONDS = 15.0
"""All visitors come within so many seconds; they stay to the end."""

ARRIVAL = ("page", "load")
"""Kinds of requests that are no action on a page that is there."""

SHARED = (".png", ".jpg", ".safetensors", ".npy", ".zip", ".parquet")
"""Files that the visitors' copies of the project have in common: they are never written into."""


@dataclass
class Log:
    """Seconds by kind of request, what went wrong, and the server's memory (MB) and processor time
    (s) over time."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    hostile: dict[int, int] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Count, median, 95th percentile and maximum in seconds; memory in MB."""
        rows = {}
        for kind, values in sorted(self.seconds.items()):
            ordered = sorted(values)
            rows[kind] = {
                "count": len(ordered),
                "median": round(ordered[len(ordered) // 2], 3),
                "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
                "max": round(ordered[-1], 3),
            }
        half = len(self.memory) // 2
        span = self.memory[-1][0] - self.memory[0][0] or 1.0
        busy = self.cpu[-1] - self.cpu[0]
        count = sum(len(values) for values in self.seconds.values()) or 1
        return {
            "requests": rows,
            "server_cpu": {
                "seconds": round(busy, 1),
                "cores": round(busy / span, 2),
                "ms_per_request": round(1000 * busy / count, 1),
            },
            "errors": len(self.errors),
            "first_errors": self.errors[:5],
            "memory_mb": {
                "start": round(self.memory[0][1]),
                "half": round(self.memory[half][1]),
                "end": round(self.memory[-1][1]),
            },
            "open_files": {
                "start": self.files[0],
                "half": self.files[half],
                "end": self.files[-1],
                "most": max(self.files),
            },
            "answers_to_hostile": {str(status): n for status, n in sorted(self.hostile.items())},
        }


class Visitor:
    """One page, without a browser."""

    def __init__(self, url: str, config: dict[str, Any], token: str, log: Log):
        # The server closes connections after five idle seconds; a browser then makes another.
        limits = httpx.Limits(keepalive_expiry=2)
        # Each from an address of its own, as the proxy before a server says.
        address = f"198.18.{random.randrange(256)}.{random.randrange(1, 255)}"
        headers = {"X-Forwarded-For": address}
        self.client = httpx.AsyncClient(base_url=url, timeout=120, limits=limits, headers=headers)
        self.log, self.config = log, config
        self.hash = f"load{random.getrandbits(40):x}"
        self.session = {"visitor": token, "project": PROJECT, "tab": "captions"}
        self.ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
        self.values = {part["id"]: part["props"].get("value") for part in config["components"]}
        kinds = {part["id"]: part["type"] for part in config["components"]}
        self.states = {number for number, kind in kinds.items() if kind == "state"}
        self.browser_state = next(n for n, kind in kinds.items() if kind == "browserstate")
        self.timer = next(n for n, kind in kinds.items() if kind == "timer")
        self.values[self.browser_state] = self.session

    def events(self, target: int, name: str) -> list[dict[str, Any]]:
        """The page's handlers of a component's event."""
        return [
            dependency
            for dependency in self.config["dependencies"]
            if [target, name] in [list(pair) for pair in dependency["targets"]]
            and dependency["backend_fn"]
        ]

    async def fire(self, target: int, name: str, kind: str, data: Any = None) -> None:
        """Run the handlers of an event, and then those of everything they changed."""
        for dependency in self.events(target, name):
            await self._call(dependency, kind, data)

    async def _call(self, dependency: dict[str, Any], kind: str, data: Any = None) -> None:
        sent = [
            None if number in self.states else self.values.get(number)
            for number in dependency["inputs"]
        ]
        body = {
            "data": sent,
            "fn_index": dependency["id"],
            "session_hash": self.hash,
            "event_data": data,
            "trigger_id": None,
        }
        begun = time.perf_counter()
        try:
            if dependency["queue"] is False:
                reply = await self.client.post("/gradio_api/run/predict", json=body)
                reply.raise_for_status()
                output = reply.json()["data"]
            else:
                output = await self._queued(body)
        except (httpx.HTTPError, RuntimeError, KeyError) as error:
            self.log.errors.append(f"{kind}: {error!r}")
            return
        self.log.seconds[kind].append(time.perf_counter() - begun)
        changed = []
        for number, value in zip(dependency["outputs"], output, strict=False):
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "value" not in value:
                    continue
                value = value["value"]
            if self.values.get(number) != value:
                self.values[number] = value
                changed.append(number)
        after = [
            following
            for following in self.config["dependencies"]
            if following["trigger_after"] == dependency["id"] and following["backend_fn"]
        ]
        for following in after:
            await self._call(following, kind)
        for number in changed:
            await self.fire(number, "change", f"refresh {kind}" if kind == "tick" else kind)

    async def _queued(self, body: dict[str, Any]) -> list[Any]:
        joined = await self.client.post("/gradio_api/queue/join", json=body)
        joined.raise_for_status()
        wanted = joined.json()["event_id"]
        address = f"/gradio_api/queue/data?session_hash={self.hash}"
        async with self.client.stream("GET", address) as stream:
            async for line in stream.aiter_lines():
                if not line.startswith("data:"):
                    continue
                said = json.loads(line[5:])
                if said.get("msg") == "process_completed" and said.get("event_id") == wanted:
                    if not said["success"]:
                        raise RuntimeError(str(said.get("output")))
                    return said["output"]["data"]
        raise RuntimeError("the stream ended early")

    async def load(self) -> None:
        """Get the page and run what it runs at first."""
        begun = time.perf_counter()
        for address in ("/", "/config"):
            reply = await self.client.get(address)
            reply.raise_for_status()
        self.log.seconds["page"].append(time.perf_counter() - begun)
        for dependency in self.config["dependencies"]:
            if (
                any(name == "load" for _, name in dependency["targets"])
                and dependency["backend_fn"]
            ):
                await self._call(dependency, "load")
        await self.tick()

    async def tick(self) -> None:
        """What the page asks every two seconds."""
        await self.fire(self.timer, "tick", "tick")

    async def turn_page(self) -> None:
        """Look at thumbnails of a class, and fetch them."""
        number = self.ids["dataset-split"]
        self.values[number] = random.choice(["", "train", "test"])
        await self.fire(number, "input", "thumbnails")
        images = (self.values.get(self.ids["dataset-grid"]) or {}).get("images", [])
        for image in random.sample(images, min(4, len(images))):
            begun = time.perf_counter()
            reply = await self.client.get(image["src"])
            if reply.status_code != 200:
                self.log.errors.append(f"image: {reply.status_code}")
            self.log.seconds["image"].append(time.perf_counter() - begun)

    async def edit_caption(self) -> None:
        """Open a caption and save another text."""
        grid, editor = self.ids["captions-grid"], self.ids["captions-editor"]
        cards = (self.values.get(grid) or {}).get("cards", [])
        if not cards:
            self.log.errors.append("caption: no cards are shown")
            return
        card = random.choice(cards)
        name, cluster = card["class"], card["cluster"]
        await self.fire(grid, "open_card", "open caption", {"class_name": name, "cluster": cluster})
        shown = self.values.get(editor) or {}
        text = f"A satellite image of {name}, as seen by visitor {random.getrandbits(30)}"
        await self.fire(
            editor,
            "save_caption",
            "save caption",
            {
                "place": shown.get("place"),
                "text": text,
                "version": shown.get("version"),
                "key": shown.get("key"),
            },
        )


def make_visitors(settings: Settings, project: Path, count: int) -> list[str]:
    """Give each of some visitors a copy of a finished project; returns their tokens."""

    def copy(source: str, target: str) -> None:
        (os.link if source.endswith(SHARED) else shutil.copyfile)(source, target)

    tokens = []
    for _ in range(count):
        token = new_visitor()
        root = settings.home / "visitors" / folder_name(token)
        shutil.copytree(
            project,
            root / PROJECT,
            copy_function=copy,
            ignore=shutil.ignore_patterns("jobs", ".lock"),
        )
        (root / SEEN).touch()
        tokens.append(token)
    return tokens


async def browse(visitor: Visitor, wait: float, end: float, actions: tuple[str, ...]) -> None:
    """Arrive after a while; do something every two seconds or so, and tick in between."""
    await asyncio.sleep(wait)
    await visitor.load()
    while time.monotonic() < end:
        await asyncio.gather(visitor.tick(), asyncio.sleep(PACE_SECONDS))
        if random.random() < 0.5:
            await getattr(visitor, random.choice(actions))()


async def watch_memory(process: psutil.Process, log: Log, end: float) -> None:
    """Note the server's memory once a second."""
    while time.monotonic() < end:
        log.memory.append((time.monotonic(), process.memory_info().rss / 2**20))
        times = process.cpu_times()
        log.cpu.append(times.user + times.system)
        log.files.append(process.num_fds() if hasattr(process, "num_fds") else 0)
        await asyncio.sleep(1)


async def visit(
    app: App, tokens: list[str], seconds: float, actions: tuple[str, ...], hostile: int
) -> Log:
    """All visitors; returns what the honest ones saw."""
    assert app.process is not None
    log = Log()
    async with httpx.AsyncClient(base_url=app.url, timeout=120) as client:
        config = (await client.get("/config")).json()
    end = time.monotonic() + seconds
    visitors = [Visitor(app.url, config, token, log) for token in tokens]
    tasks = [
        browse(visitor, place * ARRIVAL_SECONDS / len(visitors), end, actions)
        for place, visitor in enumerate(visitors)
    ]
    tasks += [
        molest(app.url, number, ARRIVAL_SECONDS * number / hostile, end, log.hostile)
        for number in range(hostile)
    ]
    results = await asyncio.gather(
        watch_memory(psutil.Process(app.process.pid), log, end), *tasks, return_exceptions=True
    )
    log.errors += [repr(result) for result in results if isinstance(result, BaseException)]
    for visitor in visitors:
        await visitor.client.aclose()
    return log


def run(
    project: Path,
    home: Path,
    *,
    visitors: int,
    seconds: float,
    train: bool = True,
    hostile: int = 0,
    actions: tuple[str, ...] = ("turn_page", "edit_caption"),
) -> dict[str, Any]:
    """Serve, visit, measure; returns the summary.

    Args:
        project: A finished project; it is copied.
        home: An empty folder for the server's state.
        visitors: How many at the same time.
        seconds: For how long.
        train: Whether one of them trains meanwhile.
        hostile: How many of them do harm instead.
        actions: What they do.
    """
    home.mkdir(parents=True)
    settings = Settings(home=home).served_to_strangers()
    tokens = make_visitors(settings, project, visitors - hostile)
    app = App(home, free_port(), {"DPD_HOSTED": "1", "DPD_PROXIES": "127.0.0.1"})
    app.start()
    queue, job = JobQueue(settings), ""
    mine = Project(home / "visitors" / folder_name(tokens[0]) / PROJECT)
    try:
        if train:
            config = resolve("train", steps=100_000, batch_size=2, preview_steps=0)
            job = queue.start(mine, "train", config)
        log = asyncio.run(visit(app, tokens, seconds, actions, hostile))
        trained = queue.current(mine)
    finally:
        if job:
            queue.stop(mine, job)
        app.stop()
    faults = app.log.read_text().count("Traceback")
    steps = trained.done if train and trained is not None else 0
    return {
        "visitors": visitors,
        "seconds": seconds,
        **log.summary(),
        "server_faults": faults,
        "training_steps": steps,
    }


def main() -> int:
    """Parse, run, print; the exit status is 1 if anything went wrong or was too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, help="a finished project; it is copied")
    parser.add_argument("--home", type=Path, required=True, help="a new folder for the state")
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--hostile", type=int, default=0, help="so many of them do harm")
    parser.add_argument("--no-train", action="store_true")
    parser.add_argument(
        "--p95", type=float, default=1.0, help="most seconds of a page action, for 95 of 100"
    )
    options = parser.parse_args()
    result = run(
        options.project,
        options.home.resolve(),
        visitors=options.visitors,
        seconds=options.seconds,
        train=not options.no_train,
        hostile=options.hostile,
    )
    print(json.dumps(result, indent=1))
    slow = any(
        row["p95"] > options.p95 for kind, row in result["requests"].items() if kind not in ARRIVAL
    )
    # The hostile ones make faults; that they harm nobody is what the other figures say.
    faults = result["server_faults"] and not options.hostile
    return 1 if slow or result["errors"] or faults else 0


if __name__ == "__main__":
    sys.exit(main())
