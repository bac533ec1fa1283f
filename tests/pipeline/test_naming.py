from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.naming import TAKEOVER, Bearers, Ranking
from pipeline.types import Identity


@pytest.mark.parametrize(
    ("first", "second", "current", "expected"),
    [
        pytest.param(("Ada", 0.49), 0.1, None, None, id="nobody is similar enough"),
        pytest.param(("Ada", 0.50), 0.1, None, "Ada", id="just similar enough"),
        pytest.param(("Ada", 0.70), 0.66, None, None, id="the second is too near"),
        pytest.param(("Ada", 0.70), 0.64, None, "Ada", id="ahead of the second"),
        pytest.param(("Ada", 0.41), 0.1, ("Ada", 0.41), "Ada", id="a name is kept a little below the threshold"),
        pytest.param(("Ada", 0.39), 0.1, ("Ada", 0.39), None, id="and taken back further below"),
        pytest.param(("Bob", 0.62), 0.60, ("Ada", 0.60), "Ada", id="another one who is hardly ahead changes nothing"),
        pytest.param(("Bob", 0.62), 0.55, ("Ada", 0.55), "Bob", id="another one who is clearly ahead takes over"),
        pytest.param(("Bob", 0.45), 0.30, ("Ada", 0.30), None, id="one who is ahead of it, and not similar enough"),
        pytest.param(("Ada", 0.60), -1.0, None, "Ada", id="one person alone needs no lead"),
    ],
)
def test_choosing_a_name(
    first: tuple[str, float], second: float, current: tuple[str, float] | None, expected: str | None
) -> None:
    chosen = Ranking(Identity(*first), second).choose(0.5, Identity(*current) if current else None)
    assert (chosen and chosen.name) == expected
    if chosen:
        assert chosen.score == dict([first, *([current] if current else [])])[chosen.name]


def test_a_name_goes_to_the_better_of_two() -> None:
    ada, weaker, bob = Identity("Ada", 0.8), Identity("Ada", 0.7), Identity("Bob", 0.6)
    assert Bearers().award([1, 2, 3, 4], [weaker, None, ada, bob]) == [None, None, ada, bob]


def test_equal_claims_go_to_the_older_track_whatever_their_order() -> None:
    claim = Identity("Ada", 0.8)
    assert Bearers().award([7, 3], [claim, claim]) == [None, claim]
    assert Bearers().award([3, 7], [claim, claim]) == [claim, None]


def test_a_name_stays_where_it_is_until_another_face_is_clearly_better() -> None:
    bearers = Bearers()
    bearers.award([1], [Identity("Ada", 0.6)])
    near, better = Identity("Ada", 0.6 + 0.9 * TAKEOVER), Identity("Ada", 0.6 + 1.1 * TAKEOVER)
    assert bearers.award([1, 2], [Identity("Ada", 0.6), near])[1] is None
    assert bearers.award([1, 2], [Identity("Ada", 0.6), better]) == [None, better]
    assert bearers.award([1, 2], [Identity("Ada", 0.65), better])[0] is None  # nor does it come back for a little


def test_who_is_not_in_the_frame_does_not_hold_the_name() -> None:
    bearers, claim = Bearers(), Identity("Ada", 0.6)
    bearers.award([1], [Identity("Ada", 0.65)])
    assert bearers.award([2], [claim]) == [claim]


def test_an_ended_track_has_no_privilege_left() -> None:
    bearers, claim = Bearers(), Identity("Ada", 0.6)
    bearers.award([1], [claim])
    bearers.forget(1)
    better = Identity("Ada", 0.61)
    assert bearers.award([1, 2], [claim, better]) == [None, better]


Claims = st.lists(st.none() | st.tuples(st.sampled_from("ABC"), st.floats(-1, 1)), min_size=1, max_size=6)


@given(st.lists(Claims, min_size=1, max_size=5))
def test_every_claimed_name_is_borne_once(frames: list[list[tuple[str, float] | None]]) -> None:
    bearers = Bearers()
    for frame in frames:
        claims = [None if claim is None else Identity(*claim) for claim in frame]
        held = bearers.award(list(range(len(claims))), claims)
        assert Counter(each.name for each in held if each) == Counter({claim.name for claim in claims if claim})
        assert all(each is None or each is claim for each, claim in zip(held, claims, strict=True))


def test_ten_thousand_random_frames_never_show_a_name_twice() -> None:
    generator, bearers = np.random.default_rng(7), Bearers()
    for _ in range(10_000):
        ids = generator.choice(20, size=int(generator.integers(1, 9)), replace=False).tolist()
        claims = [
            None if generator.random() < 0.3 else Identity("ABCD"[generator.integers(4)], float(generator.random()))
            for _ in ids
        ]
        held = [each.name for each in bearers.award(ids, claims) if each]
        assert len(held) == len(set(held))
        if generator.random() < 0.1:
            bearers.forget(int(generator.integers(20)))


def test_a_name_does_not_alternate_between_two_equally_similar_faces() -> None:
    generator, bearers, winners = np.random.default_rng(3), Bearers(), set()
    for _ in range(10_000):
        scores = 0.7 + generator.uniform(-0.049, 0.049, 2)
        held = bearers.award([4, 9], [Identity("Ada", float(score)) for score in scores])
        winners.add(next(row for row, each in enumerate(held) if each))
    assert len(winners) == 1
