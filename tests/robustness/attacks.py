"""Attacks on a server of our own, on loopback: ``python -m tests.robustness.attacks``.

Two servers are started, one for strangers as a Space runs it and one local with a token; each
attack is made over HTTP (or with a hostile file given to a real run), and says what it got. The
exit status is 1 if one succeeds. Nothing but loopback is spoken to.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from app.server.workspaces import folder_name, new_visitor
from tests.robustness.hostile_archives import hostile_files as archives
from tests.robustness.request_attacks import (
    closed_routes,
    headers,
    junk,
    left_open,
    preflights,
    rebinding,
    sign_in,
)
from tests.robustness.space import CLIENT, SECRET, SPACE, Provider
from tests.robustness.target import Attack, Target
from tests.support.studio_app import ROOT, App, free_port, wait_for

OWNER = {"HF_TOKEN": "hf_of_the_owner", "OAUTH_CLIENT_SECRET": SECRET}
FILE_SECONDS, FILE_BYTES = 60.0, 1200 * 2**20
"""Most that one hostile file may cost in processor time and memory, the interpreter included."""


def large_bodies(target: Target) -> str | None:
    """36 MB of ``{}`` are parsed."""
    before = target.rss()
    body = b'{"data":[' + b"{}," * 12_000_000 + b"0]}"
    with target.client() as client:
        for _ in range(2):
            try:
                code = client.post("/gradio_api/run/predict", content=body).status_code
            except httpx.TransportError:  # refused while it was sent
                code = 413
            if code != 413:
                return f"answered with {code}"
    grown = (target.rss() - before) / 2**20
    return f"the server grew by {grown:.0f} MB" if grown > 150 else None


def flood(target: Target) -> str | None:
    """One address asks without end, and nobody else is served."""
    with target.client("203.0.113.1") as bad, target.client("198.51.100.1") as honest:
        begun = time.monotonic()
        refused = 0
        while time.monotonic() - begun < 120 and refused < 20:
            refused += bad.get("/gradio_api/startup-events").status_code == 429
        if not refused:
            return "nothing was refused within two minutes"
        reply = honest.get("/config")
    return None if reply.status_code == 200 else f"somebody else got {reply.status_code}"


def chosen_addresses(target: Target) -> str | None:
    """Somebody writes an address before the one that the proxy saw, and counts as another."""
    told = ""
    for number in range(70):
        headers = {"X-Forwarded-For": f"192.0.2.{number}, 203.0.113.5"}
        with httpx.Client(base_url=target.app.url, headers=headers, timeout=60) as client:
            worked, told = target.call(client, "create_project", "mine", new_visitor())
            if not worked:
                return None if "from your address" in told else f"stopped by {told[-200:]}"
    return f"70 visitors from one address: {told[-100:]}"


def deletion(target: Target) -> str | None:
    """*Create*, its action forgotten, removes the open project."""
    token = new_visitor()
    with target.client("198.51.100.7") as client:
        if not (made := target.call(client, "create_project", "mine", token))[0]:
            return f"could not begin: {made[1][-200:]}"
        config = client.get("/config").json()
        ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
        events = {
            name: next(
                listener
                for listener in config["dependencies"]
                if [ids[name], "click"] in listener["targets"]
            )
            for name in ("project-confirm", "project-delete-confirm")
        }
        session = {"visitor": token, "project": "mine", "tab": "dataset"}
        for name, *values in (
            ("project-confirm", "", "new"),
            ("project-confirm", "delete", "mine"),
            ("project-confirm", None, "mine"),
            ("project-delete-confirm", "Mine"),
            ("project-delete-confirm", ""),
            ("project-delete-confirm", "mine"),  # this one is to work: the way in is the page's
        ):
            event, key = events[name], secrets.token_hex(4)
            body = {"data": [session, *values], "fn_index": event["id"], "session_hash": key}
            client.post("/gradio_api/queue/join", json=body).raise_for_status()
            client.get("/gradio_api/queue/data", params={"session_hash": key}).read()
            folder = target.app.home / "visitors" / folder_name(token) / "mine"
            kept = (folder / "project.json").exists()
            if kept == (values == ["mine"] and name == "project-delete-confirm"):
                return f"{name} with {values}"
    return None


def leaks(target: Target) -> str | None:
    """A message tells where the server keeps things, or who somebody is."""
    token = new_visitor()
    with target.client("198.51.100.8") as client:
        target.call(client, "create_project", "mine", token)
        folder = target.app.home / "visitors" / folder_name(token)
        told = [target.call(client, "job_status", "mine", "../../x", token)[1]]
        told += [target.call(client, name, "mine", token)[1] for name in ("dataset_summary",)]
        told += [target.call(client, "evaluation_report", "mine", "x", token)[1]]
        path = {"data": str(target.app.home / "secret")}
        told += [target.call(client, "start_stage", "mine", "dataset", path, "quick", token)[1]]
        (folder / "mine" / "project.json").write_text("{")
        for name in ("list_projects", "dataset_summary", "list_prototypes", "list_distilled"):
            values = [token] if name == "list_projects" else ["mine", token]
            told.append(target.call(client, name, *values)[1])
    for text in told:
        text = text.replace(str(target.app.home / "secret"), "")  # what was sent may be quoted
        for word in (folder.name, str(target.app.home), str(ROOT), "site-packages", token):
            if word in text:
                return f"{word} in {text[:300]}"
    return None


def inherited_environment(target: Target) -> str | None:
    """A run has the owner's token; or it does not end while nobody looks."""
    token = new_visitor()
    values = "dataset", {"demo": True, "demo_per_class": 4}, "quick", token
    with target.client("198.51.100.9") as client:
        target.call(client, "create_project", "mine", token)
        worked, told = target.call(client, "start_stage", "mine", *values)
    if not worked:
        return f"could not begin: {told[-300:]}"
    seen = ""
    for worker in wait_for(target.workers, 120):
        seen += json.dumps(worker.environ())
    for secret in OWNER.values():
        if secret in seen:
            return f"{secret} is in a run's environment"
    folder = target.app.home / "visitors" / folder_name(token) / "mine"

    def finished() -> bool:
        return "dataset" in json.loads((folder / "project.json").read_text())["stages"]

    try:
        wait_for(finished, 300)
        wait_for(lambda: not target.workers(), 60)
    except AssertionError:
        return "the waiting list stands still while nobody looks, or a zombie stays"
    return None


def torn_record(target: Target) -> str | None:
    """One visitor's torn record of a job takes the page away from everybody."""
    bad, good = new_visitor(), new_visitor()
    with target.client("198.51.100.10") as client:
        for token in (bad, good):
            target.call(client, "create_project", "mine", token)
        folder = target.app.home / "visitors" / folder_name(bad) / "mine" / "jobs" / "x-y-z-train-1"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("[")
        (folder / "state.json").write_text("{")
        queue = target.app.home / "queue"
        queue.mkdir(exist_ok=True)
        (queue / "torn.json").write_text("{")
        values = "dataset", {"demo": True, "demo_per_class": 4}, "quick", good
        worked, told = target.call(client, "start_stage", "mine", *values)
    return None if worked else f"another visitor got {told[-300:]}"


def token_required(target: Target) -> str | None:
    """Without its token the local server answers."""
    with target.client() as client:
        for path in ("/", "/config", "/?token=", "/gradio_api/info", "/gradio_api/startup-events"):
            address = {"X-Forwarded-For": "203.0.113.1"}
            reply = client.get(path, headers=address)
            if reply.status_code != 401 and not path.endswith("startup-events"):
                return f"{path}: {reply.status_code}"
        if client.post("/gradio_api/upload").status_code != 401:
            return "uploads"
    return None


def hostile_files(target: Target) -> str | None:
    """A file costs a run minutes or gigabytes, or more is unpacked than the budget."""
    for name, content in archives().items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            code = "import sys; from dpd_core.cli import main; sys.exit(main(sys.argv[1:]))"
            words = ["dataset", "--project", f"{folder}/p", "--data", str(path), "--quiet"]
            environment = {**os.environ, "DPD_UNPACK_BYTES": str(16 << 20), "OMP_NUM_THREADS": "1"}
            run = subprocess.Popen(
                [sys.executable, "-c", code, *words],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            fault = _watch(run)
            _, told = run.communicate()
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            if fault is not None:
                return f"{name}: {fault}"
            if run.returncode not in (0, 1, 2) or b"Traceback" in told:
                return f"{name}: {told[-300:]!r}"
            if size > 24 << 20:
                return f"{name}: {size >> 20} MB on the disk"
    return None


def _watch(run: subprocess.Popen[bytes]) -> str | None:
    """Wait for a process; what it took too much of."""
    process, seconds, memory = psutil.Process(run.pid), 0.0, 0
    while run.poll() is None:
        try:
            times = process.cpu_times()
            seconds, memory = times.user + times.system, process.memory_info().rss
        except psutil.Error:
            break
        if seconds > FILE_SECONDS or memory > FILE_BYTES:
            run.kill()
            return f"{seconds:.0f} s and {memory >> 20} MB"
        time.sleep(0.1)
    return None


HOSTED: tuple[Attack, ...] = (
    rebinding,
    preflights,
    sign_in,
    closed_routes,
    headers,
    large_bodies,
    inherited_environment,
    deletion,
    leaks,
    torn_record,
    chosen_addresses,
    flood,
    junk,
    left_open,
    hostile_files,
)
LOCAL: tuple[Attack, ...] = (token_required,)


def run(folder: Path, names: list[str] | None = None) -> list[str]:
    """Make all attacks, or those named; returns what they got."""
    got = []
    for hosted, attacks in ((True, HOSTED), (False, LOCAL)):
        chosen = [attack for attack in attacks if not names or attack.__name__ in names]
        if not chosen:
            continue
        provider = Provider() if hosted else None
        extra = _as_space(provider) if provider else {}
        app = App(folder / ("hosted" if hosted else "local"), free_port(), extra)
        options = [] if hosted else ["--token"]
        try:
            app.start(120, options)
            for attack in chosen:
                begun = time.monotonic()
                found = attack(Target(app, provider))
                seconds = time.monotonic() - begun
                print(f"{'GOT IN' if found else 'held':7} {attack.__name__:24} {seconds:5.1f} s")
                if found:
                    got.append(f"{attack.__name__}: {found}")
        finally:
            app.stop()
            if provider:
                provider.close()
    return got


def _as_space(provider: Provider) -> dict[str, str]:
    """The variables of a Space whose visitors can sign in, at our provider."""
    return {
        "DPD_HOSTED": "1",
        "DPD_PROXIES": "127.0.0.1",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "SYSTEM": "spaces",
        "SPACE_ID": "someone/dpd-studio",
        "SPACE_HOST": SPACE,
        "OAUTH_CLIENT_ID": CLIENT,
        "OAUTH_SCOPES": "profile",
        "OPENID_PROVIDER_URL": provider.url,
        **OWNER,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these attacks")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="dpd-attacks-") as folder:
        got = run(Path(folder), options.names)
    print("\n".join([*got, f"{len(got)} attacks succeeded" if got else "nothing got in"]))
    return 1 if got else 0


if __name__ == "__main__":
    sys.exit(main())
