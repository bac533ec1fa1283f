"""Sources that come when they come: opened again, with a growing pause, for as long as the run lasts."""

import random
import threading
import time
from contextlib import closing

from engines.errors import SourceError
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Lost, Missed, Pictures, Source, Timed, check_room
from pipeline.sources.condition import Condition
from pipeline.sources.jitter import JitterBuffer
from pipeline.sources.timeline import Timeline


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


def read_live(
    source: Source, settings: StreamSettings, stop: threading.Event, condition: Condition, room_bytes: int | None
) -> Pictures:
    """Pictures until ``stop`` is set; what is lost meanwhile is told to ``condition``."""
    backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s, random.Random())
    timeline = Timeline.of_clock()
    while not stop.is_set():
        cause = "the source ended"
        media, buffer = Timeline(), JitterBuffer()  # of sources that come in bursts
        try:
            with closing(source.read(stop)) as pictures:
                for decoded in pictures:
                    if isinstance(decoded, Lost):
                        condition.lost(decoded.cause)
                        continue
                    if isinstance(decoded, Missed):
                        yield decoded
                        continue
                    check_room(decoded.picture, room_bytes)
                    backoff.reset()
                    now_s, buffered, origin = time.monotonic(), None, decoded.origin
                    if decoded.bursts:
                        now_s = buffer.due(media.at(decoded.source_s), now_s, decoded.came_s)
                        buffered = buffer.note
                        if stop.wait(max(0.0, now_s - time.monotonic())):
                            return
                    condition.picture(decoded.size, decoded.codec, decoded.notes, buffered)
                    time_s = timeline.at(now_s if origin is None else origin.time_s)
                    yield Timed(decoded.picture, time_s, origin=origin, given=decoded)
        except SourceError as error:
            cause = str(error)
        if not stop.is_set():
            condition.lost(cause)
            stop.wait(backoff.next())
