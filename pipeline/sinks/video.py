"""Annotated video of each stream, for people to look at: H.264 in MP4."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import av
import numpy as np
import numpy.typing as npt
import structlog
from av.codec.context import Flags

from engines.errors import one_line
from pipeline.frames.types import Counts, Result
from pipeline.settings.schema import RecordSettings, StreamSettings
from pipeline.sinks.annotate import annotate
from pipeline.sinks.output_file import OutputFile
from pipeline.sinks.segments import ENCODER, GB, Clock, FreeBytes, SegmentFolder, free_bytes

TIME_BASE: Final = Fraction(1, 90_000)  # seconds; fine enough for any frame rate
NOMINAL_RATE: Final = 25  # frames/s, for rate control only: the timestamps carry the real times

# A run that is killed leaves a file that plays up to the last fragment; one that is closed becomes a plain MP4.
FRAGMENT_S: Final = 1.0
FRAGMENTED: Final = {
    "movflags": "hybrid_fragmented+frag_keyframe",
    "frag_duration": f"{FRAGMENT_S * 1e6:.0f}",
    "flush_packets": "1",
}
STEP_BACK_S: Final = 1.0  # of stream time, after which a new file is begun
ALL: Final = ""  # in place of a stream's name
TIDY_S: Final = 10.0  # how often files that are past their time are looked for
RETRY_S: Final = 10.0  # after a file could not be written

log = structlog.get_logger()


class _Video:
    """One MP4 file that is being written, of pictures of one size."""

    def __init__(self, path: Path, width: int, height: int, start_s: float) -> None:
        self.size, self.path = (width, height), path
        self._start_s = self._last_s = start_s
        self._last_pts = -1
        self._taken = self._encoded = self._whole = 0  # frames; those whose packets were muxed, and are in the file
        self._file = OutputFile(path)
        self._container = av.open(self._file, "w", format="mp4", options=FRAGMENTED)
        self._stream = self._container.add_stream(ENCODER, rate=NOMINAL_RATE)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2  # 4:2:0 wants even sides
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = TIME_BASE
        self._stream.codec_context.flags |= Flags.frame_duration
        self._stream.options = {"preset": "ultrafast", "crf": "23", "bf": "0", "g": "50"}

    def takes(self, size: tuple[int, int], time_s: float, segment_s: float) -> bool:
        """Whether a frame belongs into this file, or begins another."""
        return size == self.size and self._last_s - STEP_BACK_S <= time_s < self._start_s + segment_s

    def write(self, pixels: npt.NDArray[np.uint8], time_s: float) -> None:
        self._last_s = time_s
        height, width = pixels.shape[:2]
        if width % 2 or height % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        # A clock that stands still or steps back must not cost a frame: MP4 wants every timestamp larger than the last.
        before, self._last_pts = self._last_pts, max(self._last_pts + 1, round((time_s - self._start_s) / TIME_BASE))
        frame.pts, frame.time_base = self._last_pts, TIME_BASE
        if before >= 0:  # the last frame is shown for as long as the one before it
            frame.duration = self._last_pts - before
        self._mux(frame)
        self._file.check()
        self._taken += 1

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
            if self._file.keep():  # the fragment that this packet does not belong to any more
                self._whole = self._encoded
            self._encoded += 1

    @property
    def unwritten(self) -> int:
        """How many of the frames that were taken are not in the file."""
        return max(0, self._taken - self._whole)

    def close(self) -> None:
        try:
            self._mux(None)
        finally:
            self._container.close()
            self._file.close()
        self._file.check()
        self._whole = self._taken


class Recorder:
    """Writes the videos of each stream, a new file after ``segment_s`` and when the size of its pictures changes.

    Never writes over a file. Where the disk is full, or a stream's file cannot be written, frames are left out until
    they can be recorded again; each is logged once.

    Args:
        settings: where to, and how much of it is kept.
        objects: object labels, in the order of the network's classes.
        scenes: scene labels, likewise.
        streams: whose zones and lines are drawn.
        clock: Unix time in seconds.
        free: the free bytes of a folder's disk.

    Raises:
        ConfigError: the directory cannot be made.
    """

    def __init__(
        self,
        settings: RecordSettings,
        objects: tuple[str, ...],
        scenes: tuple[str, ...],
        streams: Iterable[StreamSettings] = (),
        clock: Clock = time.time,
        free: FreeBytes = free_bytes,
    ) -> None:
        self._folder = SegmentFolder(settings, clock, free)
        self._segment_s = settings.segment_s
        self._objects, self._scenes = objects, scenes
        self._settings = {stream.name: stream for stream in streams}
        self._videos: dict[str, _Video] = {}
        self._clock = clock
        self._most = 0  # videos that were written at once
        self._tidy_at = 0.0
        self._stuck = False  # whether there are files that cannot be deleted
        self._retry_at: dict[str, float] = {}
        self.unwritten: Counter[str] = Counter()  # frames that were taken, and that no file has
        self._causes: dict[str, str] = {}  # why frames of a stream, or of ALL, are left out at present

    def missing(self, stream: str) -> int:
        """How many frames of a stream were taken, and would be in no file if this process were killed now."""
        video = self._videos.get(stream)
        return self.unwritten[stream] + (0 if video is None else video.unwritten)

    def begin(self, settings: StreamSettings) -> None:
        """A stream is added, or has other zones and lines from here on."""
        self._settings[settings.name] = settings

    def write(self, result: Result, counts: Mapping[str, Counts] | None = None) -> bool:
        """Annotate a frame and append it to its stream's video, at its stream time; False: it was left out.

        Args:
            result: the frame.
            counts: of the stream's zones and lines, just after it.
        """
        stream = result.frame.stream
        obstacle = self._obstacle(stream)
        self._tell(ALL, obstacle)
        if obstacle is not None:
            for each in tuple(self._videos):
                self.finish(each)
            return False
        now = self._clock()
        if now < self._retry_at.get(stream, 0.0) <= now + RETRY_S:  # nobody waits longer for a clock that was set back
            return False
        try:
            self._append(result, counts)
        except (OSError, av.FFmpegError) as error:
            self._retry_at[stream] = now + RETRY_S
            self._tell(stream, one_line(error))
            self.finish(stream)
            return False
        self._tell(stream, None)
        return True

    def _obstacle(self, stream: str) -> str | None:
        """Why no stream can be recorded now, that of the next frame among them."""
        now = self._clock()
        try:
            if not now - TIDY_S < self._tidy_at <= now:
                self._tidy_at = now
                self._tidy()
            # Once it was too full, it has to be emptier, for all of them: or files of a frame each would come of it.
            self._most = max(self._most, len(self._videos.keys() | {stream}))
            if self._folder.has_room(self._most + (ALL in self._causes)):
                return None
        except OSError as error:
            return one_line(error)
        return f"less than {self._folder.floor / GB:g} GB (record.min_free_gb) and 16 MB for each video would be free"

    def _tidy(self) -> None:
        stuck = self._folder.tidy()
        if stuck and not self._stuck:
            log.warning("old recordings cannot be deleted", count=len(stuck), first=str(stuck[0]))
        self._stuck = bool(stuck)

    def _append(self, result: Result, counts: Mapping[str, Counts] | None) -> None:
        frame = result.frame
        settings = self._settings.get(frame.stream)
        pixels = annotate(frame.picture.rgb(), result, self._objects, self._scenes, settings, counts)
        size = pixels.shape[1], pixels.shape[0]
        video = self._videos.get(frame.stream)
        if video is not None and not video.takes(size, frame.time_s, self._segment_s):
            self._close(frame.stream)
            video = None
        if video is None:
            path = self._folder.new(frame.stream)
            try:
                video = self._videos[frame.stream] = _Video(path, *size, frame.time_s)
            except BaseException:
                self._folder.done(path)
                path.unlink(missing_ok=True)  # nothing is in it
                raise
        video.write(pixels, frame.time_s)

    def _tell(self, stream: str, cause: str | None) -> None:
        """Log when frames begin to be left out, of one stream or of all, and when they no longer are."""
        whose = {} if stream == ALL else {"stream": stream}
        if cause is not None and stream not in self._causes:
            self._causes[stream] = cause
            log.warning("recording leaves frames out", cause=cause, directory=str(self._folder.path), **whose)
        elif cause is None and self._causes.pop(stream, None) is not None:
            log.info("recording goes on", directory=str(self._folder.path), **whose)

    def _close(self, stream: str) -> None:
        video = self._videos.pop(stream)
        try:
            video.close()
        finally:
            self.unwritten[stream] += video.unwritten
            self._folder.done(video.path)
            with suppress(OSError):  # somebody took it away
                if not video.path.stat().st_size:
                    video.path.unlink()

    def finish(self, stream: str) -> None:
        """Finish a stream's video, if there is one; that its end cannot be written is told."""
        if stream in self._videos:
            try:
                self._close(stream)
            except (OSError, av.FFmpegError) as error:
                self._tell(stream, one_line(error))

    def forget(self, stream: str) -> None:
        """Finish the video of a stream that was removed."""
        self._settings.pop(stream, None)
        self._retry_at.pop(stream, None)
        self.finish(stream)

    def close(self) -> None:
        """Finish all videos; may be called twice."""
        for stream in tuple(self._videos):
            self.finish(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
