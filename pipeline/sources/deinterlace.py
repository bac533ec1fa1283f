"""Interlaced frames -> whole pictures, by FFmpeg's bwdif filter."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Literal

import av
from av.filter import Graph
from av.video.stream import VideoStream

Fields = Literal["bob", "weave"]
MODES: Final[dict[Fields, str]] = {"bob": "send_field", "weave": "send_frame"}


class Deinterlacer:
    """Makes whole pictures of interlaced frames: of each field one ("bob"), or of both together ("weave").

    Frames go through as they are until the first that is interlaced; from there on each comes when the next is there.
    """

    def __init__(self, stream: VideoStream, fields: Fields) -> None:
        self._stream, self._mode = stream, MODES[fields]
        self._graph: Graph | None = None
        self._form: tuple[int, int, str] | None = None  # of the frames that the graph takes

    def take(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """The frames that can be shown with this one."""
        form = frame.width, frame.height, frame.format.name
        if self._graph is not None and form != self._form:
            yield from self.flush()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame
                return
            self._graph, self._form = self._built(frame), form
        self._graph.vpush(frame)
        yield from self._pulled(self._graph)

    def flush(self) -> Iterator[av.VideoFrame]:
        """Those that are left."""
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.vpush(None)
            yield from self._pulled(graph)

    def _built(self, frame: av.VideoFrame) -> Graph:
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._stream.time_base
        )
        graph.link_nodes(source, graph.add("bwdif", f"mode={self._mode}:deint=interlaced"), graph.add("buffersink"))
        graph.configure()
        return graph

    def _pulled(self, graph: Graph) -> Iterator[av.VideoFrame]:
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                yield graph.vpull()
