"""Which frames of a stream are inferred: those that its inference rate chooses, and none while nothing moves."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from pipeline.frames.luma import luma_points
from pipeline.frames.types import Frame
from pipeline.settings.schema import InferenceRate, InferenceSettings, StreamSettings
from pipeline.sources.unchanged import MotionGate

EARLY: Final = 0.5  # of the gap between two frames: the one nearest to the moment that is due is chosen


class RateGate:
    """Chooses the frames of one stream that are nearest to evenly spaced moments; pure state, any clock in seconds.

    The moments are those at which ``clock * fps`` is a whole number and ``phase``: streams of one rate and different
    phases take turns, in place of coming all at once.

    Args:
        fps: moments a second.
        phase: of the moments, in [0, 1).
    """

    def __init__(self, fps: float, phase: float = 0.0) -> None:
        self._fps, self._phase = fps, phase
        self._last_s: float | None = None  # the last frame
        self._done = 0  # the moment that was served last

    def look(self, at_s: float) -> bool:
        """Whether the frame at ``at_s`` is one of those; the first is, and one after a step back."""
        gap_s = at_s - self._last_s if self._last_s is not None else -1.0
        self._last_s = at_s
        # A frame that stands for a moment yet to come must be the nearest to it: the next is a gap away.
        moment = at_s * self._fps - self._phase + EARLY * min(max(gap_s * self._fps, 0.0), 1.0)
        if gap_s > 0.0 and moment // 1 <= self._done:
            return False
        self._done = int(moment // 1)
        return True


def phase_of(stream: str) -> float:
    """Return the phase of a stream, in [0, 1): by its name, so that it is the same in every process and run."""
    return zlib.crc32(stream.encode()) / 2**32


@dataclass(frozen=True, slots=True)
class Rates:
    """How many frames of a stream are inferred, and with how many crops of each: as the configuration has it."""

    fps: InferenceRate
    min_rate_hz: float
    crops: int = 0


def rates_of(stream: StreamSettings, settings: InferenceSettings) -> Rates:
    """Return how many frames of a stream are inferred, and with how many crops: as it has it itself, or the run."""
    fps = settings.fps if stream.inference_fps is None else stream.inference_fps
    return Rates(fps, settings.min_rate_hz, crops_of(stream, settings))


def crops_of(stream: StreamSettings, settings: InferenceSettings) -> int:
    """Return how many crops of its pictures the network may see besides them."""
    return settings.crops if stream.inference_crops is None else stream.inference_crops


def mark_skipped(frames: Iterable[Frame], rates: Callable[[], Rates], *, live: bool) -> Iterator[Frame]:
    """Mark the frames of one stream that are not inferred: as ``unchanged`` or as ``between``.

    The first frame with motion after some without, and one with which another scene begins, are inferred in any case;
    so is the first by other rates.

    Args:
        frames: of one stream, with their cuts marked.
        rates: tells, before each frame, ``fps``: "full", all; "auto", those that show something new; a number, of those
            so many frames a second; ``min_rate_hz``: unless all are, inferences a second at the least; and ``crops``,
            which go with the frames.
        live: whether frames are due by the clock that all streams share, in place of the stream's own time.
    """
    now: Rates | None = None
    for frame in frames:
        if (wanted := rates()) != now:
            now, unchanged, motion = wanted, False, MotionGate(wanted.min_rate_hz)
            phase = phase_of(frame.stream) if live else 0.0
            rate = None if isinstance(now.fps, str) else RateGate(now.fps, phase)
        if now.crops:
            frame = replace(frame, crops=now.crops)
        if now.fps == "full":
            yield frame
            continue
        due = rate is None or rate.look(frame.clock_ns / 1e9 if live else frame.time_s)
        due = due or unchanged or frame.seq in (frame.cut_seq, frame.doubtful_seq)
        unchanged = not motion.look(luma_points(frame.picture), frame.time_s)
        if unchanged:
            yield replace(frame, unchanged=True)
        elif due:
            yield frame
        else:
            motion.put_off()
            yield replace(frame, between=True)
