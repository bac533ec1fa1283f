"""Sources that come when they come: opened again, with a growing pause, for as long as the run lasts."""

import random
import threading
import time
from contextlib import closing

from engines.errors import SourceError
from pipeline.frames.backoff import Backoff
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Lost, Missed, Pictures, Source, Timed, check_room
from pipeline.sources.condition import Condition
from pipeline.sources.jitter import JitterBuffer
from pipeline.sources.timeline import Timeline


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
