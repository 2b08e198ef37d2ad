"""The benchmark as its user types it: one protocol, continued after any end, readable by people."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpd_core.cli import main
from dpd_core.errors import ConfigError
from dpd_core.pipeline import benchmark_report
from dpd_core.pipeline.benchmark import read_method
from dpd_core.pipeline.benchmark_chart import chart
from dpd_core.students import ridge

SETTINGS = {
    "captions.mode": "template",
    "train.steps": 2,
    "train.batch_size": 4,
    "train.decoder_steps": 2,
    "train.classifier_steps": 1,
    "synthesize.steps": 4,
    "synthesize.candidates": 2,
    "synthesize.batch_size": 6,
    "synthesize.cfg": 1.0,
}


def command(out: Path, strategies: str, ipc: str) -> list[str]:
    words = [
        "benchmark",
        "--demo",
        "--classes",
        "forest,highway,river",
        "--max-per-class",
        "12",
        "--ipc",
        ipc,
        "--strategies",
        strategies,
        "--seeds",
        "2",
        "--student-steps",
        "3",
        "--baselines",
        "random,herding,rded,exchanged,full",
        "--soft-labels",
        "--preset",
        "quick",
        "--out",
        str(out),
        "--quiet",
        "--json",
    ]
    for name, value in SETTINGS.items():
        words += ["--set", f"{name}={value}"]
    return words


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ridge, "NETWORKS", 1)
        patch.setattr(ridge, "NETWORK_STEPS", 8)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("benchmark")
    assert main(command(out, "dpd+,minimax", "2,1")) == 0
    return out


def row(out: Path, label: str, ipc: int, labels: str = "hard") -> dict:
    rows = json.loads((out / "report.json").read_text(encoding="utf-8"))["rows"]
    return next(
        row for row in rows if (row["label"], row["ipc"], row["labels"]) == (label, ipc, labels)
    )


@pytest.mark.slow
def test_every_set_is_measured_by_the_same_protocol(finished: Path) -> None:
    for ipc in (1, 2):
        for label in ("dpd+", "minimax", "random", "herding", "rded", "exchanged", "full"):
            for labels in ("hard", "soft"):
                found = row(finished, label, ipc, labels)
                assert len(found["runs"]) == 2
                assert 0 <= found["mean"] <= 1
                assert found["protocol"]["steps"] == 3
                if label != "full":
                    assert found["images"] == 3 * ipc
    assert row(finished, "dpd+", 2)["seconds_per_image"] > 0
    assert row(finished, "full", 1)["runs"] == row(finished, "full", 2)["runs"]


@pytest.mark.slow
def test_minimax_has_an_adapter_of_its_own(finished: Path) -> None:
    sets = finished.glob("ipc-2-*/distilled/*/manifest.json")
    adapters = {
        json.loads(path.read_text())["strategy"]: json.loads(path.read_text())["adapter"]
        for path in sets
    }
    assert adapters.keys() == {"dpd+", "minimax"}
    assert adapters["dpd+"] != adapters["minimax"]


@pytest.mark.slow
def test_again_repeats_nothing_and_more_is_added(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {path: path.stat().st_mtime_ns for path in finished.glob("ipc-*/**/*.png")}
    parts = {path: path.stat().st_mtime_ns for path in finished.glob("ipc-*/reports/parts/*")}
    assert main(command(finished, "dpd+,minimax,dpd+@selection=margin", "2,1")) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    summary = told["results"]["benchmark"]["accuracy"]
    for soft, labels in (("", "hard"), (", soft labels", "soft")):
        assert summary[f"dpd+ (convnet, 2 a class{soft})"] == pytest.approx(
            row(finished, "dpd+", 2, labels)["mean"], abs=1e-3
        )
    unchanged = {path for path in made if path.name != "contact_sheet.png"}
    assert all(path.stat().st_mtime_ns == made[path] for path in unchanged)
    assert all(path.stat().st_mtime_ns == before for path, before in parts.items())
    assert row(finished, "dpd+@selection=margin", 2)["images"] == 6


@pytest.mark.slow
def test_another_protocol_needs_another_folder(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(finished, "dpd+", "2,1")
    words[words.index("--student-steps") + 1] = "4"
    assert main(words) == 1
    assert "student_steps" in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_and_the_chart_show_every_row(finished: Path) -> None:
    table = (finished / "report.md").read_text(encoding="utf-8")
    assert "### convnet, hard labels" in table
    assert "### convnet, soft labels" in table
    assert "| random (real) |" in table
    bars = panels((finished / "chart.html").read_text(encoding="utf-8"))
    names = [name for panel in bars for name in panel["y"]]
    assert names.count("dpd+") == 4, "two students, two numbers of images"
    assert "herding (real)" in names


def bar(label: str, mean: float, **values) -> dict:
    row = {"kind": "real", "student": "a&b", "labels": "hard", "ipc": 1, "std": None}
    return {**row, "label": label, "mean": mean, **values}


def panels(page: str) -> list[dict]:
    """The panels' bars, as the page gives them to Plotly."""
    begins = re.search(r'Plotly\.newPlot\(\s*"chart",\s*', page)
    assert begins
    return json.JSONDecoder().raw_decode(page, begins.end())[0]


def test_chart_has_a_panel_a_student_with_the_best_on_top() -> None:
    rows = [bar("low", 0.25), bar("mine", 0.5, kind="distilled", std=0.04)]
    rows += [bar("soft", 0.9, labels="soft"), bar("other", 0.125, student="b")]
    first, second = panels(chart(rows))
    assert first["y"] == ["low (real)", "mine"]
    assert first["x"] == [25.0, 50.0]
    assert first["error_x"]["array"] == [0.0, pytest.approx(4.0)]
    assert second["y"] == ["other (real)"]


def test_a_label_cannot_become_markup() -> None:
    page = chart([bar("<img src=x>", 0.5)])
    assert "<img src=x>" not in page
    assert panels(page)[0]["y"] == ["&lt;img src=x&gt; (real)"]


def test_the_label_robust_score_is_the_published_formula() -> None:
    assert benchmark_report.label_robust_score(1.0, -1.0) == pytest.approx(1.0)
    assert benchmark_report.label_robust_score(-1.0, 1.0) == pytest.approx(0.0)
    middle = (1 - math.exp(-1)) / (math.e - math.exp(-1))
    assert benchmark_report.label_robust_score(0.0, 0.0) == pytest.approx(middle)


def test_a_method_carries_its_settings() -> None:
    method = read_method("dpd+@guidance-scale=2@candidates=1")
    assert method.name == "dpd+"
    assert method.settings == {"guidance_scale": "2", "candidates": "1"}
    assert method.choice == "taught"
    assert (read_method("dpd").choice, read_method("dpd+@choice=typical").choice) == (
        "typical",
    ) * 2


@pytest.mark.parametrize(
    "text", ["magic", "dpd@magic=1", "dpd@steps=-1", "dpd@steps", "dpd@choice=x"]
)
def test_a_bad_method_is_refused_before_anything_runs(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_method(text)
    assert main(command(tmp_path / "out", text, "2")) == 1
    assert not (tmp_path / "out").exists()
