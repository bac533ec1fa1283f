from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames.types import Identity
from pipeline.identity.naming import TAKEOVER, NameAssigner, Ranking


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
    assert NameAssigner().assign([1, 2, 3, 4], [weaker, None, ada, bob]) == [None, None, ada, bob]


def test_equal_claims_go_to_the_older_track_whatever_their_order() -> None:
    candidate = Identity("Ada", 0.8)
    assert NameAssigner().assign([7, 3], [candidate, candidate]) == [None, candidate]
    assert NameAssigner().assign([3, 7], [candidate, candidate]) == [candidate, None]


def test_a_name_stays_where_it_is_until_another_face_is_clearly_better() -> None:
    assigner = NameAssigner()
    assigner.assign([1], [Identity("Ada", 0.6)])
    near, better = Identity("Ada", 0.6 + 0.9 * TAKEOVER), Identity("Ada", 0.6 + 1.1 * TAKEOVER)
    assert assigner.assign([1, 2], [Identity("Ada", 0.6), near])[1] is None
    assert assigner.assign([1, 2], [Identity("Ada", 0.6), better]) == [None, better]
    assert assigner.assign([1, 2], [Identity("Ada", 0.65), better])[0] is None  # nor does it come back for a little


def test_who_is_not_in_the_frame_does_not_hold_the_name() -> None:
    assigner, candidate = NameAssigner(), Identity("Ada", 0.6)
    assigner.assign([1], [Identity("Ada", 0.65)])
    assert assigner.assign([2], [candidate]) == [candidate]


def test_an_ended_track_has_no_privilege_left() -> None:
    assigner, candidate = NameAssigner(), Identity("Ada", 0.6)
    assigner.assign([1], [candidate])
    assigner.forget(1)
    better = Identity("Ada", 0.61)
    assert assigner.assign([1, 2], [candidate, better]) == [None, better]


Claims = st.lists(st.none() | st.tuples(st.sampled_from("ABC"), st.floats(-1, 1)), min_size=1, max_size=6)


@given(st.lists(Claims, min_size=1, max_size=5))
def test_every_claimed_name_is_borne_once(frames: list[list[tuple[str, float] | None]]) -> None:
    assigner = NameAssigner()
    for frame in frames:
        candidates = [None if candidate is None else Identity(*candidate) for candidate in frame]
        held = assigner.assign(list(range(len(candidates))), candidates)
        assert Counter(each.name for each in held if each) == Counter(
            {candidate.name for candidate in candidates if candidate}
        )
        assert all(each is None or each is candidate for each, candidate in zip(held, candidates, strict=True))


def test_ten_thousand_random_frames_never_show_a_name_twice() -> None:
    generator, assigner = np.random.default_rng(7), NameAssigner()
    for _ in range(10_000):
        ids = generator.choice(20, size=int(generator.integers(1, 9)), replace=False).tolist()
        candidates = [
            None if generator.random() < 0.3 else Identity("ABCD"[generator.integers(4)], float(generator.random()))
            for _ in ids
        ]
        held = [each.name for each in assigner.assign(ids, candidates) if each]
        assert len(held) == len(set(held))
        if generator.random() < 0.1:
            assigner.forget(int(generator.integers(20)))


def test_a_name_does_not_alternate_between_two_equally_similar_faces() -> None:
    generator, assigner, winners = np.random.default_rng(3), NameAssigner(), set()
    for _ in range(10_000):
        scores = 0.7 + generator.uniform(-0.049, 0.049, 2)
        held = assigner.assign([4, 9], [Identity("Ada", float(score)) for score in scores])
        winners.add(next(row for row, each in enumerate(held) if each))
    assert len(winners) == 1
