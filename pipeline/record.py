"""Annotated video of each stream, for people to look at: H.264 in MP4."""

import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import av
import numpy as np
import numpy.typing as npt
import structlog

from engines.errors import ConfigError
from pipeline.annotate import annotate
from pipeline.config import StreamSettings
from pipeline.types import Result
from pipeline.zones import Counts

ROOM: Final = 8  # frames that wait for the recorder, of all streams together ...
LEAST_ROOM: Final = 2  # ... but so many of each
NICE: Final = 10  # more, of the thread that records live streams: messages come first where cores are scarce

TIME_BASE: Final = Fraction(1, 90_000)  # seconds; fine enough for any frame rate
NOMINAL_RATE: Final = 25  # frames/s, for rate control only: the timestamps carry the real times

# A run that is killed leaves a file that plays up to the last key frame; one that is closed becomes a plain MP4.
FRAGMENTED: Final = {"movflags": "hybrid_fragmented+frag_keyframe", "flush_packets": "1"}

log = structlog.get_logger()


class _Video:
    """One MP4 file that is being written, of pictures of one size."""

    def __init__(self, path: Path, width: int, height: int, start_s: float) -> None:
        self.size = width, height
        self._start_s = start_s
        self._last_pts = -1
        self._container = av.open(str(path), "w", format="mp4", options=FRAGMENTED)
        self._stream = self._container.add_stream("libx264", rate=NOMINAL_RATE)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2  # 4:2:0 wants even sides
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = TIME_BASE
        self._stream.options = {"preset": "ultrafast", "crf": "23", "bf": "0", "g": "50"}

    def write(self, pixels: npt.NDArray[np.uint8], time_s: float) -> None:
        height, width = pixels.shape[:2]
        if width % 2 or height % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        # A clock that stands still or steps back must not cost a frame: MP4 wants every timestamp larger than the last.
        self._last_pts = max(self._last_pts + 1, round((time_s - self._start_s) / TIME_BASE))
        frame.pts, frame.time_base = self._last_pts, TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


class Recorder:
    """Writes one video per stream; a new one when the size of its pictures changes. Never writes over a file.

    Args:
        directory: where ``<stream>.mp4``, ``<stream>-2.mp4``, ... go; made when it is not there.
        objects: object labels, in the order of the network's classes.
        scenes: scene labels, likewise.
        streams: whose zones and lines are drawn.

    Raises:
        ConfigError: the directory cannot be made.
    """

    def __init__(
        self,
        directory: str | Path,
        objects: tuple[str, ...],
        scenes: tuple[str, ...],
        streams: Iterable[StreamSettings] = (),
    ) -> None:
        self._directory = Path(directory)
        self._objects, self._scenes = objects, scenes
        self._settings = {stream.name: stream for stream in streams}
        self._videos: dict[str, _Video] = {}
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"record.directory: cannot make {self._directory}: {error.strerror}") from error

    def write(self, result: Result, counts: Mapping[str, Counts] | None = None) -> None:
        """Annotate a frame and append it to its stream's video, at its stream time.

        Args:
            result: the frame.
            counts: of the stream's zones and lines, just after it.
        """
        frame = result.frame
        settings = self._settings.get(frame.stream)
        pixels = annotate(frame.picture.rgb(), result, self._objects, self._scenes, settings, counts)
        size = pixels.shape[1], pixels.shape[0]
        video = self._videos.get(frame.stream)
        if video is not None and video.size != size:
            self._videos.pop(frame.stream).close()
            video = None
        if video is None:
            video = self._videos[frame.stream] = _Video(self._free_path(frame.stream), *size, frame.time_s)
        video.write(pixels, frame.time_s)

    def close(self) -> None:
        """Finish all videos; may be called twice."""
        while self._videos:
            self._videos.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _free_path(self, stream: str) -> Path:
        path, number = self._directory / f"{stream}.mp4", 1
        while path.exists():
            number += 1
            path = self._directory / f"{stream}-{number}.mp4"
        return path


class Recording:
    """What waits for a recorder, and the thread that it runs in.

    Nobody who publishes is held up: a live stream's frame that finds the stream's share of the room taken is left out
    of the recording, and of nothing else. A file is recorded completely: its source waits for room.

    Args:
        recorder: closed at the end.
        streams: all of the run.
        live: those of them whose frames may be left out.
        done: called with each result that is not needed any more, recorded or not.
    """

    def __init__(
        self,
        recorder: Recorder,
        streams: Collection[str],
        live: Collection[str],
        done: Callable[[Result], object] = lambda result: None,
    ) -> None:
        self._recorder, self._live, self._done = recorder, frozenset(live), done
        self._room = recorder_room(len(streams))
        self._items: deque[tuple[Result, Mapping[str, Counts]]] = deque()
        self._waiting: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._finished = self._abandoned = False

    def take(self, result: Result, counts: Mapping[str, Counts]) -> None:
        """Take a frame, or leave it out; never waits.

        Args:
            result: the frame.
            counts: of the stream's zones and lines, just after it.
        """
        stream, first = result.frame.stream, False
        with self._changed:
            taken = not self._abandoned and (stream not in self._live or self._waiting[stream] < self._room)
            if taken:
                self._items.append((result, counts))
                self._waiting[stream] += 1
                self._changed.notify_all()
            elif not self._abandoned:
                first = not self._left_out[stream]
                self._left_out[stream] += 1
        if first:
            log.warning("recording leaves frames out", stream=stream, cause="encoding is slower than the stream")
        if not taken:
            self._done(result)

    def await_room(self, stream: str) -> None:
        """Wait until a file's next frame may be captured; at once for a live stream."""
        if stream not in self._live:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting[stream] < self._room or self._abandoned)

    @property
    def left_out(self) -> dict[str, int]:
        """How many frames are missing in the recording, of each stream that has such."""
        with self._changed:
            return dict(self._left_out)

    def run(self) -> None:
        """Record until :meth:`finish` or :meth:`abandon`; a failure is logged, and ends the recording alone."""
        if self._live and sys.platform == "linux":  # elsewhere a priority is the whole process'
            thread = threading.get_native_id()
            # The encoder's threads inherit it.
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
        try:
            with self._recorder:
                while (item := self._next()) is not None:
                    try:
                        self._recorder.write(*item)
                    finally:
                        self._done(item[0])
        except Exception:  # a full disk ends the recording, not the run
            log.exception("recording failed")
        finally:
            self.abandon()

    def finish(self) -> None:
        """No frame comes any more; those that wait are still recorded."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Take nothing more, and give up what waits."""
        with self._changed:
            self._abandoned = True
            rest = [result for result, _ in self._items]
            self._items.clear()
            self._waiting.clear()
            self._changed.notify_all()
        for result in rest:
            self._done(result)

    def _next(self) -> tuple[Result, Mapping[str, Counts]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._finished or self._abandoned)
            if not self._items:
                return None
            item = self._items.popleft()
            self._waiting[item[0].frame.stream] -= 1
            self._changed.notify_all()
            return item


def recorder_room(streams: int) -> int:
    """How many frames of each of so many streams may wait for the recorder."""
    return max(LEAST_ROOM, -(-ROOM // streams))
