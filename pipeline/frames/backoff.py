"""How long to wait before what failed is tried again; pure state."""

import random


class Backoff:
    """How long to wait before the next attempt: doubled each time up to a limit, jittered over its upper half.

    The jitter keeps many streams of one lost server from coming back in step.
    """

    def __init__(self, min_s: float, max_s: float, rng: random.Random) -> None:
        self._min_s = min_s
        self._max_s = max(min_s, max_s)
        self._rng = rng
        self._limit_s = min_s

    def next(self) -> float:
        """Seconds to wait now."""
        limit_s = self._limit_s
        self._limit_s = min(2 * limit_s, self._max_s)
        return self._rng.uniform(limit_s / 2, limit_s)

    def reset(self) -> None:
        """An attempt succeeded: begin again with the shortest wait."""
        self._limit_s = self._min_s
