"""Positions of tracks, one a second, in memory that outlives the process that tracks them (``links = "zmq"``)."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engines.arrays import Float
from pipeline.frames.types import Tracks

EVERY_NS: Final = 1_000_000_000
ROWS: Final = 2048  # of a stream: half a minute of 50 objects and 10 faces
MAX_TRACKS: Final = 256  # tracks that are noted at once
ROW: Final = np.dtype([("at_ns", np.int64), ("track", np.int64), ("face", np.int64), ("box", np.float32, (4,))])
BYTES: Final = ROWS * ROW.itemsize


class PathBuffer:
    """The tracks of one stream. One process writes; another may read when that one is dead.

    Args:
        count: (1,) how many rows were ever written; they go round.
        rows: (ROWS,) of ROW.
    """

    def __init__(self, count: npt.NDArray[np.int64], rows: npt.NDArray[np.void]) -> None:
        self._count, self._rows = count, rows
        self._noted_ns = 0

    def note(self, at_ns: int, objects: Tracks, faces: Tracks) -> None:
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
        self._count[0] = count + len(rows)  # last: from here on they count

    def of(self, track: int, face: bool) -> tuple[npt.NDArray[np.int64], Float]:
        """Return where a track was, oldest first: Unix times (N,) in nanoseconds and boxes (N, 4)."""
        count = int(self._count[0])
        # Where the next rows go a killed process may have left half of them.
        rows = self._rows[np.arange(max(0, count - ROWS + MAX_TRACKS), count) % ROWS]
        rows = rows[(rows["track"] == track) & (rows["face"] == face)]
        return rows["at_ns"], rows["box"]
