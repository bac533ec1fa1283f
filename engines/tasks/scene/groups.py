"""Kinds of place that mean something to a camera's owner, made of the places that a network was taught."""

from collections.abc import Collection
from typing import Final

from engines.spec import NONE_OF_THESE, SceneGroup

INDOORS: Final[dict[str, tuple[str, ...]]] = {
    "bathroom": ("bathroom", "shower"),
    "bedroom": ("bedroom", "hospital_room"),
    "classroom": ("classroom", "kindergarden_classroom"),
    "corridor": ("corridor",),
    "factory": ("assembly_line",),
    "hall": ("auditorium", "ballroom", "stage_indoor"),
    "kitchen": ("kitchen",),
    "living room": ("dining_room", "living_room"),
    "lobby": ("airport_terminal", "lobby"),
    "museum": ("aquarium", "art_gallery", "museum_indoor"),
    "office": ("conference_room", "office"),
    "restaurant": ("banquet_hall", "bar", "coffee_shop", "food_court", "restaurant"),
    "shop": (
        "bakery_shop", "beauty_salon", "bookstore", "butchers_shop", "candy_store", "clothing_store", "laundromat",
    ),
    "sports hall": ("bowling_alley", "boxing_ring", "locker_room", "martial_arts_gym"),
    "staircase": ("staircase",),
    "supermarket": ("supermarket",),
    "vehicle": ("bus_interior", "cockpit"),
}  # fmt: skip
OUTDOORS: Final[dict[str, tuple[str, ...]]] = {
    "bridge": ("aqueduct", "bridge", "dam"),
    "building": (
        "abbey", "amphitheater", "chalet", "church_outdoor", "monastery_outdoor", "palace", "skyscraper",
        "temple_east_asia",
    ),
    "construction site": ("construction_site", "trench"),
    "countryside": (
        "badlands", "canyon", "corn_field", "desert_sand", "iceberg", "mountain", "rock_arch", "valley", "volcano",
    ),
    "driveway": ("driveway",),
    "gas station": ("gas_station",),
    "highway": ("highway",),
    "park": ("cemetery", "campsite", "fountain"),
    "parking lot": ("parking_lot",),
    "platform": ("railroad_track", "subway_station_platform"),
    "playground": ("amusement_park", "playground"),
    "runway": ("runway",),
    "sports ground": (
        "baseball_field", "golf_course", "ice_skating_rink_outdoor", "racecourse", "ski_slope", "stadium_football",
        "track_outdoor",
    ),
    "street": ("fire_station", "market_outdoor", "phone_booth", "slum"),
    "swimming pool": ("hot_spring", "swimming_pool_outdoor"),
    "waterside": ("boat_deck", "coast", "harbor", "lighthouse", "river"),
    "woods": ("bamboo_forest", "rainforest", "swamp"),
    "yard": ("botanical_garden", "courtyard", "shed", "yard"),
}  # fmt: skip


def groups_of(scenes: Collection[str]) -> tuple[SceneGroup, ...]:
    """The groups of a network's scenes; none where it was not taught these places.

    What is no place, such as the classes of other sets, is in none of them: a network that learned each set by itself
    says nothing of one set's scenes against the other's. :data:`NONE_OF_THESE` is the last group where it is a scene.
    """
    inside = [SceneGroup(name, "indoors", _known(places, scenes)) for name, places in INDOORS.items()]
    outside = [SceneGroup(name, "outdoors", _known(places, scenes)) for name, places in OUTDOORS.items()]
    found = (*inside, *outside)
    if not all(group.scenes for group in found):
        return ()
    none = (SceneGroup(NONE_OF_THESE, None, (NONE_OF_THESE,)),) if NONE_OF_THESE in scenes else ()
    return (*found, *none)


def _known(places: tuple[str, ...], scenes: Collection[str]) -> tuple[str, ...]:
    return tuple(place for place in places if place in scenes)
