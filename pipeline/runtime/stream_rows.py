"""Which stream has which row of what the processes of a run share."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engines.errors import ConfigError
from pipeline.frames.counters import StreamState
from pipeline.frames.types import Mode, StreamStatus
from pipeline.settings.schema import Config, InferenceRate, Switch
from pipeline.settings.tuning import TUNABLE, tuning_of

MODES: Final[tuple[Mode, ...]] = ("freshest", "every_frame", "bulk")
STATES: Final[tuple[StreamStatus | None, ...]] = (None, "up", "down", "ended")
# What is to become of a stream: it is captured on, removed or changed; or its capture has ended for that.
KEPT, REMOVED, CHANGED, LEFT = 0, 1, 2, 3
SWITCH_BITS: Final[dict[Switch, int]] = {"detect": 1, "record": 2}
NAME_WORDS: Final = 8  # of 8 bytes: a stream's name has 64 characters at most
COLUMNS: Final = 7  # of a StreamTable
NO_NUMBER: Final[dict[str | None, float]] = {None: -101.0, "full": -102.0, "auto": -103.0}  # values where numbers stand
NOT_NUMBERS: Final = {number: value for value, number in NO_NUMBER.items()}

Words = npt.NDArray[np.int64]


class StreamRows:
    """The names of streams by row, in shared memory. A row is given once: what it counts outlives its stream.

    One process adds names, others find them; what is added after a process began is found when it is asked for.

    Args:
        words: (:meth:`words`,) of the shared memory.
        names: of the first rows.
    """

    def __init__(self, words: Words, names: Iterable[str]) -> None:
        self._count = words[:1]
        self._names: npt.NDArray[np.bytes_] = words[1:].view(f"S{8 * NAME_WORDS}")
        self._rows: dict[str, int] = {}
        for row, name in enumerate(names):  # the same in every process
            self._names[row] = name.encode()
            self._rows[name] = row
        self._count[0] = max(int(self._count[0]), len(self._rows))

    @staticmethod
    def words(rows: int) -> int:
        """How many words it takes for so many streams."""
        return 1 + NAME_WORDS * rows

    def room_for(self, name: str) -> int:
        """The row of a stream, which is given now unless it has one; ConfigError where none is left."""
        if name not in self.names:
            count = int(self._count[0])
            if count == len(self._names):
                raise ConfigError(
                    f"stream {name!r} cannot be added: there is shared memory for {count} streams, those that were "
                    "removed included: zmq.spare_streams says for how many more than the configuration has"
                )
            self._names[count] = name.encode()
            self._count[0] = count + 1  # last: from here on it counts
        return self.row(name)

    def row(self, name: str) -> int:
        """The row of a stream; KeyError where it has none."""
        if name not in self._rows:
            self._rows = {known: row for row, known in enumerate(self.names)}
        return self._rows[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Those that have a row, in order."""
        return tuple(name.decode() for name in self._names[: int(self._count[0])].tolist())


class StreamTable:
    """The streams that a run ever had, by row, and what is to become of each; for any process.

    Args:
        words: (:meth:`words`,) of the shared memory.
        names: of the first rows.
    """

    def __init__(self, words: Words, names: Iterable[str]) -> None:
        tuning, words = words[: len(TUNABLE)], words[len(TUNABLE) :]
        rows = (len(words) - 1) // (NAME_WORDS + COLUMNS)
        self._tuning = tuning.view(np.float64)
        self._rows = StreamRows(words[COLUMNS * rows :], names)
        columns = words[: COLUMNS * rows].reshape(COLUMNS, rows)
        self._mode, self._wanted, self._shard, self._state, self._reconnects, self._off, rate = columns
        self._rate = rate.view(np.float64)

    @staticmethod
    def words(rows: int) -> int:
        """How many words it takes for so many streams."""
        return StreamRows.words(rows) + COLUMNS * rows + len(TUNABLE)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all, in the order in which they came."""
        return self._rows.names

    def row(self, name: str) -> int:
        """The row of a stream; KeyError where it has none."""
        return self._rows.row(name)

    def add(self, name: str, mode: Mode, shard: int = 0, rate: InferenceRate | None = None) -> int:
        """A stream comes, or comes again; returns its row. ConfigError where none is left."""
        row = self._rows.room_for(name)
        self._mode[row], self._wanted[row], self._shard[row] = MODES.index(mode), KEPT, shard
        self._rate[row] = _number(rate)
        return row

    def shard(self, name: str) -> int:
        """The shard that all of a stream belongs to."""
        return int(self._shard[self.row(name)])

    def is_live(self, name: str) -> bool:
        """Whether nobody waits for its frames, nor they for anybody."""
        return self.mode(name) == "freshest"

    def mode(self, name: str) -> Mode:
        """What becomes of its frames when they come faster than they go."""
        return MODES[int(self._mode[self.row(name)])]

    def want(self, name: str, wanted: int) -> None:
        """Say what is to become of a stream, or that it has."""
        self._wanted[self.row(name)] = wanted

    def wanted(self, name: str) -> int:
        """What was said last: KEPT, REMOVED, CHANGED or LEFT."""
        return int(self._wanted[self.row(name)])

    def note(self, name: str, what: Switch, on: bool) -> None:
        """A switch of a stream was set; for the process that changes streams alone."""
        row, bit = self.row(name), SWITCH_BITS[what]
        self._off[row] = self._off[row] & ~bit if on else self._off[row] | bit

    def is_on(self, name: str, what: Switch) -> bool:
        """Whether it is on, as that of a stream that nobody knows."""
        try:
            return not self._off[self.row(name)] & SWITCH_BITS[what]
        except KeyError:
            return True

    def set_rate(self, name: str, rate: InferenceRate | None) -> None:
        """Set the rate at which a stream is inferred; for the process that changes streams alone."""
        self._rate[self.row(name)] = _number(rate)

    def rate(self, name: str) -> InferenceRate | None:
        """What was set last."""
        rate: InferenceRate | None = _value(self._rate[self.row(name)])
        return rate

    def tune(self, config: Config) -> None:
        """Set the values of :data:`TUNABLE`; for the process that changes streams alone."""
        self._tuning[:] = [_number(value) for value in tuning_of(config).values()]

    def tuning(self) -> dict[str, Any]:
        """What was set last."""
        return {key: _value(number) for key, number in zip(TUNABLE, self._tuning.tolist(), strict=True)}

    def told(self, name: str, state: StreamStatus) -> None:
        """What happened to a stream was published; for the process that publishes alone."""
        after, row = self.state(name).told(state), self.row(name)
        self._state[row], self._reconnects[row] = STATES.index(after.state), after.reconnects

    def state(self, name: str) -> StreamState:
        """What happened to a stream last."""
        row = self.row(name)
        return StreamState(STATES[int(self._state[row])], int(self._reconnects[row]))


def _number(value: float | str | None) -> float:
    return NO_NUMBER[value] if value is None or isinstance(value, str) else value


def _value(number: float) -> Any:
    return NOT_NUMBERS.get(number, number)
