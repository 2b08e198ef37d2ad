"""Truthful English captions made from the attributes of a drawn scene.

For each class `_FACTS` gives the subject and a list of phrases in reading order. Phrases
are prepositional, so any subset in this order reads well after the subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Attributes = Mapping[str, str | int | float]
# (subject alternatives, groups of interchangeable phrases); an empty group is left out
Facts = tuple[list[str], list[list[str]]]

_NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
)
_LIGHT = {
    "clear": ["in clear light", "on a bright day"],
    "hazy": ["under light haze", "in hazy air"],
    "dim": ["in dim light", "on a dark day"],
    "warm": ["in warm evening light", "in warm low sunlight"],
}
_SEASON = {
    "spring": ["in spring"],
    "summer": ["in summer"],
    "autumn": ["in autumn"],
    "winter": ["in winter"],
    "dry season": ["in the dry season"],
}
# scenes that show too little vegetation to tell the season
_SEASONLESS = frozenset(
    {
        "airplane",
        "beach",
        "circular fields",
        "dense residential",
        "harbor",
        "industrial area",
        "parking lot",
        "storage tanks",
    }
)


def number_word(count: int) -> str:
    """Count as a word: exact up to sixteen, then 'many', from 24 on 'dozens of'."""
    if count < len(_NUMBERS):
        return _NUMBERS[count]
    return "dozens of" if count >= 24 else "many"


def counted(count: int, noun: str) -> str:
    """'two boats', 'one boat', 'no boats'; `noun` is the singular."""
    word = "no" if count == 0 else number_word(count)
    return f"{word} {noun}" if count == 1 else f"{word} {noun}s"


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _if(value: object, *phrases: str) -> list[str]:
    """The phrases when an attribute says yes (or is a positive count)."""
    return list(phrases) if value == "yes" or (isinstance(value, int) and value > 0) else []


def _airplane(a: Attributes) -> Facts:
    n, colour = int(a["count"]), str(a["colour"])
    subject = (
        [f"one {colour} airplane", f"a single {colour} airplane"]
        if n == 1
        else [f"{number_word(n)} {colour} airplanes"]
    )
    where = (
        ["on a runway", f"on a {a['orientation']} runway with dashed markings"]
        if a["place"] == "runway"
        else ["parked on a grey apron", "standing on the concrete apron of an airport"]
    )
    row = (
        []
        if a["orientation"] == "none" or a["place"] == "runway"
        else [f"in a {a['orientation']} row"]
    )
    return subject, [
        where,
        row,
        _if(a["terminal"], "beside a terminal building", "along a long terminal building"),
    ]


def _baseball(a: Attributes) -> Facts:
    n, dirt = int(a["count"]), a["dirt"]
    subject = (
        ["a baseball diamond", "one baseball diamond"]
        if n == 1
        else [f"{number_word(n)} baseball diamonds"]
    )
    layout = {
        1: [],
        2: ["facing each other"],
        4: ["arranged like a clover leaf", "meeting at a common center"],
    }[n]
    return subject, [
        layout,
        [
            f"with {dirt} dirt and green grass",
            f"with {_a(f'{dirt} infield')}",
            f"with {dirt} base paths and white foul lines",
        ],
        _if(a["track"], f"with {_a(f'{dirt} warning track')} around the outfield"),
    ]


def _beach(a: Attributes) -> Facts:
    return (
        ["a beach", f"a {a['sand']} sand beach"],
        [
            [f"along the {a['sea']} sea", f"beside {a['sea']} water"],
            [f"at the {a['sea_side']}", f"with the sea on the {a['sea_side']} side"],
            [f"with {a['waves']}"],
            [f"backed by {a['backing']}", f"in front of {a['backing']}"],
            _if(a["umbrellas"], "dotted with umbrellas"),
        ],
    )


def _circles(a: Attributes) -> Facts:
    n = int(a["count"])
    land = {"desert": "desert sand", "dry grass": "dry grassland", "soil": "bare soil"}[
        str(a["land"])
    ]
    return (
        [f"{number_word(n)} circular fields", "circular fields with pivot irrigation"],
        [
            [f"mostly {a['colour']} in color", f"with mainly {a['colour']} crops"],
            [f"arranged in {counted(int(a['rows']), 'row')} of {number_word(int(a['columns']))}"],
            [f"on {land}", f"surrounded by {land}"],
        ],
    )


def _dense(a: Attributes) -> Facts:
    roof = "mixed" if a["roofs"] == "mixed" else str(a["roofs"])
    many = number_word(int(a["houses"]))
    return (
        ["a dense residential area", "a dense residential neighborhood"],
        [
            [f"with {many} closely packed houses", f"with {many} small houses"],
            [f"with {roof} roofs", f"under {roof} roofs"],
            [f"along {a['orientation']} streets", f"in {a['orientation']} rows"],
            _if(a["crossing"], "with a crossing street"),
        ],
    )


def _farmland(a: Attributes) -> Facts:
    one, two = a["colour"], a["second_colour"]
    colours = f"{one} and {two}" if one != two else f"{one}"
    layout = (
        ["in long narrow strips", f"with long {a['orientation']} strips"]
        if a["layout"] == "long strips"
        else ["divided into a patchwork of fields", "with a patchwork of rectangular fields"]
    )
    return (
        ["farmland", "flat farmland"],
        [
            layout,
            [f"in {colours} colors", f"with mainly {colours} crops"],
            _if(a["hedges"], "with trees along the field edges", "with scattered trees"),
            _if(a["farmhouse"], "around a small farm", "with two farm buildings"),
        ],
    )


def _forest(a: Attributes) -> Facts:
    feature = {
        "track": ["crossed by a narrow dirt track", "with a winding dirt road"],
        "clearing": ["with a grassy clearing", "around an open clearing"],
        "closed canopy": ["with a closed canopy", "covered by dense tree crowns"],
    }
    kinds = {
        "broadleaf": ["of broadleaf trees", "of rounded deciduous trees"],
        "conifer": ["of dark conifers", "of dark green conifer trees"],
        "mixed": ["of mixed trees", "of conifers and broadleaf trees"],
    }
    return ["a forest", "a dense forest"], [kinds[str(a["kind"])], feature[str(a["feature"])]]


def _freeway(a: Attributes) -> Facts:
    cars = int(a["cars"])
    return (
        [f"a {a['orientation']} freeway", "a freeway"],
        [
            [
                f"with {number_word(int(a['lanes']))} lanes",
                f"with {number_word(int(a['lanes']) // 2)} lanes in each direction",
            ],
            [f"with {_a(str(a['median']))}"],
            # an overpass may hide some of the cars
            []
            if a["overpass"] == "yes"
            else [f"carrying {counted(cars, 'car')}"]
            if cars
            else ["without traffic"],
            _if(a["trees"], "lined with trees", "between trees"),
            _if(a["overpass"], "below a crossing overpass", "passing under a bridge"),
        ],
    )


def _golf(a: Attributes) -> Facts:
    n = int(a["fairways"])
    return (
        ["a golf course"],
        [
            [f"with {counted(n, 'light green fairway')}", f"with {counted(n, 'fairway')}"],
            [f"with {counted(int(a['bunkers']), 'sand bunker')}"] if a["bunkers"] else [],
            _if(a["pond"], "beside a small pond", "around a dark pond"),
            ["among scattered trees", "with trees in the rough"],
        ],
    )


def _harbor(a: Attributes) -> Facts:
    boats, piers = int(a["boats"]), int(a["piers"])
    return (
        ["a harbor", "a small harbor"],
        [
            [f"with {counted(boats, str(a['colour']) + ' boat')}"],
            [f"at {counted(piers, 'pier')}", f"moored along {counted(piers, 'pier')}"],
            [f"on {a['water']} water", f"in calm {a['water']} water"],
            [f"with the quay at the {a['quay_side']}"],
        ],
    )


def _industrial(a: Attributes) -> Facts:
    halls, trucks = int(a["halls"]), int(a["trucks"])
    hall = counted(halls, "large hall")
    return (
        ["an industrial area", "an industrial area on paved ground"],
        [
            [f"with {hall}", f"with {counted(halls, 'big flat building')}"],
            [f"under mainly {a['roof']} roofs", f"with mostly {a['roof']} roofs"],
            [f"with {counted(trucks, 'truck')}"] if trucks else [],
        ],
    )


def _intersection(a: Attributes) -> Facts:
    cars = int(a["cars"])
    corner = {
        "buildings": ["between buildings", "surrounded by buildings"],
        "lawns": ["between green lawns", "with grass at the corners"],
        "trees": ["surrounded by trees", "with trees at the corners"],
    }
    return (
        [f"a {a['kind'].lower()} intersection", "an intersection"],  # type: ignore[union-attr]
        [
            ["of two diagonal roads"] if a["orientation"] == "diagonal" else ["of two roads"],
            _if(a["crosswalks"], "with white crosswalks", "with zebra crossings"),
            [f"with {counted(cars, 'car')}"] if cars else ["without cars"],
            corner[str(a["corners"])],
        ],
    )


def _lake(a: Attributes) -> Facts:
    return (
        [f"a {a['extent']} lake", "a lake"],
        [
            [f"with {a['water']} water", f"of {a['water']} water"],
            [f"with {counted(int(a['islands']), 'island')}"] if a["islands"] else [],
            [f"surrounded by {a['surroundings']}", f"in the middle of {a['surroundings']}"],
        ],
    )


def _parking(a: Attributes) -> Facts:
    cars = int(a["cars"])
    return (
        [f"a {a['occupancy']} parking lot", "a parking lot"],
        [
            [f"with {counted(cars, 'car')}", f"with {counted(cars, 'parked car')}"],
            [f"in {a['orientation']} rows", f"arranged in {a['orientation']} lines"],
            _if(a["trees"], "with trees on green strips", "separated by planted strips"),
        ],
    )


def _railway(a: Attributes) -> Facts:
    tracks, trains = int(a["tracks"]), int(a["trains"])
    setting = {
        "grass": ["through open grassland", "between grass strips"],
        "trees": ["lined with trees", "between trees"],
        "warehouses": ["between warehouses", "beside large sheds"],
    }
    return (
        [f"a {a['orientation']} railway", "a railway"],
        [
            [
                f"with {counted(tracks, 'track')}",
                f"with {counted(tracks, 'parallel track')}"
                if tracks > 1
                else "with a single track",
            ],
            [f"with {counted(trains, str(a['train_colour']) + ' train')}"]
            if trains
            else ["without trains"],
            setting[str(a["setting"])],
        ],
    )


def _river(a: Attributes) -> Facts:
    return (
        [f"a {a['width']} river", f"a {a['course']} river", "a river"],
        [
            [f"of {a['water']} water", f"with {a['water']} water"],
            [f"with {a['banks']} banks"],
            [f"flowing in a {a['orientation']} direction"],
            [f"through {a['surroundings']}", f"surrounded by {a['surroundings']}"],
            _if(a["bridge"], "crossed by a bridge", "under a narrow road bridge"),
        ],
    )


def _roundabout(a: Attributes) -> Facts:
    cars = int(a["cars"])
    island = {
        "grass": "a grass island",
        "trees": "trees on the island",
        "paved": "a paved island and a fountain",
    }[str(a["island"])]
    return (
        ["a roundabout", f"a roundabout with {number_word(int(a['arms']))} arms"],
        [
            [
                f"joining {number_word(int(a['arms']))} roads",
                f"connecting {number_word(int(a['arms']))} roads",
            ],
            [f"with {island}"],
            [f"with {counted(cars, 'car')}"] if cars else [],
            [f"surrounded by {a['surroundings']}", f"between {a['surroundings']}"],
        ],
    )


def _sparse(a: Attributes) -> Facts:
    n = int(a["houses"])
    return (
        ["a sparse residential area"],
        [
            [
                f"with {counted(n, str(a['roofs']) + '-roofed house')}",
                f"with {counted(n, 'detached house')}",
            ],
            ["among trees and lawns", "between lawns and trees", "with large gardens"],
            _if(a["pool"], "with a turquoise swimming pool"),
            [f"along a road at the {a['road_side']}"],
        ],
    )


def _tanks(a: Attributes) -> Facts:
    n = int(a["count"])
    return (
        [f"{number_word(n)} {a['colour']} storage tanks", f"{a['colour']} storage tanks"],
        [
            [f"with {a['roof']} roofs"],
            [f"arranged in {counted(int(a['rows']), 'row')} of {number_word(int(a['columns']))}"],
            [f"on {a['ground']}", f"standing on {a['ground']}"],
        ],
    )


def _tennis(a: Attributes) -> Facts:
    n, surface = int(a["count"]), a["surface"]
    subject = (
        [f"a {surface} tennis court", "a single tennis court"]
        if n == 1
        else [f"{number_word(n)} {surface} tennis courts", f"{number_word(n)} tennis courts"]
    )
    return (
        subject,
        [
            ["with white lines"],
            [f"oriented {a['orientation']}ly"],
            [
                f"with {_a(str(a['surround']) + ' border')}",
                f"inside {_a(str(a['surround']) + ' border')}",
            ],
            ["surrounded by grass"],
        ],
    )


_FACTS: dict[str, Callable[[Attributes], Facts]] = {
    "airplane": _airplane,
    "baseball diamond": _baseball,
    "beach": _beach,
    "circular fields": _circles,
    "dense residential": _dense,
    "farmland": _farmland,
    "forest": _forest,
    "freeway": _freeway,
    "golf course": _golf,
    "harbor": _harbor,
    "industrial area": _industrial,
    "intersection": _intersection,
    "lake": _lake,
    "parking lot": _parking,
    "railway": _railway,
    "river": _river,
    "roundabout": _roundabout,
    "sparse residential": _sparse,
    "storage tanks": _tanks,
    "tennis court": _tennis,
}


def compose_caption(class_name: str, attributes: Attributes, rng: np.random.Generator) -> str:
    """Caption of 8 to 25 lower-case words: subject, then one to three attribute phrases."""

    def pick(options: list[str]) -> str:
        return options[int(rng.random() * len(options))]

    subjects, groups = _FACTS[class_name](attributes)
    phrases = [pick(group) for group in groups if group]
    moment = _LIGHT[str(attributes["light"])]
    if class_name not in _SEASONLESS:
        moment = _SEASON[str(attributes["season"])] + moment
    phrases.append(pick(moment))
    wanted = 1 + int(rng.random() * 3)
    order = rng.permutation(len(phrases))
    subject = pick(subjects)
    words = f"a satellite image of {subject}".split()
    chosen: set[int] = set()
    for index in order.tolist():
        extra = len(phrases[index].split())
        total = len(words) + sum(len(phrases[k].split()) for k in chosen)
        if (len(chosen) < wanted and total + extra <= 25) or total < 8:
            chosen.add(index)
    linked = " with " in subject
    for index in sorted(chosen):
        phrase = phrases[index]
        # "with four lanes with a median" reads better as "with four lanes and a median"
        starts_with = phrase.startswith("with ")
        words.append("and " + phrase[5:] if starts_with and linked else phrase)
        linked = starts_with
    return " ".join(words).lower()
