"""Readable class names: conventions of the published data sets and of nobody's in particular."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpd_core.dataset.class_names import readable_name, readable_names, segment

UC_MERCED = {
    "agricultural": "agricultural area",
    "airplane": "airplane",
    "baseballdiamond": "baseball diamond",
    "beach": "beach",
    "buildings": "buildings",
    "chaparral": "chaparral",
    "denseresidential": "dense residential",
    "forest": "forest",
    "freeway": "freeway",
    "golfcourse": "golf course",
    "harbor": "harbor",
    "intersection": "intersection",
    "mediumresidential": "medium residential",
    "mobilehomepark": "mobile home park",
    "overpass": "overpass",
    "parkinglot": "parking lot",
    "river": "river",
    "runway": "runway",
    "sparseresidential": "sparse residential",
    "storagetanks": "storage tanks",
    "tenniscourt": "tennis court",
}
EUROSAT = {
    "AnnualCrop": "annual crop",
    "Forest": "forest",
    "HerbaceousVegetation": "herbaceous vegetation",
    "Highway": "highway",
    "Industrial": "industrial area",
    "Pasture": "pasture",
    "PermanentCrop": "permanent crop",
    "Residential": "residential area",
    "River": "river",
    "SeaLake": "sea or lake",
}
AID = {
    "Airport": "airport",
    "BareLand": "bare land",
    "BaseballField": "baseball field",
    "Center": "city center",
    "Commercial": "commercial area",
    "DenseResidential": "dense residential",
    "Farmland": "farmland",
    "Parking": "parking lot",
    "Playground": "playground",
    "RailwayStation": "railway station",
    "Square": "city square",
    "StorageTanks": "storage tanks",
    "Viaduct": "viaduct",
}
NWPU = {
    "basketball_court": "basketball court",
    "circular_farmland": "circular farmland",
    "dense_residential": "dense residential",
    "ground_track_field": "ground track field",
    "mobile_home_park": "mobile home park",
    "sea_ice": "sea ice",
    "snowberg": "snowberg",
    "thermal_power_station": "thermal power station",
}
RSSCN7 = {
    "aGrass": "grass",
    "bField": "field",
    "cIndustry": "industrial area",
    "dRiverLake": "river or lake",
    "eForest": "forest",
    "fResident": "residential area",
    "gParking": "parking lot",
}
ANYONES = {
    "01_airport": "airport",
    "3 - beach": "beach",
    "007river": "river",
    "footballField": "football field",
    "RVPark": "rv park",
    "FOREST": "forest",
    "cul-de-sac": "cul de sac",
    "solarpanel": "solar panel",
    "lake2": "lake 2",
    "wastewatertreatmentplant": "wastewater treatment plant",
    "christmastreefarm": "christmas tree farm",
    "Industrial Buildings": "industrial buildings",
    "Wald": "wald",
    "森林": "森林",
    "xyzzy": "xyzzy",
    "7": "class 7",
    "__": "__",
}


@pytest.mark.parametrize(
    ("folder", "readable"),
    [pair for names in (UC_MERCED, EUROSAT, AID, NWPU, RSSCN7, ANYONES) for pair in names.items()],
)
def test_folder_name_reads_like_words(folder: str, readable: str) -> None:
    assert readable_name(folder) == readable


@pytest.mark.parametrize("word", ["farmland", "grassland", "playground", "overpass", "rainforest"])
def test_a_known_word_is_not_cut(word: str) -> None:
    assert segment(word) == (word,)


def test_names_that_would_read_the_same_are_told_apart() -> None:
    assert readable_names(["01_river", "02_river", "lake"]) == {
        "01_river": "01 river",
        "02_river": "02 river",
        "lake": "lake",
    }
    names = readable_names(["storage_tank", "storageTank", "storagetank"])
    assert len(set(names.values())) == 3


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("aB1_- /.é森\n", min_size=1, max_size=9), min_size=1, max_size=5, unique=True)
)
def test_any_names_give_a_text_each(names: list[str]) -> None:
    readable = readable_names(names)
    assert list(readable) == names
    assert all(readable.values())


@given(st.text(alphabet="aeglnorst", max_size=40))
@settings(max_examples=100, deadline=None)
def test_cutting_loses_no_letter(word: str) -> None:
    assert "".join(segment(word)) == word
