"""The evaluate stage on a project of three colours."""

import json

import pytest
from PIL import ImageOps

from dpd_core import storage
from dpd_core.config import EvaluateConfig
from dpd_core.dataset.index import load_index
from dpd_core.dataset.pixels import open_record
from dpd_core.errors import ConfigError, DatasetError, JobStopped, ProjectError, StageMissing
from dpd_core.evaluate import stage as evaluation
from dpd_core.evaluate.report import Report, load_report
from dpd_core.events import Metric, Progress
from dpd_core.project import Project
from tests.support.distilled_project import CLASSES, make_project

CONFIG = EvaluateConfig(
    student_steps=12,
    student_batch=8,
    seeds=2,
    student_size=16,
    baselines=("random", "medoid", "full"),
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A project, the events of its evaluation, the summary and the report."""
    project = make_project(tmp_path_factory.mktemp("evaluated"))
    events = []
    summary = evaluation.run(project, CONFIG, events.append)
    return project, events, summary, storage.read_json(project.path("reports", "dpd-1.json"))


def parts(project):
    return {path: path.stat().st_mtime_ns for path in project.path("reports/parts").iterdir()}


def test_the_report_has_every_set_and_seed(evaluated):
    _, _, summary, report = evaluated
    assert list(report["accuracy"]) == ["dpd-1", "random", "medoid", "full"]
    for name, entry in report["accuracy"].items():
        assert len(entry["runs"]) == 2
        assert entry["images"] == (18 if name == "full" else 6)
        assert entry["mean"] == pytest.approx(sum(entry["runs"]) / 2)
        assert set(entry["per_class"]) == set(CLASSES)
        assert summary["accuracy"][name] == entry["mean"]
    assert report["accuracy"]["dpd-1"]["mean"] > 0.9, "the colours are easy to tell"
    assert report["ipc"] == 2
    assert report["strategy"] == "dpd+"
    assert report["protocol"]["test_images"] == 12
    manifest = evaluated[0].path("distilled", "dpd-1", "manifest.json")
    assert report["manifest"] == storage.file_digest(manifest)
    json.dumps(summary, allow_nan=False)


def test_the_confusion_matrix_sums_over_the_seeds(evaluated):
    report = evaluated[3]
    assert report["confusion"]["classes"] == sorted(CLASSES)
    assert [sum(row) for row in report["confusion"]["matrix"]] == [8, 8, 8]


def test_the_pretrained_student_is_always_reported(evaluated):
    report = Report.from_dict(evaluated[3])
    assert list(report.accuracy_pretrained) == list(report.accuracy)
    assert report.accuracy_pretrained["dpd-1"].mean > 0.9, "the colours are easy to tell"
    # Nothing but the random choice of images is drawn.
    counts = {name: len(entry.runs) for name, entry in report.accuracy_pretrained.items()}
    assert counts == {"dpd-1": 1, "random": 2, "medoid": 1, "full": 1}


def test_distribution_is_measured_for_the_baselines_too(evaluated):
    found = Report.from_dict(evaluated[3]).distribution
    assert list(found.sets) == ["dpd-1", "random", "medoid", "full"]
    for entry in found.sets.values():
        assert entry.fid.value >= 0
        assert "Biased" in entry.fid.note
        assert entry.coverage <= 1 + 1e-6
        assert set(entry.coverage_per_class) == set(CLASSES)
        assert entry.grain >= 0


def test_privacy_has_real_test_images_beside_it(evaluated):
    privacy = Report.from_dict(evaluated[3]).privacy
    assert (privacy.images, privacy.real_images) == (6, 12)
    assert (privacy.attack.members, privacy.attack.others) == (18, 12)
    assert 0 <= privacy.attack.features <= 1
    assert len(privacy.nearest) == 6
    for kind in (privacy.features, privacy.layout, privacy.ssim):
        assert 0 <= kind.share <= 1
        assert kind.limit <= 1 + 1e-5
    train = {image.id for image in load_index(evaluated[0]).select(split="train")}
    assert all(pair.image_id in train for pair in privacy.nearest)


def test_copies_of_training_images_are_called_copies(tmp_path):
    """A set of real training images, each mirrored, is found out; the limit is not moved by it."""
    project = make_project(tmp_path)
    index = load_index(project)
    for class_name in index.classes:
        images = [
            record for record in index.select(split="train") if record.class_name == class_name
        ]
        for number, image in enumerate(images[:2]):
            target = project.path("distilled", "dpd-1", class_name, f"{number:03d}.png")
            ImageOps.mirror(open_record(image)).save(target)
    evaluation.run(project, CONFIG.replace(baselines=(), seeds=1, student_steps=1))
    privacy = load_report(project, "dpd-1").privacy
    assert privacy.copied
    assert privacy.layout.share == 1


def test_a_pretrained_student_can_be_the_one_that_is_scored(evaluated):
    config = CONFIG.replace(student="pretrained", distribution=False, baselines=("random",))
    summary = evaluation.run(evaluated[0], config)
    assert summary["accuracy"] == summary["accuracy_pretrained"]


def test_progress_reaches_its_total_and_metrics_name_the_set(evaluated):
    events = evaluated[1]
    progress = [event for event in events if isinstance(event, Progress)]
    # 4 sets × 2 seeds × 12 steps, 6 distilled and 12 real images compared.
    assert progress[-1].done == progress[-1].total == 4 * 2 * 12 + 18
    assert [a.done for a in progress] == sorted(a.done for a in progress)
    named = [name for event in events if isinstance(event, Metric) for name in event.values]
    assert named.count("accuracy/random") == 2


def test_a_second_run_trains_nothing_and_says_the_same(evaluated):
    project, _, summary, report = evaluated
    before = parts(project)
    events = []
    assert evaluation.run(project, CONFIG, events.append) == summary
    assert parts(project) == before
    again = storage.read_json(project.path("reports", "dpd-1.json"))
    assert {**again, "seconds": 0} == {**report, "seconds": 0}
    assert next(e for e in events if isinstance(e, Progress)).done == 4 * 2 * 12


def test_a_stopped_run_goes_on_where_it_was(tmp_path, evaluated):
    project = make_project(tmp_path)
    finished = []

    def stop(event):
        if isinstance(event, Metric):
            finished.append(event)
            if len([e for e in finished if "pretrained" not in next(iter(e.values))]) == 3:
                raise JobStopped("stop")

    with pytest.raises(JobStopped):
        evaluation.run(project, CONFIG, stop)
    before = parts(project)
    assert len(before) == 3
    evaluation.run(project, CONFIG)
    after = parts(project)
    assert before.items() <= after.items()
    report = storage.read_json(project.path("reports", "dpd-1.json"))
    assert {**report, "seconds": 0} == {**evaluated[3], "seconds": 0}, "as if never stopped"


def test_another_set_shares_the_baselines(evaluated):
    project = evaluated[0]
    root = project.path("distilled")
    other = storage.read_json(root / "dpd-1" / "manifest.json")
    for slot in other["slots"]:
        target = root / "other" / slot["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        # Shifted by a pixel value, so that the images are others.
        data = (root / "dpd-1" / slot["file"]).read_bytes()
        target.write_bytes(data)
    other["slots"][0]["file"], other["slots"][1]["file"] = (
        other["slots"][1]["file"],
        other["slots"][0]["file"],
    )
    storage.write_json(root / "other" / "manifest.json", {**other, "name": "other"})
    before = set(parts(project))
    config = CONFIG.replace(set_name="other", distribution=False)
    summary = evaluation.run(project, config)
    assert summary["set"] == "other"
    assert len(set(parts(project)) - before) == 2, "one for each seed of the new set only"
    report = load_report(project, "other")
    assert report.privacy is None


def test_test_images_choose_nothing(tmp_path):
    """With fewer test images, every training set is what it was."""
    digests = []
    for name, test in (("few", 2), ("many", 4)):
        project = make_project(tmp_path / name, test=test)
        comparison = evaluation.load_comparison(project, CONFIG, lambda event: None)
        assert len(comparison.test) == 3 * test
        digests.append(
            [variant.digest for subject in comparison.subjects for variant in subject.variants]
        )
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 1 + 2 + 1 + 1, "two different random subsets"


def test_the_test_split_is_disjoint_from_all_that_trains(evaluated):
    comparison = evaluation.load_comparison(evaluated[0], CONFIG, lambda event: None)
    tested = set(comparison.test.sources)
    assert len(set(comparison.control)) == len(comparison.control)
    for subject in comparison.subjects[1:]:
        for variant in subject.variants:
            assert tested.isdisjoint(variant.sources)
            assert set(variant.sources) <= set(comparison.train.sources)


def test_one_seed_has_no_deviation(evaluated):
    config = CONFIG.replace(seeds=1, baselines=("random",), distribution=False)
    summary = evaluation.run(evaluated[0], config)
    assert summary["accuracy_std"] == {"dpd-1": None, "random": None}


def test_a_class_without_test_images_is_an_error(tmp_path):
    project = make_project(tmp_path)
    path = project.path("dataset", "index.json")
    index = storage.read_json(path)
    index["images"] = [i for i in index["images"] if (i["class"], i["split"]) != ("river", "test")]
    index["classes"]["river"]["test"] = 0
    storage.write_json(path, index)
    with pytest.raises(DatasetError, match="river"):
        evaluation.run(project, CONFIG)


def test_a_missing_image_is_named(tmp_path):
    project = make_project(tmp_path)
    project.path("distilled", "dpd-1", "river", "001.png").unlink()
    with pytest.raises(ProjectError, match=r"river.001\.png"):
        evaluation.run(project, CONFIG)


def test_an_unknown_baseline_is_refused_before_any_work(evaluated):
    with pytest.raises(ConfigError, match="magic"):
        evaluation.run(evaluated[0], CONFIG.replace(baselines=("magic",)))


def test_a_set_named_like_a_baseline_is_refused(tmp_path):
    project = make_project(tmp_path, set_name="random")
    with pytest.raises(ConfigError, match="random"):
        evaluation.run(project, CONFIG)


def test_evaluating_an_empty_project_names_the_missing_stage(tmp_path):
    with pytest.raises(StageMissing, match="dataset"):
        evaluation.run(Project.create(tmp_path / "empty"), CONFIG)
