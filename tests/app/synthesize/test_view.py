"""What the Synthesize tab shows, and what it lets a browser ask for."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.server.jobs import JobQueue
from app.server.settings import Settings
from app.synthesize import service
from app.synthesize import view as views
from app.synthesize.compare import table
from app.ui.scores import set_scores
from dpd_core import storage
from dpd_core.errors import ProjectError
from dpd_core.project import Project
from dpd_core.prototypes.files import Slot
from dpd_core.synthesize.records import PlannedSlot, Recipe, to_json
from dpd_core.synthesize.sets import DistilledSet, claim, record_path
from dpd_core.synthesize.strategies import STRATEGIES
from tests.support.distilled_project import make_project

LINKS = views.Links(lambda path: path.name, lambda image: f"thumb/{image}")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("views"))


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(Settings(tmp_path))


def test_each_image_is_beside_its_prototype(project: Project, queue: JobQueue) -> None:
    shown = service.read_set(project, queue, "dpd-1")
    assert shown is not None
    value = views.grid(shown, None, LINKS, {"forest": "deep forest"})
    cell = next(cell for cell in value["cells"] if cell["key"] == "forest/1")
    assert cell["title"] == "deep forest 2"
    assert cell["prototype"] == "thumb/forest/01.png"
    assert (cell["score"], cell["image"], cell["right"]) == ("1.50", "001.png", True)
    assert [candidate["chosen"] for candidate in cell["candidates"]] == [False, True]
    assert value["note"] == "6 images, 6 named right by the latent classifier"


def test_why_an_image_is_the_slots(project: Project, queue: JobQueue) -> None:
    shown = service.read_set(project, queue, "dpd-1")
    assert shown is not None
    record = shown.slots[Slot("forest", 1)]
    assert views.why(record) == "It has the highest score of the 2 made."
    many = replace(record, sampled=24, refused=4)
    assert "20 that are not too near to a real image (24 made)" in views.why(many)
    by_hand = replace(record, chosen=0, chosen_by="hand")
    assert views.why(by_hand) == "It was chosen by hand; by its score it would be candidate 2."
    value = views.grid(replace(shown, rule="margin"), None, LINKS, {})
    assert "surer the latent classifier" in value["score"]
    assert {strategy.rule for strategy in STRATEGIES.values()} <= set(views.MEANINGS)


def test_sets_are_compared_by_what_differs(project: Project) -> None:
    (first,) = set_scores(project)[:1]
    other = replace(first, name="other", settings={**first.settings, "cfg": 9.5}, right=0)
    assert table([first]) == {"rows": []}
    value = table([first, other])
    assert "cfg" in value["settings"]
    assert value["rows"][1]["settings"][value["settings"].index("cfg")] == "9.5"
    right = list(value["scores"]).index("named right")
    assert [row["scores"][right]["text"] for row in value["rows"]] == ["100.0%", "0.0%"]
    assert value["rows"][0]["scores"][right]["mark"] == "best"


def test_order_class_and_page(
    project: Project, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = service.read_set(project, queue, "dpd-1")
    assert shown is not None
    river = Slot("river", 1)
    shown.slots[river] = replace(shown.slots[river], chosen=0)  # score -1 instead of 1.5
    first = [
        views.grid(shown, None, LINKS, {}, order=order)["cells"][0]["key"]
        for order in ("class", "worst", "best")
    ]
    assert first == ["desert/0", "river/1", "desert/0"]
    del shown.slots[Slot("desert", 0)]
    for order in ("worst", "best"):
        cells = views.grid(shown, None, LINKS, {}, order=order)["cells"]
        assert cells[-1]["key"] == "desert/0", "what has no score comes last"
    monkeypatch.setattr(views, "PAGE", 4)
    value = views.grid(shown, None, LINKS, {}, page=9)
    assert (value["page"], value["pages"], len(value["cells"])) == (1, 2, 2)
    only = views.grid(shown, None, LINKS, {}, class_name="river")
    assert {cell["class"] for cell in only["cells"]} == {"river"}


def test_an_unfinished_set_shows_what_is_there(project: Project, queue: JobQueue) -> None:
    folder = project.path("distilled", "half")
    slots = (
        PlannedSlot("forest", 0, "forest/00.png", "trees"),
        PlannedSlot("forest", 1, "forest/01.png", "wood"),
    )
    claim(folder, "half", Recipe("model", None, "key", "key", 0, {}, {}, slots))
    record = DistilledSet.load(project).find(Slot("forest", 0))
    storage.write_json(record_path(folder, record.slot), to_json(record))
    shown = service.read_set(project, queue, "half")
    assert shown is not None
    value = views.grid(shown, None, LINKS, {})
    assert value["note"] == "1 of 2 images made so far"
    assert [cell["image"] for cell in value["cells"]] == ["000.png", None]
    assert value["cells"][1]["caption"] == "wood"
    beside = service.read_set(project, queue, "dpd-1")
    compared = views.grid(shown, beside, LINKS, {})["cells"][1]
    assert compared["beside"]["image"] == "001.png"
    assert "half" in service.set_names(project)
    assert service.latest_set(project, queue) == "dpd-1", "the record says which is the latest"


def test_a_browser_can_name_only_what_is_there(project: Project, queue: JobQueue) -> None:
    event = SimpleNamespace(set="dpd-1", class_name="forest", slot=1)
    assert service.slot_of(event) == ("dpd-1", Slot("forest", 1))
    for wrong in (
        {},
        {"set": 3, "class_name": "forest", "slot": 1},
        {"set": "dpd-1", "class_name": "forest", "slot": True},
    ):
        with pytest.raises(ProjectError):
            service.slot_of(SimpleNamespace(**wrong))
    for name in ("../dpd-1", "none"):
        with pytest.raises(ProjectError):
            service.read_set(project, queue, name)
    with pytest.raises(ProjectError):
        service.resample(project, queue, "dpd-1", Slot("forest", 77))
    with pytest.raises(ProjectError):
        service.check_keep(project, "none")
    assert service.read_set(project, queue, "") is None


def test_a_strategy_says_what_it_is() -> None:
    assert "prototype" in views.strategy("dpd")["description"]
    assert "2601.15829" in views.strategy("dpd")["source"]
    assert "no such" in views.strategy("<b>")["description"]
