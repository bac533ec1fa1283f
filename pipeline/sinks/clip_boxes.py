"""The boxes of a clip, beside it as a file: what was seen in each of its frames, for who draws them over the video."""

import math
import os
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, Self

import msgspec

from engines.files import PRIVATE
from pipeline.store import boxes_of
from pipeline.wire.messages import FrameMessage
from pipeline.wire.packets import PacketMessage

MAX_FRAMES: Final = 3000  # of a stream, that are remembered for a clip that begins later
NEAR_MS: Final = 1000  # a packet's time tells that of a frame which was captured so little later
REORDERED_MS: Final = 1000  # that a packet may come behind one which was captured later
WAITING: Final = 4  # clips that frames are waited for: the one that is written, and those that have just ended


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """What was seen in a frame, without names: those are the events'."""

    captured_ms: int  # Unix time
    is_empty: bool
    seen: dict[str, object]

    @classmethod
    def of(cls, message: FrameMessage) -> Self:
        """Of the message of a frame."""
        objects = [
            {"track": each.track, "label": each.label, "score": each.score, "box": each.box} for each in message.objects
        ]
        faces = [
            {"track": each.track, "object": each.object, "score": each.score, "box": each.box} for each in message.faces
        ]
        moment_s = datetime.fromisoformat(message.captured_at).timestamp()
        seen: dict[str, object] = {"size": message.size, "objects": objects, "faces": faces}
        return cls(round(1000 * moment_s), not (objects or faces), seen)


class BoxesFile:
    """JSON lines beside a clip, each with ``at_s``, the media time of the picture that it is about.

    Args:
        clip: file of the clip.
        begin_s: stream time of its media time 0.
    """

    def __init__(self, clip: Path, begin_s: float) -> None:
        self.clip, self.until_s = clip, math.inf
        self._begin_s = begin_s
        self._file: BinaryIO | None = None
        self._was_empty = True

    def take(self, time_s: float, frame: SeenFrame) -> bool:
        """Write a frame that is in the clip; False: no frame comes any more that could be."""
        if time_s > self.until_s:
            return False
        # What shows nothing ends what was shown before, and is told once.
        if time_s >= self._begin_s and not (frame.is_empty and self._was_empty):
            self._was_empty = frame.is_empty
            line = {"at_s": round(time_s - self._begin_s, 4)} | frame.seen
            if self._file is None:
                flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
                self._file = os.fdopen(os.open(boxes_of(self.clip), flags, PRIVATE), "wb")
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()  # whoever plays it now sees it
        return True

    def close(self) -> None:
        """Nothing more is written."""
        if self._file is not None:
            self._file.close()


class StreamBoxes:
    """What was seen in one stream lately, and the files of the clips that it belongs to.

    A frame's message and its packet have the same capture time; the packet has the stream time, too. Either may be here
    first. A frame without a packet, as of sources that are sent as single pictures now and then, or whose frames come
    from another stream of the camera, has the time that follows from the packet before it.

    Args:
        keep_s: how long before it is asked for a clip may begin.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._times: dict[int, float] = {}  # stream times of packets, by when they were captured, ms
        self._waiting: deque[SeenFrame] = deque(maxlen=MAX_FRAMES)  # for their packets
        self._recent: deque[tuple[float, SeenFrame]] = deque(maxlen=MAX_FRAMES)
        self._files: deque[BoxesFile] = deque()

    def took(self, packet: PacketMessage) -> None:
        """Take the next packet."""
        self._times[packet.captured_ns // 1_000_000] = packet.time_s
        if len(self._times) > MAX_FRAMES:
            del self._times[next(iter(self._times))]
        self._write_due()

    def saw(self, frame: SeenFrame) -> None:
        """Take what was seen in the next frame."""
        self._waiting.append(frame)
        self._write_due()

    def begin(self, clip: Path, begin_s: float) -> None:
        """Write the boxes of a clip from its beginning on; OSError where that cannot be."""
        file = BoxesFile(clip, begin_s)
        for time_s, frame in self._recent:
            file.take(time_s, frame)
        self._files.append(file)
        while len(self._files) > WAITING:
            self._end(self._files[0])

    def end(self, clip: Path, last_s: float) -> None:
        """Write no more of a clip than up to its last picture, whose message may come later."""
        for file in self._files:
            if file.clip == clip:
                file.until_s = last_s

    def close(self) -> None:
        """No frame comes any more."""
        while self._files:
            self._end(self._files[0])

    def _write_due(self) -> None:
        newest_ms = next(reversed(self._times), 0)
        while self._waiting:
            time_s = self._times.get(self._waiting[0].captured_ms)
            if time_s is None:
                if newest_ms < self._waiting[0].captured_ms + REORDERED_MS:
                    return  # its packet may still come
                time_s = self._time_near(self._waiting[0].captured_ms)
            frame = self._waiting.popleft()
            if time_s is not None:
                self._write(time_s, frame)

    def _time_near(self, captured_ms: int) -> float | None:
        """The stream time of a frame that has no packet of its own; None: no packet is near."""
        before_ms = next((each for each in reversed(self._times) if each <= captured_ms), None)
        if before_ms is None or captured_ms - before_ms > NEAR_MS:
            return None
        return self._times[before_ms] + (captured_ms - before_ms) / 1000

    def _write(self, time_s: float, frame: SeenFrame) -> None:
        self._recent.append((time_s, frame))
        while self._recent[0][0] < time_s - self._keep_s:
            self._recent.popleft()
        for file in [each for each in self._files if not each.take(time_s, frame)]:
            self._end(file)

    def _end(self, file: BoxesFile) -> None:
        self._files.remove(file)
        file.close()
