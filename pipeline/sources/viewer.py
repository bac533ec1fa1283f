"""Frames of a stream -> pictures as they are displayed, with what is to be told of them."""

from collections.abc import Iterable, Iterator
from typing import Final

import av
from av.video.stream import VideoStream

from pipeline.settings.schema import StreamSettings
from pipeline.sources.address import local_path
from pipeline.sources.base import Decoded, Missed
from pipeline.sources.cropping import NOTE, crops
from pipeline.sources.decode import mark_of
from pipeline.sources.deinterlace import Deinterlacer
from pipeline.sources.display import Look, Tags, pixel_aspect, planar, planes_of

WITHOUT_PTS: Final = ("avi", "mxf")  # FFmpeg's names of formats that may not say when pictures are shown


class Viewer:
    """Makes pictures of the frames of a stream, as they are displayed."""

    def __init__(self, stream: VideoStream, settings: StreamSettings, bursts: bool) -> None:
        self._stream, self._codec, self._bursts = stream, stream.codec_context.name, bursts
        mode = settings.deinterlace
        self._deinterlacer = None if mode == "off" else Deinterlacer(stream, mode)
        rate = settings.rate_hz or stream.guessed_rate
        self._step_s = float(1 / rate) if rate else None
        self._bob = mode == "bob"
        self._shows_damaged = settings.damaged == "show"
        self._aspect = pixel_aspect(stream.sample_aspect_ratio)
        self._without_pts = stream.container.format.name in WITHOUT_PTS
        path = local_path(settings.source)
        self._as_it_is = (NOTE,) if path is not None and crops(path) else ()
        self._interlaced = False  # whether any frame was
        self._seen: tuple[int, int, int, int, int, bool] | None = None  # of the frame before ...
        self._look, self._notes = Look(), tuple[str, ...]()  # ... and what came of it

    def shown(self, frames: Iterable[av.VideoFrame | Missed]) -> Iterator[Decoded | Missed]:
        """The pictures of some frames, in their order."""
        for frame in frames:
            if isinstance(frame, Missed):
                yield frame
                continue
            self._interlaced = self._interlaced or frame.interlaced_frame
            for whole in (frame,) if self._deinterlacer is None else self._deinterlacer.take(frame):
                yield self._shown(whole)

    def rest(self) -> Iterator[Decoded | Missed]:
        """Those that were held back."""
        if self._deinterlacer is not None:
            yield from map(self._shown, self._deinterlacer.flush())

    def _shown(self, frame: av.VideoFrame) -> Decoded | Missed:
        try:
            return self._decoded(frame)
        except av.FFmpegError:  # pixels in a format that swscale does not read
            return Missed(1, "undecodable")

    def _decoded(self, frame: av.VideoFrame) -> Decoded:
        shown = planar(frame)
        # To ask a frame for its side data keeps it, in a cycle, until garbage is collected: only the first is asked.
        seen = shown.rotation, shown.color_range, shown.colorspace, shown.width, shown.height, self._interlaced
        if seen != self._seen:
            self._seen = seen
            self._look = Look.of(Tags.of(shown), self._aspect)
            self._notes = (*self._look.notes(self._interlaced), *self._as_it_is)
            if self._shows_damaged:
                self._notes = (*self._notes, "damaged pictures are shown")
        step_s = self._step_s / 2 if self._step_s and self._bob and self._interlaced else self._step_s
        picture = self._look.picture(planes_of(shown))
        return Decoded(
            picture,
            self._time_s(frame),
            self._codec,
            step_s=step_s,
            notes=self._notes,
            damaged=frame.is_corrupt,
            bursts=self._bursts,
            came_s=mark_of(frame).came_s,
            packet=frame.opaque,
            rotation=self._look.orientation.clockwise,
        )

    def _time_s(self, frame: av.VideoFrame) -> float | None:
        """The source's own time of a frame; None: one normal step after the frame before."""
        if not (self._without_pts and self._stream.codec_context.has_b_frames):
            return frame.time
        # FFmpeg makes up a pts for each packet in its place. Frames come in the order of the packets' dts.
        return None if frame.dts is None or frame.time_base is None else float(frame.dts * frame.time_base)
