"""Words that folder names of land-use and land-cover classes are glued together from."""

from __future__ import annotations

PUBLISHED: dict[str, str] = {
    # AID
    "center": "city center",
    "square": "city square",
    "parking": "parking lot",
    # AID, EuroSAT, UC Merced: an adjective alone names no thing
    "agricultural": "agricultural area",
    "commercial": "commercial area",
    "industrial": "industrial area",
    "residential": "residential area",
    # EuroSAT, RSSCN7
    "sealake": "sea or lake",
    "riverlake": "river or lake",
    "industry": "industrial area",
    "resident": "residential area",
}
"""Readable names of published classes that no rule would find, by their letters alone."""

WORDS = frozenset(
    """
    abandoned agricultural agriculture air aircraft airfield airplane airport airstrip allotment
    amusement annual apartment aquaculture area arena arid artificial asphalt athletic
    badland bamboo bare barren baseball base basin basketball bay bayou beach bed blank block boat
    bog brick bridge broad broadleaf brush brushland building built bunker burned burnt bus bush
    cabin camp campground campsite campus canal canyon car cargo cement cemetery center central
    centre chaparral chimney christmas church circle circular city clear cliff closed cloud club
    clutter coal coast coastal coastline commercial complex concrete coniferous construction
    container continuous coral corn cotton country course court cove crater creek crop cropland
    cross crossing crosswalk cul cultivated cutting
    dam dark deciduous deforested delta dense depot desert detached development diamond dike dirt
    discontinuous disposal district ditch dock driving drought dry dump dune dunes
    eroded estate estuary evergreen exposed
    factory fair fairground fallow family farm farmland farmyard fence ferry field filter fire
    firebreak fish fishpond flood flooded floodplain flyover football forest forestland forested
    fort fountain freeway freight fresh
    gap garage garden gas geyser glacier golf government grain grape grass grassland gravel grave
    graveyard grazing green greenhouse ground groundwater grove gully gymnasium
    hall hangar harbor harbour hard hay headland heath heathland hedge heliport helipad herb
    herbaceous high highland highway hill hillside historic hockey home hospital hotel house
    housing hydroelectric
    ice iceberg individual industrial industry infrastructure inland interchange intersection
    intensive irrigated irrigation island
    jetty junction jungle junkyard
    lagoon lake lakeshore land landfill landing landslide lane large lava lawn light lighthouse
    line livestock local lot low lowland lumber
    mangrove manor mansion manufacturing marina market marsh marshland meadow medical medium mid
    military mill mine mining mixed mobile monastery moor moorland mosque motorway mountain mud
    mudflat multi multilane museum
    native natural nature needleleaf net new nonresidential nuclear nursery
    oasis ocean office oil old olive open orchard ore outcrop overpass
    paddy palace palm panel park parking parkland parkway pasture path patch pavement peat peatland
    peninsula perennial permanent petroleum pier pine pipeline pit pitch place plain plane plant
    plantation plateau playground plaza plot pole police pond pool port post power prairie prison
    private processing pylon pyramid
    quarry quay
    race racetrack railroad rail railway rainforest ramp ranch rangeland range rapids ravine
    recreation recreational rectangular red reed reef refinery region regular religious reservoir
    residence residential resort rest retail rice ridge ring river riverbank riverbed rivers road
    roadside rock rocky roof roundabout route row rubber ruin runway rural
    salt sand sandbank sandbar savanna savannah school scrub scrubland sea seaport seashore
    seasonal settlement sewage shed ship shipping shipyard shoal shop shopping shore shoreline
    shrub shrubland siding silo single site slope slum small snow snowberg soccer soil solar sparse
    sport sports square stable stadium station steppe stone storage store stream street strip
    structure suburb suburban sugar sugarcane supermarket surface swamp swimming
    tank tea temple tennis terminal terrace terraced theater theatre thermal tidal toll tower town
    track tract traffic trail trailer train training transformer transmission transport treatment
    tree trench tropical truck tundra tunnel turbine
    underpass university unused upland urban utility
    valley vegetable vegetation vehicle viaduct village villa vine vineyard volcano
    wall warehouse waste wasteland wastewater water waterbody watercourse waterfall waterfront
    waterway wave weir wet wetland wheat wharf wild wind windmill wood wooded woodland woods works
    yard young zone zoo
    """.split()  # noqa: SIM905
)
"""English words, singular; plurals with s and es are understood."""
