"""Words the bundled tokenizers should know beyond those of the pretraining captions.

Class names follow the public lists of UC Merced, AID, NWPU-RESISC45, PatternNet and
BigEarthNet. Only the words are used, never those data sets' images.
"""

from __future__ import annotations

LAND_USE = """
agricultural, agricultural land, airplane, airport, annual crop, apron, arable land, bare land,
bare soil, bareland, baseball diamond, baseball field, basketball court, bay, beach, bridge,
broad-leaved forest, building, buildings, cemetery, center, chaparral, christmas tree farm,
church, circular farmland, circular fields, closed road, cloud, coast, coastal mansion,
commercial, commercial area, coniferous forest, construction site, crossroads, crosswalk,
dense residential, desert, dock, estuary, factory, farm, farmland, ferry terminal, field,
football field, forest, freeway, garden, glacier, golf course, grassland, greenhouse,
ground track field, harbor, harbour, herbaceous vegetation, highway, hill, house, ice,
industrial, industrial area, industrial buildings, inland water, intersection, island, lagoon,
lake, marina, marsh, meadow, medium residential, mine, mixed forest, mobile home park,
moor and heathland, mosque, mountain, nursing home, oil gas field, oil well, orchard, overpass,
palace, park, parking lot, parking space, pasture, peat bog, permanent crop, playground, pond,
pool, port, quarry, railway, railway station, rectangular farmland, reservoir, resort,
residential, residential buildings, rice field, river, road, roundabout, runway, runway marking,
salt marsh, sandy beach, savanna, school, sea, sea ice, sea lake, sewage works, ship,
shipping yard, shopping mall, shrubland, snowberg, solar farm, solar panel, sparse residential,
square, stadium, storage tank, storage tanks, stream, suburb, swimming pool, tennis court,
terrace, thermal power station, town, transformer station, urban fabric, valley, viaduct,
village, vineyard, wastewater treatment plant, water, wetland, wind turbine, woodland
"""

DESCRIPTIVE = """
red, orange, yellow, green, blue, purple, violet, pink, white, black, grey, gray, brown, beige,
tan, cream, olive, teal, turquoise, cyan, golden, silver, dark, light, pale, bright, deep, dull,
muddy, clear, hazy, cloudy, sunny, shadow, shadows, north, south, east, west, northeast,
northwest, southeast, southwest, left, right, top, bottom, upper, lower, centre, center, middle,
corner, edge, horizontal, vertical, diagonal, straight, curved, winding, circular, round,
rectangular, square, irregular, parallel, crossing, branching, spring, summer, autumn, fall,
winter, dry season, wet season, morning, evening, snow, rain, drought, flood, zero, one, two,
three, four, five, six, seven, eight, nine, ten, eleven, twelve, dozens, many, several, few,
some, no, small, large, big, tiny, wide, narrow, long, short, tall, dense, sparse, scattered,
clustered, rows, row, grid, patchwork, texture, smooth, rough, fine, coarse, striped, dotted,
uniform, bare, wooded, grassy, sandy, rocky, paved, flooded, ploughed, harvested, irrigated,
abandoned, planted, tree, trees, bush, bushes, grass, lawn, crop, crops, soil, sand, rock,
rocks, concrete, asphalt, gravel, roof, roofs, red roofs, white roofs, tiled, flat, house,
houses, car, cars, truck, trucks, boat, boats, ship, ships, yacht, plane, planes, airplane,
airplanes, train, trains, pier, wharf, dam, canal, bridge, lane, lanes, street, streets,
driveway, path, track, tracks, court, courts, tank, tanks, bunker, bunkers, fairway, hedge,
fence, wall, shore, shoreline, wave, waves, surf, foam, and, or, with, without, of, in, on, at,
by, near, beside, along, between, behind, under, over, around, across, through, surrounded by,
next to, a, an, the, is, are, there, this, that, it, its, has, have, showing, shows, seen from
above, overhead view, top-down, bird's eye view, satellite image, aerial photo, aerial image,
remote sensing image, photograph, picture, view, scene, sentinel, landsat, resolution, high
resolution, low resolution, blurry, sharp, noisy, low quality, high quality, artefacts,
cartoon, drawing, text, watermark
"""


LAND_USE_NAMES = tuple(phrase.strip() for phrase in LAND_USE.replace("\n", " ").split(","))
"""The class names of :data:`LAND_USE`, one by one."""


def general_phrases() -> list[str]:
    """Return every listed phrase, class names also inside the usual prompt."""
    words = [phrase.strip() for phrase in DESCRIPTIVE.replace("\n", " ").split(",")]
    return [*(f"a satellite image of {name}" for name in LAND_USE_NAMES), *LAND_USE_NAMES, *words]
