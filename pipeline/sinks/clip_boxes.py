"""The boxes of a clip, beside it as a file: what was seen in each of its frames, for who draws them over the video."""

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

MAX_FRAMES: Final = 3000  # of a stream, that are remembered for a clip that begins later
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
        base_ns: when its media time 0 was captured.
    """

    def __init__(self, clip: Path, base_ns: int) -> None:
        self.clip, self.until_ms = clip, 2**62
        self._base_ms = base_ns / 1e6
        self._file: BinaryIO | None = None
        self._was_empty = True

    def take(self, frame: SeenFrame) -> bool:
        """Write a frame that is in the clip; False: no frame comes any more that could be."""
        if frame.captured_ms > self.until_ms:
            return False
        # Capture times are cut to milliseconds. What shows nothing ends what was shown before, and is told once.
        if frame.captured_ms + 1 >= self._base_ms and not (frame.is_empty and self._was_empty):
            self._was_empty = frame.is_empty
            line = {"at_s": round((frame.captured_ms - self._base_ms) / 1000, 4)} | frame.seen
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

    Args:
        keep_s: how long before it is asked for a clip may begin.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_ms = 1000 * keep_s
        self._recent: deque[SeenFrame] = deque(maxlen=MAX_FRAMES)
        self._files: deque[BoxesFile] = deque()

    def saw(self, frame: SeenFrame) -> None:
        """Take the next frame."""
        self._recent.append(frame)
        while self._recent[0].captured_ms < frame.captured_ms - self._keep_ms:
            self._recent.popleft()
        for file in [each for each in self._files if not each.take(frame)]:
            self._end(file)

    def begin(self, clip: Path, base_ns: int) -> None:
        """Write the boxes of a clip from its beginning on; OSError where that cannot be."""
        file = BoxesFile(clip, base_ns)
        for frame in self._recent:
            file.take(frame)
        self._files.append(file)
        while len(self._files) > WAITING:
            self._end(self._files[0])

    def end(self, clip: Path, last_ns: int) -> None:
        """Write no more of a clip than up to its last picture, whose message may come later."""
        for file in self._files:
            if file.clip == clip:
                file.until_ms = last_ns // 1_000_000

    def close(self) -> None:
        """No frame comes any more."""
        while self._files:
            self._end(self._files[0])

    def _end(self, file: BoxesFile) -> None:
        self._files.remove(file)
        file.close()
