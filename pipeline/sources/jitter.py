"""When pictures that come in bursts are shown; pure state."""

import math
from typing import Final

MIN_DELAY_S: Final = 0.5  # behind the first picture
MAX_DELAY_S: Final = 32.0  # a source that comes later than that is not waited for any longer


class JitterBuffer:
    """Shows pictures at the steps of their own times, a delay after they can have come.

    The delay begins with MIN_DELAY_S, and grows by what a picture is late, so that the next one is not.
    """

    def __init__(self) -> None:
        self._begin_s: float | None = None  # on the clock, of stream time 0
        self._delay_s = MIN_DELAY_S

    def due(self, time_s: float, now_s: float) -> float:
        """When to show a picture, on the clock.

        Args:
            time_s: its stream time.
            now_s: when it came.
        """
        if self._begin_s is None:
            self._begin_s = now_s - time_s + self._delay_s
        late_s = now_s - (self._begin_s + time_s)
        if late_s > 0.0:
            self._begin_s += late_s
            self._delay_s = min(self._delay_s + late_s, MAX_DELAY_S)
        return self._begin_s + time_s

    @property
    def note(self) -> str:
        """How large it is, for people: told anew when it has doubled."""
        return f"buffered by {MIN_DELAY_S * 2 ** math.ceil(math.log2(self._delay_s / MIN_DELAY_S)):g} s"
