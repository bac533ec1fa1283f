import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import DataError
from engines.tasks.identity.strangers import Strangers, strangers_of


def made(people: int, pictures: int, noise: float = 0.5) -> tuple[np.ndarray, list[float], np.ndarray]:
    generator = np.random.default_rng(5)
    centres = generator.normal(size=(people, 1, 16))
    faces = (centres + noise * generator.normal(size=(people, pictures, 16))).reshape(-1, 16)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    return faces.astype(np.float32), [0.5] * len(faces), np.repeat(np.arange(people), pictures)


def test_every_track_is_compared_with_everybody_else_alone() -> None:
    faces, qualities, who = made(6, 4, noise=0.0)
    found = strangers_of(faces, qualities, who, draws=3)
    assert found.similarities.shape == (18, 5)
    assert found.similarities.max() < 0.999  # nobody with themselves


def test_one_picture_each_is_compared_once() -> None:
    assert strangers_of(*made(6, 1)).similarities.shape == (6, 5)


def test_more_enrolled_views_make_strangers_more_similar() -> None:
    one, many = (strangers_of(*made(30, 8), enrolled_views=views).similarities.mean() for views in (1, 5))
    assert many > one + 0.05


def test_the_rate_of_one_person_is_the_share_of_comparisons() -> None:
    found = Strangers(np.array([[0.9, 0.1, 0.2], [0.8, 0.7, 0.1]]), 4)
    assert found.rate(0.65, 1) == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_who_resembles_everybody_is_one_track_however_many_are_enrolled() -> None:
    found = Strangers(np.array([[0.9] * 9, *[[0.1] * 9] * 9]), 10)
    assert found.rate(0.5, 1) == found.rate(0.5, 1000) == pytest.approx(0.1)


@given(st.floats(0.02, 0.5), st.integers(1, 30))
def test_no_lower_threshold_keeps_the_rate(far: float, people: int) -> None:
    found = strangers_of(*made(25, 3), draws=2)
    threshold = found.threshold(far, people)
    assert found.rate(threshold, people) <= far
    lower = found.similarities[found.similarities < threshold]
    assert found.rate(lower.max(), people) > far


def test_larger_galleries_need_higher_thresholds() -> None:
    found = strangers_of(*made(40, 3))
    thresholds = [found.threshold(0.1, people) for people in (1, 10, 100)]
    assert thresholds == sorted(set(thresholds))


def test_few_people_cannot_show_a_low_rate() -> None:
    found = strangers_of(*made(10, 3))
    assert found.finest(1) == pytest.approx(1 / 90)
    assert found.rate(np.partition(found.similarities.ravel(), -1)[-1], 1) < found.finest(1)  # one of several draws


def test_one_person_alone_gives_no_comparison() -> None:
    with pytest.raises(DataError, match="at least two people"):
        strangers_of(*made(1, 3))
