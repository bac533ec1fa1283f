"""What all readers share: the rows that may be skipped, and files that are not what they should be."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from engines.errors import DataError
from engines.undecodable import UNDECODABLE

SKIP_SHARE = 0.01  # of the rows of one source; above it the data is refused rather than used in part
PICTURE_SUFFIXES = frozenset({".webp", ".jpg", ".jpeg", ".png", ".bmp"})

Row = TypeVar("Row")


class SkippedRows:
    """What could not be read. A few rows may be skipped, and are listed; more make the data unusable.

    Args:
        share: of a source's rows that may be skipped.
        strict: refuse at once what goes beyond; otherwise go on and note the sentence in ``refusals``.
    """

    def __init__(self, share: float = SKIP_SHARE, *, strict: bool = True) -> None:
        self.rows: list[str] = []
        self._share = share
        self._strict = strict
        self._counts: Counter[str] = Counter()
        self._refusals: dict[str, str] = {}

    @property
    def refusals(self) -> list[str]:
        """One sentence for every source of which more is gone than may be."""
        return list(self._refusals.values())

    def add(self, source: str, total: int, reason: str) -> None:
        """Skip one of the ``total`` rows of ``source``.

        Raises:
            DataError: more than the tolerated share of them is gone, and this is strict.
        """
        self.rows.append(reason)
        self._counts[source] += 1
        if self._counts[source] <= self._share * total:
            return
        self._refusals[source] = (
            f"{source}: {self._counts[source]} of {total} rows cannot be read, more than "
            f"{self._share:.0%}; the last: {reason}"
        )
        if self._strict:
            raise DataError(self._refusals[source])


def read_json(path: Path, kind: type[Row], what: str) -> Row:
    """The content of a JSON file.

    Raises:
        DataError: the file cannot be read or is not ``what`` it should be.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UNDECODABLE as error:
        raise DataError(f"{path}: is not {what}: {error}") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        DataError: the file cannot be read or is not text.
    """
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a text file") from error


def spread(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """At most ``limit`` rows, taken evenly from the whole length, so that a sorted list keeps all its classes."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[index] for index in np.linspace(0, len(rows) - 1, limit).astype(int)]
