"""What the tab Evaluate says of a report."""

from dataclasses import replace

import pytest

from app.evaluate import privacy, service
from app.evaluate import view as views
from app.ui.sets import set_choices
from dpd_core.config import EvaluateConfig
from dpd_core.errors import ConfigError, ProjectError
from dpd_core.evaluate.baselines import BASELINES
from dpd_core.evaluate.report import Alignment, TextImage, save_report
from dpd_core.synthesize.sets import DistilledSet, write_manifest
from tests.support.distilled_project import make_project
from tests.support.evaluation_report import make_report
from tests.support.finished_stage import finish


def texts(report, **options):
    return [(row["tone"], row["text"]) for row in views.verdicts(report, **options)["rows"]]


def test_a_clear_win_and_the_upper_bound():
    rows = texts(make_report())
    assert rows[0][0] == "good"
    assert "beats 6 random real images (55.0 % against 42.0 %) by 13.0 points" in rows[0][1]
    assert rows[1] == (
        "note",
        "All 90 real images reach 80.0 %; the 6 distilled ones 55.0 %, 69% of that.",
    )


def test_a_loss_is_called_a_loss():
    report = make_report(runs={"dpd-1": (0.30, 0.31, 0.32), "medoid": (0.50, 0.51, 0.52)})
    (tone, text), _ = texts(report)
    assert tone == "bad"
    assert "loses to 6 medoid real images" in text
    assert "by 20.0 points" in text


@pytest.mark.parametrize("ours", [(0.40, 0.50, 0.60), (0.38, 0.48, 0.40)])
def test_what_may_be_chance_is_no_win(ours):
    report = make_report(runs={"dpd-1": ours, "random": (0.38, 0.48, 0.52)})
    (tone, text), _ = texts(report)
    assert tone == "even"
    assert "may be chance" in text


def test_one_seed_is_said_to_prove_nothing():
    rows = texts(make_report(runs={"dpd-1": (0.5,), "random": (0.4,)}))
    (found,) = [tone for tone, text in rows if text.startswith("One seed only")]
    assert found == "note"


def test_a_set_changed_after_its_report_is_pointed_out():
    assert texts(make_report(), changed=True)[0][0] == "bad"
    assert "No report yet" in views.verdicts(None)["empty"]


def test_the_chart_has_bars_whiskers_points_and_chance():
    value = views.accuracy_chart([make_report()])
    ours, random, full = value["rows"][:3]
    assert (ours["kind"], random["kind"], full["kind"]) == ("ours", "real", "full")
    assert ours["length"] == pytest.approx(55)
    assert ours["text"] == "55.0 ± 5.0 %"
    assert ours["points"] == pytest.approx([50, 55, 60])
    assert ours["whisker"] == {"left": 50, "width": 10}
    assert ours["reference"] == pytest.approx(100 / 3, abs=0.01)
    assert "3 seeds" in value["legend"]
    assert "guessing among 3 classes, 33.3 %" in value["legend"]


def test_soft_labels_have_bars_of_their_own():
    report = make_report()
    value = views.accuracy_chart([replace(report, accuracy_soft=report.accuracy)])
    labels = [row["label"] for row in value["rows"]]
    assert labels[3:] == [
        f"{name}, {what}"
        for what in ("soft labels", "pretrained student")
        for name in ("dpd-1 (distilled)", "random real images", "all real images")
    ]


@pytest.mark.parametrize(("ours", "tone"), [(0.70, "good"), (0.68, "good"), (0.6, "bad")])
def test_the_pretrained_student_says_whether_images_look_real(ours, tone):
    report = make_report(pretrained={"dpd-1": ours, "random": 0.7})
    (found,) = [row for row in texts(report) if "pretrained student" in row[1]]
    assert found[0] == tone
    assert f"reaches {100 * ours:.1f} % from dpd-1, beside 70.0 % from 6 random" in found[1]


def test_baselines_are_named_in_few_words():
    for label, name in views.baseline_choices():
        assert label.startswith(f"{name}: ")
        assert len(label) < 90


def test_bars_stay_on_the_axis():
    value = views.accuracy_chart([make_report(runs={"dpd-1": (0.9, 1.0, 1.0)})])
    whisker = value["rows"][0]["whisker"]
    assert whisker["left"] + whisker["width"] <= 100


def test_reports_side_by_side_share_equal_baselines():
    first = make_report()
    second = make_report(
        "plain-1",
        {
            **{"plain-1": (0.2, 0.2, 0.3)},
            "random": first.accuracy["random"].runs,
            "full": (0.7, 0.7, 0.71),
        },
    )
    labels = [row["label"] for row in views.accuracy_chart([first, second])["rows"]]
    assert labels[:5] == [
        "dpd-1 (distilled)",
        "plain-1 (distilled)",
        "random real images",
        "all real images",
        "all real images, beside plain-1",
    ]
    columns = views.per_class([first, second], str)["columns"]
    assert columns == ["class", "dpd-1", "plain-1", "random", "full", "full (plain-1)"]


def test_reports_that_were_measured_differently_are_told_apart():
    assert views.differing_protocols([make_report(), make_report()]) == ""
    warning = views.differing_protocols([make_report(steps=300), make_report(steps=600)])
    assert "steps (300, 600)" in warning


def test_the_confusion_matrix_has_words_for_every_count():
    value = views.confusion(make_report(), str.upper)
    assert value["names"] == ["BEACH", "FOREST", "HARBOR"]
    cells = value["rows"][0]["cells"]
    # Three seeds of ten images, 55 % of them right.
    assert cells[0]["text"] == "BEACH: 16 of 30 recognised"
    assert cells[1] == {
        "share": 35.0,
        "kind": "wrong",
        "shown": "47",
        "text": "BEACH: 14 of 30 taken for FOREST",
    }
    assert cells[2]["shown"] == cells[2]["text"] == ""


def test_the_hardest_class_comes_first():
    value = views.per_class([make_report()], str)
    assert [row["name"] for row in value["rows"]] == ["beach", "forest", "harbor"]
    assert [cell["text"] for cell in value["rows"][0]["cells"]] == ["50.0", "37.0", "75.0"]
    assert [cell["kind"] for cell in value["rows"][0]["cells"]] == ["", "", "best"]


def test_metrics_are_explained_and_compared_among_sets_of_one_size():
    value = views.metrics([make_report()])
    rows = {row["name"]: row for row in value["rows"]}
    assert list(rows) == ["FID", "KID", "Coverage", "Grain"]
    assert all(row["note"] and row["mark"] for row in rows.values())
    # All data has the lowest FID, but more images: it does not compete there.
    assert [cell["kind"] for cell in rows["FID"]["cells"]] == ["best", "", ""]
    assert [cell["kind"] for cell in rows["KID"]["cells"]] == ["", "", "best"]
    # 1.1, 0.84 and 1.6 of the real images' fine energy.
    assert [cell["kind"] for cell in rows["Grain"]["cells"]] == ["best", "", ""]
    assert views.metrics([replace(make_report(), distribution=None, privacy=None)]) == {}


@pytest.mark.parametrize(
    ("similarities", "tone"),
    [([0.6, 0.55, 0.3, 0.3, 0.3, 0.3], "bad"), ([0.6] + [0.3] * 9, "even"), ([0.3] * 6, "good")],
)
def test_the_privacy_sentence_follows_the_numbers(similarities, tone):
    value = privacy.summary(make_report(similarities=similarities))
    assert value["tone"] == tone
    above = sum(similarity > 0.5 for similarity in similarities) / len(similarities)
    assert value["text"].startswith(f"{above:.0%} of the images by what they show")
    assert "of new images it is 5%" in value["text"]
    assert "0.62" in value["text"]


def pair_page(report, page):
    return privacy.pairs(
        report,
        page,
        readable=str.upper,
        image=lambda name, slot: f"/image/{name}/{slot}",
        thumbnail=lambda image_id: f"/thumb/{image_id}",
        prototype=lambda name, slot: f"{name}/00.png",
    )["pairs"]


def test_pairs_come_most_similar_first_and_in_pages():
    report = make_report(ipc=5)
    assert privacy.pages(report) == 2
    first, second = pair_page(report, 0), pair_page(report, 1)
    assert (len(first), len(second)) == (privacy.PER_PAGE, 3)
    assert pair_page(report, 99) == second
    assert first[0] == {
        "image": "/image/beach/0",
        "nearest": "/thumb/beach/00.png",
        "nearest_alt": "training image beach/00.png",
        "nearest_label": "its own prototype",
        "name": "BEACH, image 1",
        "similarity": "0.60 / 0.55 / 0.50",
        "kind": "near",
        "note": "nearer than 95 % of real images",
    }
    assert second[-1]["kind"] == ""
    assert second[-1]["nearest_label"] == "nearest real"


def test_a_report_without_similarities_says_how_to_get_them():
    report = replace(make_report(), privacy=None)
    assert "evaluate again" in privacy.summary(report)["empty"]
    assert privacy.pages(report) == 1
    assert pair_page(report, 0) == []


def test_every_baseline_of_the_core_can_be_chosen():
    assert [name for _, name in views.baseline_choices()] == list(BASELINES)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("evaluate"))


def test_the_newest_set_is_offered_first(project):
    assert set_choices(project) == [("newest (dpd-1)", "latest"), ("dpd-1", "dpd-1")]


def test_settings_take_the_chosen_set_and_baselines(project):
    config = service.config_for(project, EvaluateConfig(), "dpd-1", ["medoid"])
    assert (config.set_name, config.baselines) == ("dpd-1", ("medoid",))
    with pytest.raises(ProjectError, match="Synthesize"):
        service.config_for(project, EvaluateConfig(), "../other", ["medoid"])
    with pytest.raises(ConfigError, match="nonsense"):
        service.config_for(project, EvaluateConfig(), "dpd-1", ["nonsense"])


def test_a_report_of_a_set_that_was_changed_is_known(project):
    distilled = DistilledSet.load(project)
    report = replace(make_report(), manifest=distilled.digest)
    assert not service.changed_since(project, report)
    write_manifest(distilled.root, replace(distilled.manifest, seed=7))
    assert service.changed_since(project, report)
    assert service.changed_since(project, replace(report, set="gone"))


def test_reports_are_found_by_set(project):
    assert service.evaluated_sets(project) == []
    for name in ("dpd-1", "other"):
        save_report(project, make_report(name))
    finish(project, "evaluate", EvaluateConfig(), {"set": "dpd-1"})
    assert service.evaluated_sets(project) == ["dpd-1", "other"]
    found = service.reports(project, ["latest", "other", "dpd-1"])
    assert [report.set for report in found] == ["dpd-1", "other"]
    with pytest.raises(ProjectError, match="no report"):
        service.reports(project, ["../secret"])


def test_what_a_clip_found_is_told_with_real_images_beside():
    plain = make_report()
    assert not any("CLIP" in text for _, text in texts(plain))
    found = TextImage("org/clip", 24.5, Alignment(6, 22.25, 0.5), Alignment(30, 23.0, 0.75))
    (text,) = [text for _, text in texts(replace(plain, text_image=found)) if "CLIP" in text]
    assert "org/clip names the class of 50% of the images, of real test images 75%" in text
    assert "captions 24.5" in text
