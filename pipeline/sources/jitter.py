"""When pictures that come in bursts are shown; pure state."""

import math
from typing import Final

MIN_DELAY_S: Final = 0.5  # behind the first picture
MAX_DELAY_S: Final = 32.0  # a source that comes later than that is not waited for any longer
STEADY_S: Final = 300.0  # of pictures that all came in time, until the delay shrinks
SHRINKS: Final = 0.02  # of each step by then: faster than the source by so little that nobody sees it


class JitterBuffer:
    """Shows pictures at the steps of their own times, a delay after they can have come.

    The delay begins with MIN_DELAY_S, and grows by what a picture is late, so that the next one is not. Once all have
    come earlier than was needed for STEADY_S, what was too much of it is given back, little by little.
    """

    def __init__(self) -> None:
        self._begin_s: float | None = None  # on the clock, of stream time 0
        self._delay_s = MIN_DELAY_S
        self._last_s = self._since_s = 0.0  # stream time of the last picture, and since when the least is looked for
        self._spare_s = math.inf  # by which the latest picture since then came early
        self._too_much_s = 0.0

    def due(self, time_s: float, now_s: float, came_s: float | None = None) -> float:
        """When to show a picture, on the clock.

        Args:
            time_s: its stream time.
            now_s: when it could be shown at the earliest.
            came_s: when it came, which may be long before; None: that is not known.
        """
        if self._begin_s is None:
            self._begin_s = now_s - time_s + self._delay_s
        self._shrink(time_s - self._last_s)
        self._last_s = time_s
        late_s = now_s - (self._begin_s + time_s)
        if late_s > 0.0:
            self._begin_s += late_s
            self._delay_s = min(self._delay_s + late_s, MAX_DELAY_S)
            self._look_from(time_s + self._delay_s)  # what came together with this picture was as late
        if time_s >= self._since_s:
            self._spare_s = min(self._spare_s, self._begin_s + time_s - (now_s if came_s is None else came_s))
        if time_s - self._since_s >= STEADY_S:
            too_much_s = min(self._spare_s, self._delay_s) - MIN_DELAY_S
            self._look_from(time_s)
            self._too_much_s = max(0.0, too_much_s)
        return self._begin_s + time_s

    def _shrink(self, step_s: float) -> None:
        if self._begin_s is not None and self._too_much_s > 0.0:
            less_s = min(self._too_much_s, SHRINKS * step_s)
            self._begin_s -= less_s
            self._delay_s -= less_s
            self._too_much_s -= less_s

    def _look_from(self, time_s: float) -> None:
        self._since_s, self._spare_s, self._too_much_s = time_s, math.inf, 0.0

    @property
    def note(self) -> str:
        """How large it is, for people: another one when it has doubled or is half as large."""
        # Rounded: what is given back in many steps may leave a hair.
        return f"buffered by {MIN_DELAY_S * 2 ** math.ceil(round(math.log2(self._delay_s / MIN_DELAY_S), 6)):g} s"
