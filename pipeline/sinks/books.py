"""What became of a sink's messages, counted in numbers that may outlive the process that counts."""

from collections import Counter
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

# full: its queue was. failed: it raised. dead: its thread had ended. shutdown: it was not done when the run was over.
# crash: they waited for it in a process that died. A sink that sends later (Later) adds causes of its own.
Lost = Literal["full", "failed", "dead", "shutdown", "crash"]

CAUSES: Final[tuple[Lost, ...]] = get_args(Lost)
GIVEN, SENT, FIRST_CAUSE = 0, 1, 2
WORDS: Final = FIRST_CAUSE + len(CAUSES)  # int64 of a row


class SinkBook:
    """Counts of one sink: every message that it is given is sent, lost with a cause, or waits.

    Args:
        row: int64 (WORDS,), perhaps in shared memory, where a process that died has counted before; None: of its own.

    Attributes:
        died: how many messages waited in that process. They are counted as lost with the cause ``crash``; one that was
            just sent when it died may be among them.
    """

    def __init__(self, row: npt.NDArray[np.int64] | None = None) -> None:
        self._row = np.zeros(WORDS, np.int64) if row is None else row
        self.died = self.waiting
        self.lose("crash", self.died)

    def give(self) -> None:
        """Count one more; before anything is done with it."""
        self._row[GIVEN] += 1

    def note_sent(self) -> None:
        """Count one as sent; after it was."""
        self._row[SENT] += 1

    def lose(self, cause: Lost, count: int = 1) -> None:
        """Count some as lost."""
        self._row[FIRST_CAUSE + CAUSES.index(cause)] += count

    @property
    def sent(self) -> int:
        return int(self._row[SENT])

    @property
    def lost(self) -> Counter[str]:
        """By cause."""
        return Counter(dict(zip(CAUSES, self._row[FIRST_CAUSE:].tolist(), strict=True)))

    @property
    def waiting(self) -> int:
        return int(self._row[GIVEN] - self._row[SENT:].sum())
