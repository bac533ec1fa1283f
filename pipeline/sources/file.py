"""Sources that end: read once, or again and again, as fast as they go or at their own pace."""

import random
import threading
import time
from contextlib import closing
from typing import Final

from engines.errors import SourceError
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Decoded, Pictures, Source, Timed, check_room
from pipeline.sources.timeline import Condition, Timeline

OUT_OF_STEP_S: Final = 1.0  # within which files paced as cameras begin: cameras keep no step with each other


def read_file(
    source: Source,
    settings: StreamSettings,
    stop: threading.Event,
    condition: Condition,
    room_bytes: int | None,
    before: int,
) -> Pictures:
    """What a file gives after the ``before`` frames of an earlier capture, which are decoded again and passed over."""
    timeline = Timeline()
    began_s: float | None = None
    total = 0
    while True:
        earlier = total
        try:
            with closing(source.read(stop)) as pictures:
                for decoded in pictures:
                    assert isinstance(decoded, Decoded), "what is not live is not lost for a while"
                    time_s = timeline.at(decoded.source_s)
                    total += 1
                    if total <= before:
                        continue
                    check_room(decoded.picture, room_bytes)
                    began_s = _beginning_s(settings) - time_s if began_s is None else began_s
                    due_s = began_s + time_s
                    if settings.pace != "fast" and stop.wait(max(0.0, due_s - time.monotonic())):
                        return
                    condition.picture(decoded.size, decoded.codec)
                    # A camera would have given it when it was due: what the decoder is late by is latency.
                    yield Timed(decoded.picture, time_s, due_s if settings.pace == "camera" else None)
        except SourceError as error:
            return condition.ended(str(error))
        if stop.is_set():
            return
        if total == earlier or not settings.loop:
            return condition.ended(f"end of the file after {total} frames")
        timeline.restart()
        if not earlier and total < before:  # whole passes need not be decoded to be passed over
            passes = before // total - 1
            timeline.skip(passes)
            total += passes * total


def _beginning_s(settings: StreamSettings) -> float:
    """time.monotonic() at which a file whose first picture is there begins."""
    delay_s = random.Random(settings.name).uniform(0.0, OUT_OF_STEP_S) if settings.pace == "camera" else 0.0
    return time.monotonic() + delay_s
