"""The tab Prototypes in a browser: hover, click and lasso reach the right images, decisions are
kept on disk, and names are text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpd_core.dataset.index import load_index
from dpd_core.pipeline.staleness import is_current
from dpd_core.project import Project
from dpd_core.prototypes import curation
from dpd_core.prototypes.overrides import read_overrides
from tests.support.studio_app import App, open_app

pytestmark = [pytest.mark.ui, pytest.mark.slow]

PLOT = "document.querySelector('#prototypes-map .plot')"


@pytest.fixture
def own_app(start_app: Callable[..., App], small_project: Path) -> App:
    """A server with a copy of the finished project that the test may change."""
    return start_app(small_project)


def open_map(page: Any, app: App) -> None:
    """Open the tab and wait for the map."""
    open_app(page, app, "Prototypes")
    page.wait_for_function(f"() => {PLOT}?._fullLayout?.xaxis && {PLOT}.data?.length")
    page.locator("#prototypes-map .plot-box").scroll_into_view_if_needed()


def spots(page: Any, project: Path) -> dict[str, tuple[float, float]]:
    """Where each image is on the screen, from the map's file and Plotly's own axes."""
    shown = json.loads((project / "prototypes" / "map.json").read_text())
    places = page.evaluate(
        f"""([x, y]) => {{
            const axes = {PLOT}._fullLayout, box = {PLOT}.getBoundingClientRect();
            return x.map((value, n) => [
                box.left + axes.xaxis._offset + axes.xaxis.d2p(value),
                box.top + axes.yaxis._offset + axes.yaxis.d2p(y[n])]);
        }}""",
        [shown["x"], shown["y"]],
    )
    return dict(zip(shown["ids"], map(tuple, places), strict=True))


def lonely(places: dict[str, tuple[float, float]], ids: list[str]) -> str:
    """The image with the most room around it."""

    def room(image_id: str) -> float:
        x, y = places[image_id]
        return min((x - a) ** 2 + (y - b) ** 2 for i, (a, b) in places.items() if i != image_id)

    return max(ids, key=room)


def point_at(page: Any, place: tuple[float, float]) -> None:
    page.mouse.move(place[0] + 15, place[1] + 15)
    page.mouse.move(*place)
    page.wait_for_selector("#prototypes-map .hover-card", state="visible")
    page.wait_for_timeout(300)


def pin(page: Any, project: Path, ids: list[str]) -> str:
    places = spots(page, project)
    image_id = lonely(places, ids)
    point_at(page, places[image_id])
    page.mouse.click(*places[image_id])
    page.wait_for_function(
        "id => document.querySelector('#prototypes-map aside .id')?.textContent === id",
        arg=image_id,
    )
    return image_id


def lasso(page: Any, left: float, top: float, right: float, bottom: float) -> None:
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top + 1)):
        page.mouse.move(*corner, steps=5)
    page.mouse.up()
    page.wait_for_selector("#prototypes-map .items button")


def shown_ids(page: Any) -> set[str]:
    """Images of the gallery, as their links say."""
    links = page.eval_on_selector_all(
        "#prototypes-map .items img", "all => all.map(one => one.src)"
    )
    return {link.split("/thumb/", 1)[1] for link in links}


def test_hover_shows_and_click_pins_the_image_under_the_pointer(page: Any, app: App) -> None:
    open_map(page, app)
    project = Project.open(app.project())
    places = spots(page, app.project())
    image_id = lonely(places, [record.id for record in load_index(project).select("train")])
    point_at(page, places[image_id])
    card = page.locator("#prototypes-map .hover-card img")
    assert card.get_attribute("src").endswith(f"/thumb/{image_id}")
    page.mouse.click(*places[image_id])
    page.wait_for_function(
        "id => document.querySelector('#prototypes-map aside .id')?.textContent === id",
        arg=image_id,
    )
    facts = page.locator("#prototypes-map aside dl").inner_text()
    record = load_index(project).by_id[image_id]
    assert record.class_name in facts
    assert "training" in facts


def test_a_lasso_selects_the_images_inside_it_and_greys_out_the_others(page: Any, app: App) -> None:
    open_map(page, app)
    places = spots(page, app.project())
    xs = sorted(x for x, _ in places.values())
    middle = (xs[len(xs) // 2 - 1] + xs[len(xs) // 2]) / 2
    box = page.locator("#prototypes-map .plot").bounding_box()
    # Inside the margin of the plot, where a drag would begin nothing.
    lasso(page, box["x"] + 8, box["y"] + 8, middle, box["y"] + box["height"] - 8)
    inside = {i for i, (x, _) in places.items() if x < middle}
    assert shown_ids(page) == inside
    assert page.evaluate(f"() => {PLOT}.data[0].selectedpoints.length") == len(inside)
    page.locator("#prototypes-map .items button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#prototypes-map aside .id").inner_text() in inside
    page.get_by_role("button", name="Clear selection").click()
    assert page.locator("#prototypes-map .items button").count() == 0


def test_colours_and_filter_keep_the_zoom(page: Any, app: App) -> None:
    open_map(page, app)
    box = page.locator("#prototypes-map .plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    before = page.evaluate(f"() => {PLOT}._fullLayout.xaxis.range")
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"before => {PLOT}._fullLayout.xaxis.range[0] !== before[0]", arg=before)
    page.wait_for_timeout(500)
    zoomed = page.evaluate(f"() => {PLOT}._fullLayout.xaxis.range")
    colours = set()
    for by in ("cluster", "split", "margin", "outlier"):
        page.locator("#prototypes-map [data-part=colour]").select_option(by)
        colours.add(json.dumps(page.evaluate(f"() => {PLOT}.data[0].marker.color")))
        assert page.evaluate(f"() => {PLOT}._fullLayout.xaxis.range") == zoomed
    assert len(colours) == 4
    page.locator("#prototypes-map [data-part=filter]").select_option("highway")
    count = sum(image_id.startswith("highway/") for image_id in spots(page, app.project()))
    assert page.evaluate(f"() => {PLOT}.data[0].x.length") == count
    assert page.evaluate(f"() => {PLOT}._fullLayout.xaxis.range") == zoomed


def test_decisions_are_on_disk_shown_and_undone(page: Any, own_app: App) -> None:
    open_map(page, own_app)
    project = Project.open(own_app.project())
    index = load_index(project)
    train = [record.id for record in index.select("train", "highway")]
    image_id = pin(page, own_app.project(), train)
    panel = page.locator("#prototypes-map aside")
    panel.get_by_role("button", name="Exclude from training").click()
    panel.get_by_text("excluded from training").wait_for()
    assert read_overrides(project).excluded == {image_id}
    panel.get_by_label("Class to move it to").select_option("forest")
    panel.get_by_text("moved here from highway").wait_for()
    assert load_index(project).by_id[image_id].class_name == "forest"
    assert not is_current(project, "prototypes")
    for _ in range(2):
        count = len([made for made in curation.decisions(project) if made.undone])
        page.locator("#prototypes-undo").click()
        page.wait_for_timeout(300)
        for _ in range(100):
            if len([made for made in curation.decisions(project) if made.undone]) > count:
                break
            page.wait_for_timeout(100)
    panel.get_by_role("button", name="Exclude from training").wait_for()
    assert is_current(project, "prototypes")


def test_reclustering_keeps_a_chosen_prototype_and_says_so(page: Any, own_app: App) -> None:
    open_map(page, own_app)
    project = Project.open(own_app.project())
    stars = json.loads(project.path("prototypes", "prototypes.json").read_text())
    taken = {entry["id"] for entries in stars.values() for entry in entries}
    ids = [record.id for record in load_index(project).select("train") if record.id not in taken]
    image_id = pin(page, own_app.project(), ids)
    page.get_by_role("button", name="Make prototype of its cluster").click()
    page.get_by_role("button", name="Give up this choice").wait_for()
    page.locator("#prototypes-run").click()
    page.locator("#prototypes-changes summary").wait_for(timeout=180_000)
    page.locator("#prototypes-changes").get_by_text(f"{image_id}: kept").wait_for(
        state="attached", timeout=180_000
    )
    page.locator(f"#prototypes-strip button.chosen[data-id='{image_id}']").wait_for()


def test_a_class_name_with_markup_is_text(page: Any, own_app: App) -> None:
    name = "<img src=x onerror=alert(1)> ${alert(2)}"
    names = own_app.project() / "dataset" / "names.json"
    names.write_text(json.dumps({"highway": name}))
    alerts: list[str] = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    open_map(page, own_app)
    project = Project.open(own_app.project())
    pin(
        page,
        own_app.project(),
        [record.id for record in load_index(project).select("train", "highway")],
    )
    assert name in page.locator("#prototypes-map aside dl").inner_text()
    assert name in page.locator("#prototypes-map .legend").inner_text()
    assert name in page.locator("#prototypes-strip").inner_text()
    assert alerts == []
