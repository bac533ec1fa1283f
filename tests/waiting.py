"""Waiting in tests for what comes true by itself."""

import time
from collections.abc import Callable

PATIENCE_S = 60.0  # no test waits this long unless it fails
LOOK_S = 0.005  # between two looks, which cost nothing


def until(holds: Callable[[], object], patience_s: float = PATIENCE_S, look_s: float = LOOK_S) -> None:
    """Return once something holds; AssertionError where it does not in time."""
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(look_s)
