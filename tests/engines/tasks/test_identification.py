from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.data.pairs import identity_of, set_of
from engines.tasks.identity.identification import (
    GallerySplit,
    deal_gallery,
    identification_rate,
    score_identification,
    search,
)

PEOPLE = [f"p{number:02}" for number in range(20)]
PICTURES = [Path(name, f"{number}.png") for name in PEOPLE for number in range(4)]


def unit(*angles: float) -> dict[Path, np.ndarray]:
    """Embeddings at these angles, in degrees, of pictures called by their number."""
    return {
        Path(f"{number}.png"): np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))], np.float32)
        for number, angle in enumerate(angles)
    }


def apart(noise: float) -> dict[Path, np.ndarray]:
    """Embeddings of everybody along an axis of their own, and some noise."""
    generator = np.random.default_rng(0)
    rows = np.repeat(np.eye(20), 4, axis=0) + generator.normal(size=(80, 20)) * noise
    return dict(zip(PICTURES, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), strict=True))


@given(st.integers(0, 100), st.integers(1, 5))
def test_a_probe_is_never_enrolled_and_a_stranger_is_nobody_in_the_gallery(seed: int, pictures_each: int) -> None:
    alone = [Path("_singletons", f"s{number}__0001.png") for number in range(5)]
    gallery = deal_gallery([*PICTURES, *alone], pictures_each, seed)
    assert gallery == deal_gallery([*alone, *reversed(PICTURES)], pictures_each, seed), "whatever the order"
    assert gallery is not None
    assert sorted([*gallery.enrolled, *gallery.mated, *gallery.strangers]) == sorted([*PICTURES, *alone])
    enrolled = {identity_of(path) for path in gallery.enrolled}
    assert len(enrolled) == 10
    assert {identity_of(path) for path in gallery.mated} == enrolled, "one picture of everybody is left to search for"
    assert enrolled.isdisjoint(identity_of(path) for path in gallery.strangers)
    assert set(alone) <= set(gallery.strangers)
    assert len(gallery.enrolled) == 10 * min(pictures_each, 3)


@pytest.mark.parametrize(
    ("case", "pictures"),
    [
        ("one picture each", [Path(name, "0.png") for name in PEOPLE]),
        ("one person", PICTURES[:4]),
        ("nobody", []),
    ],
)
def test_too_few_people_make_no_gallery(case: str, pictures: list[Path]) -> None:
    assert deal_gallery(pictures, 1, 0) is None
    assert score_identification(dict.fromkeys(pictures, np.ones(1, np.float32)), 1) is None


def test_a_person_is_as_similar_as_the_most_similar_of_the_enrolled_pictures() -> None:
    ada, near, bob, probe, stranger = Path("ada/0"), Path("ada/1"), Path("bob/0"), Path("ada/2"), Path("eve/0")
    embeddings = dict(zip([ada, near, bob, probe, stranger], unit(90, 10, 40, 0, 180).values(), strict=True))
    found = search(GallerySplit([ada, near, bob], [probe], [stranger]), embeddings)
    assert found.right.tolist() == [True]
    assert found.mated[0] == pytest.approx(np.cos(np.radians(10)))
    assert found.strangers[0] == pytest.approx(np.cos(np.radians(90)), abs=1e-6)


def test_the_rate_counts_right_people_above_the_strangers_that_may_pass() -> None:
    scores = score_identification(apart(0.01), 1)
    assert scores is not None
    assert (scores.dir_at_far_1, scores.rank1, scores.enrolled, scores.mated, scores.strangers) == (
        1.0,
        1.0,
        10,
        30,
        40,
    )
    assert scores.dir_at_far_2 is None, "of 40 strangers a hundredth is nobody"
    assert scores.intervals["dir_at_far_1e-2"] is None


def test_somebody_who_looks_like_another_is_not_identified() -> None:
    ada, bob = Path("ada/0"), Path("bob/0")
    probes = [Path("ada/1"), Path("ada/2")]
    strangers = [Path("eve", str(number)) for number in range(10)]
    embeddings = dict(zip([ada, bob, *probes, *strangers], unit(0, 90, 80, 5, *[30] * 10).values(), strict=True))
    found = search(GallerySplit([ada, bob], probes, strangers), embeddings)
    assert found.right.tolist() == [False, True]
    assert identification_rate(found, 1e-1) == pytest.approx(0.5)
    assert identification_rate(found, 1e-2) is None


def test_more_pictures_of_everybody_identify_better_and_the_interval_holds_the_mean() -> None:
    embeddings = apart(0.35)
    one, three = score_identification(embeddings, 1), score_identification(embeddings, 3)
    assert one is not None and three is not None
    assert one.rank1 < three.rank1
    assert one.dir_at_far_1 is not None and 0.0 < one.dir_at_far_1 < 1.0
    interval = one.intervals["dir_at_far_1e-1"]
    assert interval is not None and interval.low < one.dir_at_far_1 < interval.high
    assert one.dir_at_far_1_std is not None and one.dir_at_far_1_std > 0.0


def test_the_set_of_a_crop_is_told_by_its_name() -> None:
    crops = ["Ada/lfw_0001.webp", "Ada/ytf_07.webp", "bolly_Bob/Bob.3.webp", "_singletons/Eve__0001.webp"]
    assert [set_of(Path(crop)) for crop in crops] == ["lfw", "ytf", "bolly", "lfw"]
