"""Kills the real command line with ``kill -9`` at random moments and looks at what is left.

    python -m tests.robustness.crash_driver --kills 100 --seed 0

A small demo project goes through all stages undisturbed: the reference. Then each stage is
started again and again from the project as it was before, and killed, until it comes to its end
between two kills. After every kill the project must open, agree with its own digests
(``verify``), and still hold every record, image, part and checkpoint that was finished before.
When the stage comes to its end, its files must be the reference's, bit for bit (times aside).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpd_core import storage
from dpd_core.controls import Job
from dpd_core.errors import DPDError
from dpd_core.pipeline.stages import TABLE
from dpd_core.pipeline.staleness import is_current
from dpd_core.pipeline.verify import verify
from dpd_core.project import Project
from tests.support.job_list import list_jobs

ROOT = Path(__file__).parents[2]

SETTINGS = {
    "dataset": "--demo --demo-per-class 8 --classes forest,highway,river",
    "prototypes": "--ipc 2 --no-project-map",
    "captions": "--nearest 3 --batch-size 1",
    "train": "--steps 12 --decoder-steps 6 --batch-size 2 --targets all --checkpoint-steps 2 "
    "--preview-steps 6 --classifier-steps 60",
    "synthesize": "--steps 3 --strategy dpd+ --candidates 3 --batch-size 3",
    "evaluate": "--student-steps 6 --seeds 2",
    "export": "",
}
"""Flags of each stage: small, but with several places to resume at."""

KILLED = ("prototypes", "captions", "train", "synthesize", "evaluate", "export")

FINISHED = (
    "latents/*.safetensors",
    "classifier/*/classifier.*",
    "adapters/*/adapter.json",
    "distilled/*/slots/*.json",
    "reports/parts/*.json",
    "reports/*.json",
    "cache/features/*.safetensors",
    "export/*/manifest.json",
)
"""Files whose presence says that something is finished: none may go or change by a kill."""

ANY = (DPDError, OSError, LookupError, ValueError, TypeError, AttributeError)
"""What a damaged project makes its readers raise: each is a fault that the driver looks for."""

TIMES = ("seconds", "finished", "changed")
"""Keys that tell when and how long, or what a run had left to do."""


@dataclass
class Tally:
    """What happened to one stage."""

    kills: int = 0
    starting: int = 0
    resumed: int = 0
    compared: int = 0
    faults: list[str] = field(default_factory=list)


class Driver:
    """Makes the reference, then kills.

    Args:
        work: Folder for everything; the projects in it have one name, which exports contain.
        seed: Seed of the moments.
        stages: Stages to kill.
    """

    def __init__(self, work: Path, seed: int, stages: tuple[str, ...] = KILLED):
        self.work, self.stages = work, stages
        self.random = random.Random(seed)
        self.reference = work / "reference" / "demo"
        self.victim = work / "victim" / "demo"
        self.tallies = {stage: Tally() for stage in stages}
        self.running: subprocess.Popen[bytes] | None = None
        self.working: dict[str, float] = {}
        self.starting: dict[str, float] = {}

    def make_reference(self) -> None:
        """Run every stage undisturbed, up to the last that is killed; keep the project as it was
        before each."""
        names = list(SETTINGS)
        last = max(names.index(stage) for stage in self.stages)
        for stage in names:
            if self.reference.exists():
                shutil.copytree(self.reference, self._before(stage))
            if names.index(stage) > last:
                break
            begun = time.time()
            process = self._start(stage, self.reference)
            if process.wait() != 0:
                raise SystemExit(f"the reference's stage {stage} failed")
            state = storage.read_json(
                list_jobs(Project.open(self.reference))[-1].folder / "state.json"
            )
            self.starting[stage] = state["started"] - begun
            self.working[stage] = state["ended"] - state["started"]
            _say(f"reference: {stage} {self.working[stage]:.1f} s")

    def kill(self, stage: str, kills: int) -> None:
        """Kill a stage this often, and let it come to its end after the last."""
        tally = self.tallies[stage]
        self._reset(stage)
        clean = True
        while tally.kills < kills or not clean:
            limit = None if tally.kills >= kills else self._moment(stage)
            before = _finished(self.victim)
            steps = _steps(self.victim)
            if self._run(stage, limit):
                tally.kills += 1
                tally.resumed += not clean
                clean = False
                self._after_kill(stage, before, steps)
                continue
            tally.compared += 1
            tally.faults += [f"{stage}: {fault}" for fault in self._compare(stage)]
            self._reset(stage)
            clean = True
        _say(f"{stage}: {tally.kills} kills, {tally.compared} ends, {len(tally.faults)} faults")
        for fault in tally.faults:
            _say(f"  {fault}")

    def _before(self, stage: str) -> Path:
        return self.work / "before" / stage / "demo"

    def _reset(self, stage: str) -> None:
        shutil.rmtree(self.victim, ignore_errors=True)
        shutil.copytree(self._before(stage), self.victim)
        if stage == "export" and self.random.random() < 0.5:
            # An earlier export, which the new one replaces.
            shutil.copytree(self.reference / "export", self.victim / "export")

    def _start(self, stage: str, project: Path) -> subprocess.Popen[bytes]:
        words = [
            sys.executable,
            "-m",
            "dpd_core",
            stage,
            "--project",
            str(project),
            "--quiet",
            *SETTINGS[stage].split(),
        ]
        # One thread: the machine is busy with other things, and the moments are more even.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with (self.work / "output.txt").open("ab") as log:
            self.running = subprocess.Popen(
                words, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        return self.running

    def end(self) -> None:
        """Kill what still runs: it has a session of its own and would outlive the driver."""
        if self.running is not None and self.running.poll() is None:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()

    def _moment(self, stage: str) -> tuple[bool, float]:
        """Whether to wait for the work to begin, and seconds from there: mostly yes, because
        importing the libraries takes longer than these small stages."""
        at_work = self.random.random() < 0.85
        span = self.working[stage] if at_work else self.starting[stage]
        return at_work, self.random.uniform(0, 1.4 * span)

    def _run(self, stage: str, limit: tuple[bool, float] | None) -> bool:
        """Run a stage; whether it was killed rather than finished."""
        count = len(list((self.victim / "jobs").glob("*/state.json")))
        process = self._start(stage, self.victim)
        if limit is not None:
            at_work, seconds = limit
            while (
                at_work
                and process.poll() is None
                and len(list((self.victim / "jobs").glob("*/state.json"))) == count
            ):
                time.sleep(0.002)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        if code not in (0, -signal.SIGKILL):
            self.tallies[stage].faults.append(f"{stage}: a restart ended with status {code}")
        if code == -signal.SIGKILL:
            started = len(list((self.victim / "jobs").glob("*/state.json"))) > count
            self.tallies[stage].starting += not started
        return code == -signal.SIGKILL

    def _after_kill(self, stage: str, before: dict[str, bytes], steps: dict[str, int]) -> None:
        faults = self.tallies[stage].faults
        try:
            project = Project.open(self.victim)
            running = [job.id for job in list_jobs(project) if _status(job) == "running"]
            faults += [f"{stage}: the killed job {job} is said to run" for job in running]
            faults += [
                f"{stage}: the stage {earlier} is not current after a kill"
                for earlier in TABLE[stage].needs
                if not is_current(project, earlier)
            ]
            faults += [
                f"{stage}: {difference.file}: {difference.what}"
                for difference in verify(project).differences
                if not difference.file.startswith("export/")
            ]
            # An export is replaced as a whole; a kill between the halves of the swap is mended
            # by the next stage's start.
            storage.tidy(self.victim)
            faults += [
                f"{stage}: {difference.file}: {difference.what}"
                for difference in verify(project).differences
            ]
        except ANY as error:
            faults.append(f"{stage}: the project does not open: {error!r}")
        after = _finished(self.victim)
        faults += [
            f"{stage}: {name} was finished and is gone or changed"
            for name, content in before.items()
            if after.get(name) != content and not name.startswith("export/")
        ]
        faults += [f"{stage}: {name} was finished and is gone" for name in before.keys() - after]
        now = _steps(self.victim)
        faults += [
            f"{stage}: {name} fell from step {step} to {now.get(name)}"
            for name, step in steps.items()
            if now.get(name, step) < step
        ]

    def _compare(self, stage: str) -> list[str]:
        """What differs from the reference after the stage has come to its end."""
        if stage == "export":
            reference = self.reference
        else:
            following = list(SETTINGS)[list(SETTINGS).index(stage) + 1]
            reference = self._before(following)
        expected, found = _contents(reference), _contents(self.victim)
        differing = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        return [f"{name} differs from the uninterrupted run's" for name in differing]


def _status(job: Job) -> str:
    try:
        return job.status
    except ANY as error:
        return f"running ({error!r})"


def _finished(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): _content(path)
        for pattern in FINISHED
        for path in root.glob(pattern)
        if ".part-" not in str(path)
    }


def _content(path: Path) -> bytes:
    if path.parent.name != "slots":
        return path.read_bytes()
    # Choosing the set together gives candidates that are there other scores.
    record = json.loads(path.read_bytes())
    return json.dumps([{**candidate, "score": 0} for candidate in record["candidates"]]).encode()


def _steps(root: Path) -> dict[str, int]:
    """Steps of the checkpoints that are there."""
    from safetensors import safe_open

    steps = {}
    for path in root.glob("*/*/checkpoint.safetensors"):
        with safe_open(path, "pt") as file:
            steps[path.relative_to(root).as_posix()] = json.loads(file.metadata()["state"])[0]
    return steps


def _contents(root: Path) -> dict[str, Any]:
    """Everything a project holds that a run decides, by file: no jobs, no locks, no times."""
    contents: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not path.is_file() or hidden or name.startswith(("jobs/", "cache/checked")):
            continue
        if path.suffix == ".json":
            contents[name] = _without_times(storage.read_json(path))
        elif path.suffix == ".jsonl" and name.startswith("captions/"):
            lines = storage.read_json_lines(path)
            contents[name] = [{k: v for k, v in line.items() if k != "time"} for line in lines]
        else:
            contents[name] = path.read_bytes()
    # The digest of a file that holds times holds them as well.
    for record in contents.get("project.json", {}).get("stages", {}).values():
        record["files"] = sorted(record["files"])
    return contents


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in (*TIMES, "created")}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if there were faults."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="Kills over all stages.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the moments.")
    parser.add_argument("--stages", default=",".join(KILLED), help="Stages to kill.")
    parser.add_argument("--work", type=Path, help="Scratch folder; kept if given.")
    options = parser.parse_args(arguments)
    stages = tuple(options.stages.split(","))
    work = options.work or Path(tempfile.mkdtemp(prefix="dpd-crash-"))
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        parser.error(f"{work} is not empty")
    driver = Driver(work, options.seed, stages)
    started = time.monotonic()
    try:
        driver.make_reference()
        share = Counter(stages[number % len(stages)] for number in range(options.kills))
        for stage in stages:
            driver.kill(stage, share[stage])
    finally:
        driver.end()
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    print("| stage | kills | while starting | after another kill | ends compared | faults |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for stage, tally in driver.tallies.items():
        print(
            f"| {stage} | {tally.kills} | {tally.starting} | {tally.resumed} | {tally.compared} "
            f"| {len(tally.faults)} |"
        )
    faults = [fault for tally in driver.tallies.values() for fault in tally.faults]
    kills = sum(tally.kills for tally in driver.tallies.values())
    print(
        f"\n{kills} kills, {len(faults)} faults, {time.monotonic() - started:.0f} s, "
        f"seed {options.seed}"
    )
    for fault in faults[:50]:
        print(f"- {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
