"""The plan of an export against the export itself."""

import pytest

from dpd_core.config import EvaluateConfig, ExportConfig
from dpd_core.errors import ModelError, StageMissing
from dpd_core.evaluate.report import save_report
from dpd_core.export import stage as export
from dpd_core.export.plan import plan_export
from dpd_core.project import Project
from tests.support.distilled_project import make_project
from tests.support.evaluation_report import make_report
from tests.support.finished_stage import finish


@pytest.mark.parametrize(
    ("parquet", "adapter", "soft"), [(True, True, True), (False, False, False)]
)
def test_the_plan_is_what_the_export_writes(tmp_path, parquet, adapter, soft):
    project = make_project(tmp_path, adapter=True)
    report = make_report(classes=("desert", "forest", "river"))
    save_report(project, report)
    finish(project, "evaluate", EvaluateConfig(student_steps=4), {})
    config = ExportConfig(
        parquet=parquet,
        adapter=adapter,
        soft_labels=soft,
        text_files=soft,
        licence="cc-by-4.0",
        title="A <b>",
    )
    plan = plan_export(project, config)
    assert not project.path("export").exists()
    export.run(project, config)
    folder = project.path("export", "dpd-1")
    for planned in plan.files:
        found = list(folder.glob(planned.name.replace("<class>", "*")))
        assert len(found) == planned.count, planned.name
        size = sum(path.stat().st_size for path in found)
        if planned.exact:
            assert size == planned.size, planned.name
        else:
            assert size == pytest.approx(planned.size, rel=0.5), planned.name
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(file.count for file in plan.files) == len(written)
    assert plan.size == pytest.approx(sum(path.stat().st_size for path in written), rel=0.3)
    assert plan.card == (folder / "README.md").read_text()
    assert (plan.set_name, plan.images, plan.classes) == ("dpd-1", 6, 3)
    assert plan.report is not None
    assert ("adapter" in " ".join(file.name for file in plan.files)) == adapter


def test_a_plan_needs_a_set(tmp_path):
    with pytest.raises(StageMissing, match="synthesize"):
        plan_export(Project.create(tmp_path / "empty"), ExportConfig())


def test_missing_weights_are_known_before_the_export(tmp_path):
    project = make_project(tmp_path, adapter=True)
    project.path("adapters", "lora-1", "pytorch_lora_weights.safetensors").unlink()
    with pytest.raises(ModelError, match="missing"):
        plan_export(project, ExportConfig())
    assert not any(
        "adapter" in file.name for file in plan_export(project, ExportConfig(adapter=False)).files
    )
