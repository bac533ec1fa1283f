"""Sources that end: read once, or again and again, as fast as they go or at their own pace."""

import random
import threading
import time
from collections import Counter
from contextlib import closing
from typing import Final

from engines.errors import SourceError
from pipeline.frames.types import ReadOutcome
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Decoded, Incomplete, Lost, Missed, Pictures, Source, Timed, check_room
from pipeline.sources.condition import Condition
from pipeline.sources.timeline import Timeline

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
    timeline, reading = Timeline(), FileProgress()
    began_s: float | None = None
    while True:
        earlier, earlier_shown = reading.total, reading.shown
        failure: SourceError | None = None
        try:
            with closing(source.read(stop)) as pictures:
                for given in pictures:
                    assert not isinstance(given, Lost), "what is not live is not lost for a while"
                    reading.took(given)
                    if isinstance(given, Missed):
                        if (new := min(given.count, reading.total - before)) > 0:
                            yield Missed(new, given.cause)
                        continue
                    timeline.tell_step(given.step_s)
                    time_s = timeline.at(given.source_s)
                    if reading.total <= before:
                        continue
                    check_room(given.picture, room_bytes)
                    began_s = _beginning_s(settings) - time_s if began_s is None else began_s
                    due_s = began_s + time_s
                    if settings.pace != "fast" and stop.wait(max(0.0, due_s - time.monotonic())):
                        return
                    condition.picture(given.size, given.codec, given.notes)
                    # A camera would have given it when it was due: what the decoder is late by is latency.
                    yield Timed(given.picture, time_s, due_s if settings.pace == "camera" else None, given=given)
        except SourceError as error:
            failure = error
        if stop.is_set():
            return
        empty = reading.shown == earlier_shown
        if empty or not settings.loop or not (failure is None or isinstance(failure, Incomplete)):
            return condition.ended(reading.cause(failure), reading.outcome(failure))
        timeline.restart()
        if not earlier and reading.total < before:  # whole passes need not be decoded to be passed over
            passes = before // reading.total - 1
            timeline.skip(passes)
            reading.skip(passes)


class FileProgress:
    """How much of a file was read."""

    def __init__(self) -> None:
        self.total = 0  # pictures that it has, shown or not
        self.shown = 0
        self._damaged = 0
        self._missed: Counter[str] = Counter()

    def took(self, given: Decoded | Missed) -> None:
        """A picture came, or some that are not shown."""
        if isinstance(given, Missed):
            self.total += given.count
            self._missed[given.cause] += given.count
        else:
            self.total, self.shown = self.total + 1, self.shown + 1
            self._damaged += given.damaged

    def skip(self, passes: int) -> None:
        """So many passes more went by, all like the first."""
        self.total *= passes + 1
        self.shown *= passes + 1

    def cause(self, failure: SourceError | None) -> str:
        """Why it ends, for people."""
        if failure is not None and not (self.total and isinstance(failure, Incomplete)):
            return str(failure)
        parts = [f"end of the file after {self.shown} frames"]
        if self.total and not self.shown:
            parts = [f"nothing could be decoded: it is {'encrypted' if self._missed['encrypted'] else 'damaged'}"]
        parts += [str(failure)] if failure is not None else []
        parts += [f"{count} {cause}" for cause, count in sorted(self._missed.items()) if count]
        parts += [f"{self._damaged} damaged ones shown"] if self._damaged else []
        return "; ".join(parts)

    def outcome(self, failure: SourceError | None) -> ReadOutcome:
        """How much of it could be read."""
        if not self.shown:
            return "nothing"
        return "part" if failure is not None or self._missed or self._damaged else "all"


def _beginning_s(settings: StreamSettings) -> float:
    """time.monotonic() at which a file whose first picture is there begins."""
    delay_s = random.Random(settings.name).uniform(0.0, OUT_OF_STEP_S) if settings.pace == "camera" else 0.0
    return time.monotonic() + delay_s
