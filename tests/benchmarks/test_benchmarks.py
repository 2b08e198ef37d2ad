"""The benchmarks themselves: what they compare agrees, and the table says what was measured."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.harness import Cost, Options, Row, child, interleaved, record, table


def options(data: Path = Path()) -> Options:
    return Options("toy", 1, data, Path())


def test_both_sides_run_in_turn_and_the_ratio_is_theirs_to_ours() -> None:
    order: list[str] = []

    def side(name: str, wall: float, cpu: float):
        def work() -> Cost:
            order.append(name)
            return Cost(wall, cpu)

        return work

    found = interleaved(side("ours", 2.0, 1.0), side("theirs", 6.0, 5.0), 2)
    assert order == ["ours", "theirs"] * 2
    assert found == (2.0, 6.0, 3.0, 5.0)


def test_a_child_tells_its_time_its_memory_and_why_it_failed() -> None:
    done = child(["-c", "import json; x = bytearray(50_000_000); print(json.dumps({'a': 1}))"])
    assert done.answer == {"a": 1}
    assert done.peak_mb >= 50
    assert done.cost.cpu > 0
    with pytest.raises(RuntimeError, match="no such thing"):
        child(["-c", "raise SystemExit('no such thing')"])


def test_table_and_record_hold_the_row() -> None:
    row = Row("work", 1.0, 2.0, 2.0, 3.0, "≥ 2×", "10 images", note="why")
    assert table([row], 2).splitlines()[-1] == (
        "| work | 10 images | 2 | 1 s | 2 s | 2× | 3× | ≥ 2× | why |"
    )
    kept = json.loads(record("name", options(), [row], {"cores": 2}))
    assert kept["rows"][0]["goal"] == "≥ 2×"
    assert kept["machine"] == {"cores": 2}


@pytest.mark.slow
def test_the_gpu_benchmark_runs_with_tiny_models(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    child(["-m", "tests.benchmarks.gpu", "--toy", "--json", file], HF_HUB_OFFLINE="1")
    made = json.loads(file.read_text())
    works = [row["work"].split(",")[0] for row in made["rows"]]
    assert works.count("LoRA sd15") == works.count("LoRA sdxl") == 2
    assert works.count("synthesis") == 3
    ours = [row for row in made["rows"] if "times_the_plain_loop" in row]
    assert all(row["tflops"] > 0 and 0 < row["share_of_ceiling"] < 1 for row in ours)
