"""The export stage: what others load is what was distilled."""

import html
import os
import re
import zipfile

import pytest
import yaml
from PIL import Image

from dpd_core import storage
from dpd_core.config import EvaluateConfig, ExportConfig
from dpd_core.errors import ProjectError, StageMissing
from dpd_core.evaluate import stage as evaluation
from dpd_core.events import Progress
from dpd_core.export import stage as export
from dpd_core.export.card import code_block, escape
from dpd_core.export.contents import class_folder
from dpd_core.project import Project
from dpd_core.synthesize.sets import DistilledSet
from tests.support.distilled_project import make_project
from tests.support.finished_stage import finish

# Names that file systems, Markdown, YAML and the loader could stumble over.
NASTY = {
    "test": (200, 20, 20),
    "train-2": (20, 200, 20),
    "a: *b* [c](x) #d": (20, 20, 200),
    "été … | x": (200, 200, 20),
    "no": (20, 200, 200),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    os.environ["HF_DATASETS_CACHE"] = str(root / "cache")
    project = make_project(root, classes=NASTY, adapter=True)
    events = []
    summary = export.run(project, ExportConfig(title="Tiny: *scenes* <b>"), events.append)
    return project, summary, project.path(summary["folder"]), events


def load(kind, cache, **options):
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(kind, cache_dir=str(cache), **options)


def expected(project):
    manifest = storage.read_json(project.path("distilled", "dpd-1", "manifest.json"))
    return {
        (slot["class"], slot["slot"]): (
            slot["caption"],
            slot["prototype_id"],
            slot["candidates"][1]["seed"],
            Image.open(project.path("distilled", "dpd-1", slot["file"])).tobytes(),
        )
        for slot in manifest["slots"]
    }


def found(rows, names=None):
    return {
        (names[row["label"]] if names else row["label"], row["slot"]): (
            row["caption"],
            row["prototype_id"],
            row["seed"],
            row["image"].tobytes(),
        )
        for row in rows
    }


def test_it_loads_as_an_image_folder(exported, tmp_path):
    project, _, folder, _ = exported
    loaded = load("imagefolder", tmp_path, data_dir=str(folder))
    assert list(loaded) == ["train"]
    assert len(loaded["train"]) == 10
    assert found(loaded["train"]) == expected(project)
    assert set(loaded["train"]["strategy"]) == {"dpd+"}
    assert set(loaded["train"]["score"]) == {1.5}


def test_it_loads_by_its_card_with_class_labels(exported, tmp_path):
    project, _, folder, _ = exported
    loaded = load(str(folder), tmp_path)
    assert list(loaded) == ["train"]
    names = loaded["train"].features["label"].names
    assert names == sorted(NASTY)
    assert found(loaded["train"], names) == expected(project)


def test_it_loads_as_parquet(exported, tmp_path):
    project, _, folder, _ = exported
    loaded = load("parquet", tmp_path, data_dir=str(folder / "parquet"))
    names = loaded["train"].features["label"].names
    assert names == sorted(NASTY)
    assert found(loaded["train"], names) == expected(project)


def test_the_card_is_valid_and_escaped(exported):
    from huggingface_hub import DatasetCard

    text = (exported[2] / "README.md").read_text(encoding="utf-8")
    card = DatasetCard(text)
    assert card.data.pretty_name == "Tiny: *scenes* <b>"
    assert card.data.license == "other"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.to_dict()["configs"][0]["data_files"][0]["path"] == "train/**"
    front = yaml.safe_load(text.split("---\n")[1])
    labels = front["configs"][0]["features"][1]["dtype"]["class_label"]["names"]
    assert list(labels.values()) == sorted(NASTY), "also 'no', which YAML could take for false"
    body = card.text
    assert "<b>" not in body
    assert "[c](x)" not in body
    assert "has not been evaluated" in body


def test_the_report_is_one_file_with_nothing_of_anybody_in_its_markup(exported):
    project, _, folder, _ = exported
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 10
    assert "Tiny: *scenes* &lt;b&gt;" in text
    assert "Tiny: *scenes* <b>" not in text
    assert not re.search(r"<script|<link|url\(|(src|href)=.(?!data:)", text), "it asks nobody"
    for record in DistilledSet.load(project).slots:
        assert html.escape(record.caption) in text


def test_the_card_tells_no_local_path(exported):
    project, _, folder, _ = exported
    for file in ("README.md", "report.html", "manifest.json", "train/metadata.jsonl"):
        assert str(project.root.parent) not in (folder / file).read_text(encoding="utf-8")
    assert "python -m dpd_core synthesize --project PROJECT --steps 25" in (
        folder / "README.md"
    ).read_text(encoding="utf-8")


def test_the_manifest_has_digests_and_candidates(exported):
    _, summary, folder, _ = exported
    manifest = storage.read_json(folder / "manifest.json")
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert storage.file_digest(folder / name) == digest
    assert len(manifest["distilled"]["slots"][0]["candidates"]) == 2
    assert "adapter/pytorch_lora_weights.safetensors" in manifest["files"]
    assert summary["adapter"] is True


def test_the_archive_is_the_folder_and_always_the_same_bytes(exported):
    project, summary, folder, _ = exported
    archive = project.path(summary["archive"])
    with zipfile.ZipFile(archive) as packed:
        assert packed.testzip() is None
        for path in folder.rglob("*"):
            if path.is_file():
                name = f"dpd-1/{path.relative_to(folder).as_posix()}"
                assert packed.read(name) == path.read_bytes()
    before = archive.read_bytes()
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))
    assert export.run(project, ExportConfig(title="Tiny: *scenes* <b>")) == summary
    assert archive.read_bytes() == before


def test_progress_counts_images(exported):
    progress = [event for event in exported[3] if isinstance(event, Progress)]
    assert progress[-1].done == progress[-1].total == 20


def test_numbers_of_the_report_are_in_the_card(tmp_path):
    project = make_project(tmp_path)
    config = EvaluateConfig(
        student_steps=3,
        student_batch=8,
        seeds=2,
        student_size=16,
        baselines=("random",),
    )
    summary = evaluation.run(project, config)
    result = export.run(project, ExportConfig(parquet=False, adapter=False))
    folder = project.path(result["folder"])
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| {100 * summary['accuracy']['dpd-1']:.1f} ± " in card
    nearer = summary["nearer_than_real"]["layout"]
    (line,) = [line for line in card.splitlines() if line.startswith("| layout at")]
    assert line.endswith(f"| {nearer:.0%} |"), "the same figure as in the report"
    assert not (folder / "parquet").exists()
    assert not (folder / "adapter").exists()
    assert storage.read_json(folder / "manifest.json")["report"]["set"] == "dpd-1"


def test_another_output_folder_is_used_but_nothing_foreign_is_replaced(tmp_path):
    project = make_project(tmp_path)
    target = tmp_path / "elsewhere"
    summary = export.run(project, ExportConfig(output=str(target)))
    assert summary["folder"] == str(target / "dpd-1")
    export.run(project, ExportConfig(output=str(target)))
    foreign = tmp_path / "mine" / "dpd-1"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(ProjectError, match="something else"):
        export.run(project, ExportConfig(output=str(foreign.parent)))
    assert (foreign / "thesis.txt").read_text() == "years of work"


def test_a_manifest_that_points_elsewhere_is_refused(tmp_path):
    project = make_project(tmp_path)
    path = project.path("distilled", "dpd-1", "manifest.json")
    manifest = storage.read_json(path)
    manifest["slots"][0]["file"] = "../../../secret.png"
    storage.write_json(path, manifest)
    with pytest.raises(ProjectError, match="outside"):
        export.run(project, ExportConfig())
    manifest["slots"][0]["file"] = manifest["slots"][1]["file"]
    storage.write_json(path, manifest)
    with pytest.raises(ProjectError, match="twice"):
        export.run(project, ExportConfig())
    assert not project.path("export").exists()


def test_a_missing_image_leaves_the_earlier_export(tmp_path):
    project = make_project(tmp_path)
    folder = project.path(export.run(project, ExportConfig())["folder"])
    project.path("distilled", "dpd-1", "river", "000.png").unlink()
    with pytest.raises(ProjectError, match="missing"):
        export.run(project, ExportConfig())
    assert (folder / "train" / "river" / "000.png").exists()


def test_nothing_to_export_names_the_missing_stage(tmp_path):
    with pytest.raises(StageMissing, match="synthesize"):
        export.run(Project.create(tmp_path / "empty"), ExportConfig())


@pytest.mark.parametrize("name", ["test", "Train 2", "my-dev", "eval", "a_validation_b"])
def test_split_words_do_not_name_folders(name):
    folder = class_folder(name)
    assert folder != name
    assert folder.startswith("class")
    assert class_folder("contest") == "contest"
    assert class_folder("river") == "river"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b\n# c <i>", r"a\|b # c &lt;i&gt;"),
        ("# no heading", r"\# no heading"),
        ("1. no list", r"1\. no list"),
        ("see http://x.y or www.x.y", "see http&#58;//x.y or www&#46;x.y"),
        ("\x00a\u2028b", "a b"),
        ("A field, seen from above.", "A field, seen from above."),
    ],
)
def test_text_is_escaped_for_one_line_of_markdown(text, expected):
    assert escape(text) == expected


def test_a_code_block_cannot_be_closed_from_within():
    assert code_block("a ``` b").startswith("````\n")


def test_soft_labels_lie_beside_the_images_and_not_in_the_data_set(tmp_path):
    project = make_project(tmp_path)
    finish(project, "evaluate", EvaluateConfig(student_steps=100), {})
    summary = export.run(project, ExportConfig(soft_labels=True))
    folder = project.path(summary["folder"])
    content = storage.read_json(folder / "soft_labels.json")
    files = {path.relative_to(folder).as_posix() for path in folder.glob("train/*/*.png")}
    assert set(content["probabilities"]) == files
    for file, row in content["probabilities"].items():
        assert len(row) == len(content["classes"])
        assert sum(row) == pytest.approx(1, abs=1e-3)
        # The classes are of one colour each, so the teacher knows them.
        assert content["classes"][row.index(max(row))] == file.split("/")[1]
    assert content["teacher"]["test_accuracy"] == 1
    assert "soft_labels.json" in (folder / "README.md").read_text()
    loaded = load("imagefolder", tmp_path / "cache", data_dir=str(folder), split="train")
    assert not any("soft" in column for column in loaded.column_names)
    again = export.run(project, ExportConfig(soft_labels=True))
    assert again["bytes"] == summary["bytes"]
    assert storage.read_json(folder / "soft_labels.json") == content
    plain = export.run(project, ExportConfig())
    assert not (project.path(plain["folder"]) / "soft_labels.json").exists()
