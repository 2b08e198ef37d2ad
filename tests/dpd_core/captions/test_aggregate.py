"""Caption texts and how many captions become one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd_core.captions.aggregate import aggregate, compose, describe
from dpd_core.captions.text import (
    MAX_CAPTION,
    checked_caption,
    template_caption,
    tidy_generated,
    words_of,
)
from dpd_core.errors import CaptionError, ConfigError

READABLE = {
    "airplane": "airplane",
    "beach": "beach",
    "dense": "dense residential",
    "harbor": "harbor",
    "plain": "residential",
}


def test_the_caption_that_covers_the_frequent_words_wins():
    cluster = [
        "a satellite image of an airplane with a red tail",
        "a satellite image of a white airplane on a grey apron",
        "a satellite image of a white airplane",
        "a satellite image of a white airplane beside a grey apron and a hangar",
    ]
    texts = aggregate({"airplane": [cluster]}, READABLE)
    assert texts == {
        "airplane": ["A satellite image of airplane: a white airplane on a grey apron"]
    }


def test_words_of_most_classes_are_dropped():
    # "green" and "trees" are everywhere, so only the rare "boats" and "tail" decide.
    captions = {
        name: [[f"{name} with green trees and green grass and trees", f"{name} with {word}"]]
        for name, word in (("airplane", "a tail"), ("beach", "waves"), ("harbor", "boats"))
    }
    texts = aggregate(captions, READABLE, common=0.7)
    assert texts["harbor"] == ["A satellite image of harbor: boats"]
    assert texts["beach"] == ["A satellite image of beach: waves"]
    kept = aggregate(captions, READABLE, common=1.0 / 3 * 4)
    assert kept["harbor"] == ["A satellite image of harbor: green trees and green grass and trees"]


def test_the_share_of_classes_is_met_exactly():
    names = [f"class {n}" for n in range(10)]
    readable = {name: f"kind {n}" for n, name in enumerate(names)}
    with_word = {
        name: [["paved squares" if n < 7 else "long strips"]] for n, name in enumerate(names)
    }
    texts = aggregate(with_word, readable, common=0.7)
    assert texts["class 0"] == ["A satellite image of kind 0"]
    assert texts["class 9"] == ["A satellite image of kind 9: long strips"]


def test_a_single_class_keeps_its_words():
    texts = aggregate({"beach": [["a beach with waves"], ["a beach with waves"]]}, READABLE)
    assert texts == {"beach": ["A satellite image of beach: waves"] * 2}


def test_a_rambling_caption_does_not_win_by_its_length():
    rambling = "white boats at a pier " + " ".join(f"thing{n}" for n in range(30))
    cluster = ["white boats at a wooden pier", "white boats at a wooden pier by night", rambling]
    text = aggregate({"harbor": [cluster]}, READABLE)["harbor"][0]
    assert text == "A satellite image of harbor: white boats at a wooden pier"


def test_of_equal_captions_the_nearest_to_the_centre_wins():
    texts = aggregate(
        {"harbor": [["red boats", "blue piers"], ["blue piers", "red boats"]]}, READABLE
    )
    assert texts["harbor"] == [
        "A satellite image of harbor: red boats",
        "A satellite image of harbor: blue piers",
    ]


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("a satellite image of a harbor with white boats", "white boats"),
        ("An aerial photo of two large harbors.", "two large harbors"),
        ("There is a pier in the water.", "a pier in the water"),
        ("This is an aerial view of a harbor, with many boats", "many boats"),
        ("The image shows a harbor surrounded by houses.", "surrounded by houses"),
        ("In this image, we can see boats", "boats"),
        ("The image is of a quay", "a quay"),
        ("a satellite image", ""),
        ("harbor", ""),
        ("", ""),
    ],
)
def test_generic_openings_and_the_class_alone_are_taken_off(caption, text):
    found = describe(caption, "harbor", READABLE)
    assert (found.text, found.trusted) == (text, True)


@pytest.mark.parametrize(
    ("class_name", "caption", "text"),
    [
        (
            "airplane",
            "a satellite image of a small harbor with white boats on grey water",
            "white boats on grey water",
        ),
        (
            "airplane",
            "A harbor. There are many boats in the harbors, on grey water.",
            "many boats, on grey water",
        ),
        ("airplane", "a photo of beaches", ""),
        ("plain", "a dense residential area with red roofs", "red roofs"),
    ],
)
def test_a_wrong_class_is_taken_out_of_the_description(class_name, caption, text):
    found = describe(caption, class_name, READABLE)
    assert (found.text, found.trusted) == (text, False)


@pytest.mark.parametrize(
    ("class_name", "caption"),
    [
        ("airplane", "airplanes on a runway near a beach"),  # another class beside the head
        ("dense", "a residential area with roofs"),  # part of its own name
        ("dense", "a dense residential area"),
        ("airplane", "a forest with roofs"),  # not one of this project's classes
    ],
)
def test_what_is_not_a_wrong_class_is_trusted(class_name, caption):
    assert describe(caption, class_name, READABLE).trusted


def test_captions_of_a_wrong_class_only_count_where_there_is_no_other():
    wrong = ["a harbor with white boats", "a harbor with boats"]
    texts = aggregate({"airplane": [[*wrong, "an airplane with a red tail"], wrong]}, READABLE)
    assert texts["airplane"] == [
        "A satellite image of airplane: a red tail",
        "A satellite image of airplane: boats",
    ]
    assert not any("harbor" in text for text in texts["airplane"])


def test_nothing_to_say_leaves_the_template():
    empty = {"beach": [[], [""], ["a beach"], ["an image of it"]]}
    assert aggregate(empty, READABLE) == {"beach": ["A satellite image of beach"] * 4}


def test_the_template_names_the_class_and_ends_before_the_description():
    text = compose("waves", "beach", READABLE, template="{class}, seen from {above}.")
    assert text == "beach, seen from {above}: waves"
    with pytest.raises(ConfigError, match="captions.template"):
        template_caption("A satellite image", "beach")


def test_an_endless_description_stays_within_the_limit():
    text = compose("very long words " * 500, "beach", READABLE, template="A {class}")
    assert len(text) <= MAX_CAPTION and text.startswith("A beach: very long")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.text(max_size=60), max_size=4), min_size=1, max_size=3))
def test_any_captions_give_acceptable_texts_that_name_the_class(clusters):
    cleaned = [[tidy_generated(caption, 20) for caption in cluster] for cluster in clusters]
    texts = aggregate({"dense": cleaned, "beach": cleaned[::-1]}, READABLE)
    assert texts == aggregate({"dense": cleaned, "beach": cleaned[::-1]}, READABLE)
    for name, of_class in texts.items():
        assert len(of_class) == len(clusters)
        for text in of_class:
            assert text.startswith(f"A satellite image of {READABLE[name]}")
            assert checked_caption(text) == text


@pytest.mark.parametrize(
    ("generated", "text"),
    [
        ("a a a road", "a road"),
        ("a road, a road, a road and trees", "a road and trees"),
        ("rows of  two\n rows", "rows of two rows"),
        ("**Two** `cars` .", "Two cars."),
        ("boats<|im_end|>", "boats"),
        ("bad\x00 and \x1b[31m red", "bad and [31m red"),
        ('"a quoted road"', "a quoted road"),
        (
            "one two three four five six seven eight of the",
            "one two three four five six seven eight",
        ),
        ("one two three four five. Six seven eight nine ten", "one two three four five."),
        (
            "Yes. Two three four five six seven eight nine ten",
            "Yes. Two three four five six seven eight nine",
        ),
        (
            "one two three four five six seven with the nine ten",
            "one two three four five six seven",
        ),
        ("", ""),
    ],
)
def test_generated_text_is_tidied(generated, text):
    assert tidy_generated(generated, 9) == text


def test_plurals_and_case_count_as_one_word():
    assert words_of("Trees, BEACHES; factories' grass-lands; Bus") == [
        "tree",
        "beach",
        "factory",
        "grass-land",
        "bus",
    ]


def test_a_written_caption_is_normalised():
    assert checked_caption("  two\n white\tboats ") == "two white boats"
    assert checked_caption("ein Hafen für Boote 港口 🚤") == "ein Hafen für Boote 港口 🚤"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("  \n", "empty"),
        ("x" * (MAX_CAPTION + 1), "2,001 characters"),
        ("bell\x07", "U\\+0007"),
        ("lone \ud800 surrogate", "U\\+D800"),
        ("turned \u202e around", "U\\+202E"),
        (None, "None"),
    ],
)
def test_an_unacceptable_caption_is_refused(text, match):
    with pytest.raises(CaptionError, match=match):
        checked_caption(text)


def test_a_long_answer_ends_with_its_last_whole_sentence():
    first = "Two runways cross a field of grass."
    rest = " North of them stand " + " ".join(f"hangar {number}" for number in range(40))
    assert tidy_generated(first + rest, 40) == first
    assert tidy_generated(f"Sure! {first}{rest}", 40) == f"Sure! {first}"
