"""What a tab says of the job that does its work."""

from pathlib import Path

from app.server.jobs import JobView
from app.ui.job_status import made_by, peak_memory, status
from dpd_core import storage
from dpd_core.controls import Job


def test_status_tells_time_and_memory(tmp_path: Path) -> None:
    job = JobView(
        "id",
        "train",
        "running",
        "",
        Job(tmp_path),
        done=50,
        total=200,
        eta=90.0,
        message="training",
    )
    assert status(job, 1234)["detail"] == "step 50 of 200 · 1:30 left · peak memory 1,234 MB"
    assert status(None, None, idle="start")["detail"] == "start"


def test_made_by_and_peak_memory_read_a_log_that_a_kill_cut_off(tmp_path: Path) -> None:
    job = JobView("id", "train", "running", "", Job(tmp_path))
    assert made_by(job) is None
    assert peak_memory(job) is None
    lines = [
        {
            "event": "Progress",
            "time": 1.0,
            "stage": "train",
            "done": 0,
            "total": 9,
            "eta": None,
            "message": "",
            "memory": 77,
        },
        {"event": "Began", "time": 2.0, "stage": "train", "path": "adapters/abc"},
        {"event": "Log", "time": 3.0, "stage": "train", "message": '"memory"', "level": "info"},
    ]
    storage.append_json_lines(tmp_path / "events.jsonl", lines)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "Progress", "memory": 5')  # cut off by a kill
    assert made_by(job) == "abc"
    assert peak_memory(job) == 77
