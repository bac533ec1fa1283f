"""Annotated video of each stream, for people to look at: H.264 in MP4."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import av
import numpy as np
import numpy.typing as npt

from engines.errors import ConfigError
from pipeline.annotate import annotate
from pipeline.types import Result
from pipeline.zones import Moment, Places

TIME_BASE: Final = Fraction(1, 90_000)  # seconds; fine enough for any frame rate
NOMINAL_RATE: Final = 25  # frames/s, for rate control only: the timestamps carry the real times

# A run that is killed leaves a file that plays up to the last key frame; one that is closed becomes a plain MP4.
FRAGMENTED: Final = {"movflags": "hybrid_fragmented+frag_keyframe", "flush_packets": "1"}


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
        places: zones and lines to draw, by stream; nobody else may use them.

    Raises:
        ConfigError: the directory cannot be made.
    """

    def __init__(
        self,
        directory: str | Path,
        objects: tuple[str, ...],
        scenes: tuple[str, ...],
        places: Mapping[str, Places] | None = None,
    ) -> None:
        self._directory = Path(directory)
        self._objects, self._scenes, self._places = objects, scenes, places or {}
        self._videos: dict[str, _Video] = {}
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"record.directory: cannot make {self._directory}: {error.strerror}") from error

    def write(self, result: Result) -> None:
        """Annotate a frame and append it to its stream's video, at its stream time."""
        frame = result.frame
        places = self._places.get(frame.stream)
        if places is not None:
            seen = result.identified.tracked.objects
            places.ended(seen.ended)
            size = frame.picture.width, frame.picture.height
            places.update(Moment(frame.captured_ns, frame.time_s), size, seen.ids, seen.boxes, result.labels)
        pixels = annotate(frame.picture.rgb(), result, self._objects, self._scenes, places)
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


def record(results: Iterable[Result], recorder: Recorder) -> Iterator[Result]:
    """Write every result's annotated frame and pass it on; the videos are finished however this ends."""
    with recorder:
        for result in results:
            recorder.write(result)
            yield result
