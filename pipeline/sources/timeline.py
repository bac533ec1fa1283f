"""Stream time of a source's pictures; pure state."""

from collections import deque
from statistics import median
from typing import Final, Self

DEFAULT_STEP_S: Final = 1 / 25  # where neither the codec, the container nor the pictures before tell one
MAX_STEP_S: Final = 10.0  # a longer step is a break: FFmpeg's dts_delta_threshold
MAX_STEPS: Final = 4  # ... unless it is less than so many normal ones
LEARNED: Final = 9  # steps that the normal one is the median of
HAIR: Final = 1e-3  # normal steps; what is nearer to the last time is no later than it
MAX_LATE: Final = 2  # times in a row that are moved on; more of them are a break
ALIKE: Final = 0.25  # a normal step that was told holds while the measured one is no further off: times are rounded


class Timeline:
    """Times of a source -> stream time: from 0, strictly rising, by the source's own steps where these are sane.

    A step is sane when it goes forward, and no further than MAX_STEP_S. Any other is a break (time stamps that begin
    again, jump, or are nonsense), which takes one normal step. What follows a break is taken both as a return to the
    times before it, which is looked at first, and as their going on from the new ones; so one wrong time stamp costs
    the others nothing. A time that was there already, or is less than a normal step late, is moved on by a part of a
    step, so that the next one finds its place.
    """

    def __init__(self, step_s: float = DEFAULT_STEP_S, max_step_s: float = MAX_STEP_S) -> None:
        self._told_s = step_s
        self._max_step_s = max_step_s
        self._steps: deque[float] = deque(maxlen=LEARNED)
        self._last_s: float | None = None
        self._offset_s: float | None = None  # stream time - time of the source, now ...
        self._home_s: float | None = None  # ... and before the last break
        self._settled = False  # whether a step was taken by the offset that holds now
        self._late = 0  # times in a row that were moved on
        self._between_s: float | None = None  # the step to the first picture after a restart

    @classmethod
    def of_clock(cls) -> Self:
        """Return a timeline for times that a clock gives: no step is too long, and it need only rise."""
        timeline = cls(1e-6, float("inf"))
        timeline._steps = deque(maxlen=0)
        return timeline

    @property
    def step_s(self) -> float:
        """The normal step: what the source tells, or what its last steps were where these differ."""
        if not self._steps:
            return self._told_s
        measured_s = median(self._steps)
        return self._told_s if abs(measured_s - self._told_s) <= ALIKE * self._told_s else measured_s

    def tell_step(self, step_s: float | None) -> None:
        """The source says what its normal step is, or does not (None)."""
        if step_s is not None:
            self._told_s = step_s

    def at(self, source_s: float | None) -> float:
        """Return the stream time of the next picture, whose own time is ``source_s`` (None: it has none)."""
        if self._last_s is None:
            self._last_s = 0.0
            self._offset_s = None if source_s is None else -source_s
        elif source_s is None:
            self._last_s, self._late = self._last_s + self._due_step_s(), 0
        elif not (self._follow(source_s, self._home_s) or self._follow(source_s, self._offset_s)):
            self._break(source_s)
        return self._last_s

    def _follow(self, source_s: float, offset_s: float | None) -> bool:
        """Take a time of the source by this offset, if the step to it is sane or it is only a little late."""
        if offset_s is None or self._last_s is None:
            return False
        step_s, normal_s = source_s + offset_s - self._last_s, self.step_s
        moves_back = offset_s != self._offset_s
        if HAIR * normal_s < step_s <= max(self._max_step_s, MAX_STEPS * normal_s):
            if not (self._late or moves_back):
                self._steps.append(step_s)
            self._last_s, self._late, self._settled = source_s + offset_s, 0, True
        elif (
            -(1.0 - HAIR) * normal_s < step_s <= HAIR * normal_s
            and (self._settled or moves_back)
            and self._late < MAX_LATE
        ):
            self._late += 1
            self._last_s += normal_s / 2**self._late
        else:
            return False
        if moves_back:
            self._offset_s, self._home_s, self._settled = offset_s, None, True
        return True

    def _break(self, source_s: float) -> None:
        assert self._last_s is not None
        self._last_s, self._late = self._last_s + self._due_step_s(), 0
        if self._settled or self._home_s is None:
            self._home_s = self._offset_s
        self._offset_s, self._settled = self._last_s - source_s, False

    def _due_step_s(self) -> float:
        step_s, self._between_s = self.step_s if self._between_s is None else self._between_s, None
        return step_s

    def restart(self) -> None:
        """The source begins again: its next time follows the last picture by one step."""
        self._between_s = self.step_s
        self._steps.clear()  # or one pass would not be as long as another
        self._offset_s = self._home_s = None
        self._settled, self._late = False, 0

    def skip(self, passes: int) -> None:
        """After a restart: as many more passes went by as long as all so far, each followed by one step."""
        if self._last_s is not None:
            self._last_s += passes * (self._last_s + (self.step_s if self._between_s is None else self._between_s))
