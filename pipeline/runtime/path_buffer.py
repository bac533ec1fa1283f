"""Positions of tracks, one a second, in shared memory (``links = "zmq"``): after a crash, end events have a path."""

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from engines.arrays import Float

EVERY_NS: Final = 1_000_000_000
ROWS: Final = 2048  # of a stream: half a minute of 50 objects and 10 faces
MAX_TRACKS: Final = 256  # of one frame that are stored
ROW: Final = np.dtype([("at_ns", np.int64), ("track", np.int64), ("face", np.int64), ("box", np.float32, (4,))])
BYTES: Final = ROWS * ROW.itemsize


class SeenTracks(Protocol):
    """The tracks of a frame, as :class:`pipeline.frames.types.Tracks` has them."""

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """(T,)."""
        ...

    @property
    def boxes(self) -> Float:
        """(T, 4) xyxy in source pixels."""
        ...


class PathBuffer:
    """A ring buffer of the positions of one stream's tracks. One process writes; another may read once it is dead.

    Args:
        count: (1,) how many rows were ever written.
        rows: (ROWS,) of ROW; the oldest are overwritten.
    """

    def __init__(self, count: npt.NDArray[np.int64], rows: npt.NDArray[np.void]) -> None:
        self._count, self._rows = count, rows
        self._noted_ns = 0

    def note(self, at_ns: int, objects: SeenTracks, faces: SeenTracks) -> None:
        """Store the tracks of a frame of the Unix time ``at_ns``, if a second has passed since the last stored one."""
        if abs(at_ns - self._noted_ns) < EVERY_NS:
            return
        self._noted_ns = at_ns
        rows, split = np.empty(len(objects.ids) + len(faces.ids), ROW), len(objects.ids)
        rows["at_ns"], rows["face"] = at_ns, np.arange(len(rows)) >= split
        for part, seen in ((rows[:split], objects), (rows[split:], faces)):
            part["track"], part["box"] = seen.ids, seen.boxes
        count, rows = int(self._count[0]), rows[:MAX_TRACKS]
        self._rows[(count + np.arange(len(rows))) % ROWS] = rows
        self._count[0] = count + len(rows)  # last: only now they are valid

    def of(self, track: int, face: bool) -> tuple[npt.NDArray[np.int64], Float]:
        """Return where a track was, oldest first: Unix times (N,) in nanoseconds and boxes (N, 4)."""
        count = int(self._count[0])
        # A killed process may have written part of the next rows: those that they overwrite are left out.
        rows = self._rows[np.arange(max(0, count - ROWS + MAX_TRACKS), count) % ROWS]
        rows = rows[(rows["track"] == track) & (rows["face"] == face)]
        return rows["at_ns"], rows["box"]
