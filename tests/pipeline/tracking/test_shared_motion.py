import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tracking.association import Blocks
from pipeline.tracking.shared_motion import ENOUGH, shared_motions


def boxes(count: int, seed: int = 1) -> np.ndarray:
    corners = np.random.default_rng(seed).uniform(0, 1000, (2, count))
    return np.concatenate([corners, corners + np.array([40.0, 100.0])[:, None]])


def shared_motion(ahead: np.ndarray, after: np.ndarray) -> np.ndarray | None:
    """Of one stream."""
    return shared_motions(ahead, after, Blocks.of(np.zeros(ahead.shape[1], np.int64), 1)).get(0)


def moved_by(shift: tuple[float, float], noise: float, count: int = 8) -> np.ndarray | None:
    ahead = boxes(count)
    jitter = np.random.default_rng(2).normal(0, noise, (2, count)) + np.array(shift)[:, None]
    return shared_motion(ahead, ahead + np.tile(jitter, (2, 1)))


@given(st.floats(-200, 200), st.floats(-200, 200))
def test_a_shift_that_all_share_is_told(x: float, y: float) -> None:
    motion = moved_by((x, y), noise=0.0)
    found = np.zeros(2) if motion is None else motion[:, 2]
    np.testing.assert_allclose(found, [x, y], atol=1.0)


def test_a_shift_is_told_along_each_axis_alone() -> None:
    motion = moved_by((30.0, 0.0), noise=2.0)
    assert motion is not None
    np.testing.assert_array_equal(motion[:, :2], np.eye(2))
    assert motion[0, 2] == pytest.approx(30.0, abs=2.0)
    assert motion[1, 2] == 0.0


def test_jitter_is_no_motion_of_the_camera() -> None:
    assert moved_by((0.0, 0.0), noise=5.0) is None


def test_one_that_goes_its_own_way_changes_nothing() -> None:
    ahead = boxes(ENOUGH)
    after = ahead + np.array([20.0, -10.0, 20.0, -10.0])[:, None]
    after[:, 0] += 300.0
    motion = shared_motion(ahead, after)
    assert motion is not None
    np.testing.assert_allclose(motion[:, 2], [20.0, -10.0])


def test_a_crowd_that_walks_both_ways_stands_on_still_ground() -> None:
    ahead = boxes(8)
    after = ahead + np.tile(np.array([12.0, -12.0] * 4), (4, 1)) * np.array([1.0, 0.0, 1.0, 0.0])[:, None]
    assert shared_motion(ahead, after) is None


def test_each_stream_is_told_of_its_own_camera() -> None:
    ahead = np.concatenate([boxes(count) for count in (ENOUGH, ENOUGH - 1, 9, ENOUGH)], axis=1)
    streams = np.repeat([0, 1, 2, 3], [ENOUGH, ENOUGH - 1, 9, ENOUGH])
    after = ahead + np.array([[0.0, 50.0, -30.0, 20.0], [0.0, 0.0, 10.0, 0.0]] * 2)[:, streams]
    motions = shared_motions(ahead, after, Blocks.of(streams, 4))
    assert {stream: motion[:, 2].tolist() for stream, motion in motions.items()} == {2: [-30.0, 10.0], 3: [20.0, 0.0]}
