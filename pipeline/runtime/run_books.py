"""What the processes of a run count beside frames, in shared memory (``links = "zmq"``): it outlives who counts."""

from typing import Any, Final, Self, get_args

import numpy as np

from pipeline.frames.stage_times import FIRST_SIZE
from pipeline.frames.types import ReadOutcome
from pipeline.identity.face_entry import FACE_WORDS
from pipeline.runtime.sharding import shard_count
from pipeline.runtime.shared_file import SharedFile
from pipeline.runtime.summary import FileEnd
from pipeline.settings.schema import Config
from pipeline.sinks.books import WORDS
from pipeline.sinks.fan_out import count_of
from pipeline.sinks.recording import GIVEN, RECORDED, RECORDING_WORDS

OUTCOMES: Final = (None, *get_args(ReadOutcome))
CAUSE_BYTES: Final = 480  # of a clause; what is beyond is cut off


class RunBooks:
    """The counts of a run. Like the ring's, the memory has no name. Each number is counted by one process at a time.

    Args:
        shape: sinks, rows of streams, shards, and the most frames of a batch.
        file: the memory.

    Attributes:
        sinks: int64 (sinks, books.WORDS), see :class:`pipeline.sinks.books.SinkBook`.
        recorded: int64 (streams, RECORDING_WORDS), see :class:`pipeline.sinks.recording.Recording`.
        faces: int64 (shards, FACE_WORDS), see :class:`pipeline.identity.face_entry.FaceQueue`.
        batches: int64 (FIRST_SIZE + largest batch,), see :class:`pipeline.frames.stage_times.StageTimes`.
    """

    def __init__(self, shape: tuple[int, int, int, int], file: SharedFile) -> None:
        self._shape, self._file = shape, file
        books = np.frombuffer(file.memory, _layout(*shape), 1)[0]
        self.sinks, self.recorded, self.faces, self.batches = (
            books[name] for name in ("sinks", "recorded", "faces", "batches")
        )
        self._outcomes, self._causes = books["outcomes"], books["causes"]

    @classmethod
    def create(cls, config: Config) -> Self:
        """Make them, all 0; ConfigError where there is too little memory."""
        rows = len(config.streams) + config.zmq.spare_streams
        shape = count_of(config), rows, shard_count(config), config.inference.max_batch
        return cls(shape, SharedFile.create(_layout(*shape).itemsize, "the counts of a run"))

    def __reduce__(self) -> tuple[type["RunBooks"], tuple[tuple[int, int, int, int], SharedFile]]:
        return RunBooks, (self._shape, self._file)

    def end(self, row: int, end: FileEnd) -> None:
        """Note how the file of a stream ended, which has this row."""
        self._causes[row] = end.cause.encode()[:CAUSE_BYTES]
        self._outcomes[row] = OUTCOMES.index(end.read)  # last: from here on it counts

    def end_of(self, row: int) -> FileEnd | None:
        """How it ended; None: nobody said."""
        outcome: ReadOutcome | None = OUTCOMES[int(self._outcomes[row])]
        return None if outcome is None else FileEnd(outcome, self._causes[row].decode(errors="ignore"))

    def left_out(self, row: int) -> int:
        """How many frames of a stream its recording has not, once all processes have ended."""
        given: Any = self.recorded[row, GIVEN]
        return int(given - self.recorded[row, RECORDED])

    def close(self) -> None:
        """Close the file; the memory is freed when no array points into it any more."""
        self._file.close()


def _layout(sinks: int, rows: int, shards: int, batch: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("sinks", np.int64, (sinks, WORDS)),
            ("recorded", np.int64, (rows, RECORDING_WORDS)),
            ("faces", np.int64, (shards, FACE_WORDS)),
            ("batches", np.int64, (FIRST_SIZE + batch,)),
            ("outcomes", np.int64, (rows,)),
            ("causes", f"S{CAUSE_BYTES}", (rows,)),
        ]
    )
