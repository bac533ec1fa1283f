"""Who is where: one object moved by hand, and many moved at random against what must always hold."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import ConfigError
from pipeline.events.zones import Timestamp, ZoneCounter, ZoneEvent, check_zones, zone_counter_of
from pipeline.frames.polygons import crossed, crossing_edges, distance, inside, sides
from pipeline.settings.schema import LineSettings, StreamSettings, ZoneSettings

LABELS = ("person", "car")
SIZE = (1000, 500)
SQUARE = ((0.4, 0.2), (0.6, 0.2), (0.6, 0.6), (0.4, 0.6))  # 400 to 600, 100 to 300 pixels
GATE = ((0.3, 0.5), (0.7, 0.5))  # from left to right at 250 pixels: side a is above

Point = tuple[float, float]


def zone(**settings: Any) -> ZoneSettings:
    return ZoneSettings(**{"name": "yard", "points": SQUARE, "margin": 0.02, **settings})  # margin: 10 pixels


def line(**settings: Any) -> LineSettings:
    return LineSettings(**{"name": "gate", "points": GATE, "margin": 0.02, **settings})


class Walk:
    """Objects whose feet are put somewhere, frame by frame, 0.1 s apart."""

    def __init__(self, *places: ZoneSettings | LineSettings) -> None:
        zones = [place for place in places if isinstance(place, ZoneSettings)]
        self.places = ZoneCounter(zones, [place for place in places if isinstance(place, LineSettings)], LABELS)
        self.frame = 0

    def step(self, feet: dict[int, Point], label: int = 0, size: tuple[int, int] = SIZE) -> list[ZoneEvent]:
        boxes = np.array([(x - 10, y - 40, x + 10, y) for x, y in feet.values()], np.float32).reshape(-1, 4)
        now = Timestamp(self.frame * 100_000_000, self.frame / 10)
        self.frame += 1
        labels = np.full(len(feet), label, np.int32)
        return self.places.update(now, size, np.array(list(feet), np.int64), boxes, labels)

    def along(self, *feet: Point, track: int = 1, label: int = 0) -> list[str]:
        """What one object does at each position: ``event`` or ``event direction``."""
        found = []
        for foot in feet:
            found += [
                " ".join(filter(None, (one.event, one.direction))) for one in self.step({track: foot}, label=label)
            ]
        return found


OUT, IN, JUST_OUT, FAR_RIGHT = (300.0, 200.0), (500.0, 200.0), (395.0, 200.0), (900.0, 200.0)


@pytest.mark.parametrize(
    ("feet", "told"),
    [
        pytest.param([OUT, OUT], [], id="never inside"),
        pytest.param([IN], ["enter"], id="begins inside"),
        pytest.param([OUT, IN, IN, OUT], ["enter", "leave"], id="in and out"),
        pytest.param([OUT, IN, JUST_OUT, IN, JUST_OUT], ["enter"], id="trembles at the border"),
        pytest.param([OUT, IN, JUST_OUT, OUT, IN], ["enter", "leave", "enter"], id="goes away beyond the margin"),
        pytest.param([OUT, FAR_RIGHT], ["enter", "leave"], id="went through between two frames"),
        pytest.param([OUT, (605.0, 200.0)], ["enter"], id="went through and is still within the margin"),
        pytest.param([OUT, (300.0, 400.0)], [], id="goes past it between two frames"),
        pytest.param([(400.0, 50.0), (600.0, 50.0)], [], id="in its column, above it"),
    ],
)
def test_one_object_and_a_zone(feet: list[Point], told: list[str]) -> None:
    assert Walk(zone()).along(*feet) == told


@pytest.mark.parametrize(
    ("feet", "told"),
    [
        pytest.param([(500, 200), (500, 300)], ["cross a_to_b"], id="downwards"),
        pytest.param([(500, 300), (500, 200)], ["cross b_to_a"], id="upwards"),
        pytest.param([(500, 200), (500, 245), (500, 255)], ["cross a_to_b"], id="in small steps"),
        pytest.param([(500, 200), (500, 251), (500, 249), (500, 251)], ["cross a_to_b"], id="trembles on the line"),
        pytest.param(
            [(500, 200), (500, 251), (500, 249), (500, 235)], ["cross a_to_b", "cross b_to_a"], id="and goes back"
        ),
        pytest.param([(500, 251), (500, 249), (500, 251)], [], id="begins on the line and trembles"),
        pytest.param([(500, 251), (500, 249), (500, 230)], ["cross b_to_a"], id="begins on the line and goes away"),
        pytest.param([(100, 200), (100, 300)], [], id="beside the line"),
        pytest.param(
            [(100, 200), (100, 300), (500, 300), (500, 200)], ["cross b_to_a"], id="round its end, then back across it"
        ),
        pytest.param([(260, 200), (360, 300)], ["cross a_to_b"], id="aslant, near its end"),
        pytest.param([(500, 250), (500, 300)], ["cross a_to_b"], id="begins exactly on it, which counts as side a"),
    ],
)
def test_one_object_and_a_line(feet: list[Point], told: list[str]) -> None:
    assert Walk(line()).along(*feet) == told


def test_a_line_turned_round_has_its_sides_turned_round() -> None:
    assert Walk(line(points=GATE[::-1])).along((500, 200), (500, 300)) == ["cross b_to_a"]


def test_a_line_goes_on_from_the_counts_of_whoever_counted_before() -> None:
    walk = Walk(line())
    walk.places.count_on({"gate": {"a_to_b": {"car": 3, "person": 1}}, "another": {"a_to_b": {"car": 9}}})
    walk.along((500, 200), (500, 300))
    assert walk.places.counts() == {"gate": {"a_to_b": {"car": 3, "person": 2}, "b_to_a": {}}}


def test_dwelling_is_told_once_a_stay() -> None:
    walk = Walk(zone(dwell_s=0.3))
    assert walk.along(OUT, IN, IN, IN) == ["enter"]
    assert walk.along(IN, IN) == ["dwell"]
    assert walk.along(OUT, IN, IN, IN, IN) == ["leave", "enter", "dwell"]


def test_a_stay_says_how_long_it_was() -> None:
    walk = Walk(zone())
    walk.along(OUT, IN, IN)
    (left,) = walk.step({1: OUT})
    assert (left.since, left.until, left.cause) == (Timestamp(100_000_000, 0.1), Timestamp(300_000_000, 0.3), "left")


def test_what_ends_inside_leaves_when_it_was_seen_last() -> None:
    walk = Walk(zone())
    walk.along(IN, IN)
    walk.step({2: OUT})
    (left,) = walk.places.ended(np.array([1, 2]))
    assert (left.event, left.track, left.cause, left.until.time_s) == ("leave", 1, "gone", 0.1)
    assert walk.places.counts() == {"yard": {"present": {}}}
    assert walk.places.ended(np.array([1, 2])) == []


def test_only_objects_of_its_labels_enter_and_cross() -> None:
    walk = Walk(zone(labels=("car",)), line(labels=("car",)))
    assert walk.along(OUT, IN, (500, 290), OUT, label=0) == []
    assert walk.along(OUT, IN, (500, 290), label=1, track=2) == ["enter", "cross a_to_b"]
    assert walk.places.counts() == {"yard": {"present": {"car": 1}}, "gate": {"a_to_b": {"car": 1}, "b_to_a": {}}}


def test_a_stay_keeps_the_label_that_it_began_with() -> None:
    walk = Walk(zone())
    walk.along(IN, label=1)
    (left,) = walk.step({1: OUT}, label=0)
    assert (left.label, left.counts) == ("car", {"present": {}})


def test_the_centre_may_count_in_place_of_the_foot() -> None:
    assert Walk(zone(anchor="centre")).along((500, 110)) == []
    assert Walk(zone(anchor="centre")).along((500, 315)) == ["enter"]


def test_a_camera_whose_picture_changes_size_is_still_the_same_place() -> None:
    walk = Walk(zone(), line())
    walk.step({1: (500, 200)})
    assert walk.step({1: (1000, 400)}, size=(2000, 1000)) == []
    assert [one.event for one in walk.step({1: (1000, 560)}, size=(2000, 1000))] == ["cross"]


def test_a_hidden_object_is_still_inside() -> None:
    walk = Walk(zone())
    walk.step({1: IN, 2: OUT})
    assert walk.step({2: OUT}) == []
    assert walk.step({1: IN, 2: OUT}) == []


def test_a_concave_zone_is_not_its_hull() -> None:
    hook = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.7, 0.9), (0.7, 0.3), (0.1, 0.3))
    assert Walk(zone(points=hook)).along((300.0, 300.0), (800.0, 300.0)) == ["enter"]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_whatever_moves_enters_and_leaves_in_turn_and_the_counts_are_the_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wide = line(points=((0.0, 0.5), (1.0, 0.5)), name="middle")  # nobody goes round its ends
    walk = Walk(zone(dwell_s=0.5), line(), wide)
    feet = {track: rng.uniform((1, 0), (999, 500)) for track in range(1, 6)}
    began: dict[int, bool] = {}
    inside_now: dict[int, bool] = {}
    present: Counter[str] = Counter()
    net: Counter[int] = Counter()
    for _ in range(60):
        for track in feet:
            feet[track] = np.clip(feet[track] + rng.normal(0, rng.choice((3.0, 60.0)), 2), (1, 0), (999, 500))
        seen = {track: (foot[0], foot[1]) for track, foot in feet.items() if rng.random() < 0.8 or walk.frame == 0}
        label = int(rng.integers(2))
        began = began or {track: foot[1] > 250 for track, foot in seen.items()}
        for one in walk.step(seen, label=label):
            if one.event == "cross" and one.name == "middle":
                net[one.track] += 1 if one.direction == "a_to_b" else -1
            if one.event in ("enter", "leave"):
                assert inside_now.get(one.track, False) == (one.event == "leave")
                inside_now[one.track] = one.event == "enter"
                present[one.label] += 1 if one.event == "enter" else -1
                assert one.counts == {"present": +present}
        for track, (x, y) in seen.items():
            if abs(np.float32(y) - 250) > 10:  # clear of the line: it is where it is told to be
                assert net[track] == int(y > 250) - int(began[track])
            if 401 < x < 599 and 101 < y < 299:
                assert inside_now[track]
            if not (389 < x < 611 and 89 < y < 311):
                assert not inside_now.get(track, False)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=3, max_size=7, unique=True),
    st.tuples(st.integers(0, 17), st.integers(0, 17)),
)
def test_inside_is_what_going_round_the_outline_says(points: list[tuple[int, int]], twice: tuple[int, int]) -> None:
    if crossing_edges(points) is not None:
        return
    x, y = twice[0] / 2 + 0.25, twice[1] / 2 + 0.25 + 0.01  # beside every grid point
    starts = np.array([points], np.float64)
    ends = np.roll(starts, -1, axis=1)
    angles = np.arctan2(starts[0, :, 1] - y, starts[0, :, 0] - x)
    turns = np.angle(np.exp(1j * np.diff(np.append(angles, angles[0])))).sum()
    if distance(np.array([[x, y]]), starts, ends)[0] < 1e-6:
        return
    assert inside(np.array([[x, y]]), sides(starts, ends))[0] == (abs(turns) > 1.0)


@pytest.mark.parametrize(
    ("points", "simple"),
    [
        pytest.param([(0, 0), (1, 0), (0, 1)], True, id="a triangle"),
        pytest.param([(0, 0), (2, 0), (2, 2), (1, 1), (0, 2)], True, id="concave"),
        pytest.param([(0, 0), (1, 1), (1, 0), (0, 1)], False, id="a bow tie"),
        pytest.param([(0, 0), (1, 0), (2, 0)], False, id="all on one line"),
        pytest.param([(0, 0), (1, 0), (2, 0), (1, 2)], True, id="a corner that is none"),
        pytest.param([(0, 0), (0, 0), (1, 0), (0, 1)], False, id="a point twice in a row"),
        pytest.param([(0, 0), (1, 0), (0, 1), (0, 0)], False, id="the first point again at the end"),
        pytest.param([(0, 0), (2, 0), (2, 2), (1, 0), (0, 2)], False, id="a corner that touches another edge"),
        pytest.param([(0, 0), (2, 0), (1, 0), (1, 2)], False, id="goes back along itself"),
    ],
)
def test_which_outlines_are_polygons(points: Sequence[tuple[int, int]], simple: bool) -> None:
    assert (crossing_edges(points) is None) == simple


def test_of_a_way_in_pieces_one_piece_crosses() -> None:
    starts, ends = np.array([[0.0, 0.0]]), np.array([[4.0, 0.0]])
    way = np.array([[2.0, -1.0], [2.0, 0.0], [2.0, 1.0]])
    ups = crossed(way[::-1][:-1], way[::-1][1:], starts, ends)[:, 0]
    downs = crossed(way[:-1], way[1:], starts, ends)[:, 0]
    assert (ups.sum(), downs.sum()) == (1, 1)


def test_a_label_that_the_model_does_not_know_is_refused() -> None:
    stream = StreamSettings(name="door", source="0", zones=(zone(labels=("car", "lorry")),))
    with pytest.raises(ConfigError) as caught:
        check_zones((stream,), LABELS)
    assert str(caught.value) == (
        "streams[0].zones[0].labels[1] is 'lorry', but must be one of the model's labels: person, car"
    )


def test_streams_without_zones_have_no_places() -> None:
    assert zone_counter_of(StreamSettings(name="yard", source="1"), LABELS) is None
    assert zone_counter_of(StreamSettings(name="door", source="0", lines=(line(),)), LABELS) is not None
