import random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames.backoff import Backoff


@given(min_s=st.floats(0.01, 5), factor=st.floats(1, 100), seed=st.integers(0, 999))
def test_backoff_doubles_up_to_its_limit_with_jitter_below(min_s: float, factor: float, seed: int) -> None:
    backoff = Backoff(min_s, min_s * factor, random.Random(seed))
    for attempt in range(12):
        limit_s = min(min_s * 2**attempt, min_s * factor)
        assert limit_s / 2 <= backoff.next() <= limit_s * (1 + 1e-9)


def test_backoff_begins_again_after_a_success() -> None:
    backoff = Backoff(1.0, 60.0, random.Random(0))
    for _ in range(5):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 1.0


def test_backoffs_of_two_streams_differ() -> None:
    waits = [[Backoff(1.0, 60.0, random.Random(seed)).next() for _ in range(3)] for seed in (1, 2)]
    assert waits[0] != waits[1]
