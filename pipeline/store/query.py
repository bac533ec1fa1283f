"""What is looked for in the store, as SQL."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from engines.errors import StoreError

BY_TIME: Final = "by_time"
MAX_NS: Final = 2**63 - 1  # SQLite's largest number, in the year 2262: what is asked for may be later
# Indexes by what they are led by, the ones that tell most first. Behind it lies the time, so that where it is one value
# of each, rows come in order.
INDEXES: Final = {
    "by_track": ("track",),
    "by_person": ("person",),
    "by_place_event": ("place", "event"),
    "by_place_kind": ("place", "kind"),
    "by_place": ("place",),
    "by_stream_label": ("stream", "label"),
    "by_label_kind": ("label", "kind"),
    "by_label_event": ("label", "event"),
    "by_stream_kind": ("stream", "kind"),
    "by_stream_event": ("stream", "event"),
    "by_kind_event": ("kind", "event"),
    "by_label": ("label",),
    "by_stream": ("stream",),
    "by_event": ("event",),
    "by_kind": ("kind",),
    "by_score": ("score",),
}

# Those that hold all that a count by time and label looks at, by the column that leads them, the ones that tell most
# first; behind a column that is not one value rows lie in no order of time, which a count does not need.
COUNTING: Final = {
    "track": "by_track",
    "person": "by_person",
    "place": "by_place",
    "label": "by_label",
    "stream": "by_stream",
    "event": "by_event",
}


@dataclass(frozen=True, slots=True)
class ColumnFilter:
    """What one column must be like."""

    column: str
    sql: str
    values: tuple[object, ...]

    @property
    def is_one(self) -> bool:
        """Whether it must be one value."""
        return len(self.values) == 1 and self.column not in ("score", "at_ns")


class EventQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What events must be like; what is None or empty may be anything."""

    streams: tuple[str, ...] = ()  # any of these
    events: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    label: str | None = None
    person: str | None = None  # a name of the gallery
    place: str | None = None  # a zone or line
    track: int | None = None
    min_score: float | None = None
    since_ns: int | None = None  # Unix time, that included
    until_ns: int | None = None  # not that

    def conditions(self) -> list[ColumnFilter]:
        """Return what each column must be like."""
        several = (("stream", self.streams), ("event", self.events), ("kind", self.kinds))
        one = (("label", self.label), ("person", self.person), ("place", self.place), ("track", self.track))
        times = [None if at is None else max(-MAX_NS, min(at, MAX_NS)) for at in (self.since_ns, self.until_ns)]
        bounds = (("score", ">=", self.min_score), ("at_ns", ">=", times[0]), ("at_ns", "<", times[1]))
        return [
            *(ColumnFilter(name, f"{name} IN ({', '.join('?' * len(some))})", some) for name, some in several if some),
            *(ColumnFilter(name, f"{name} = ?", (value,)) for name, value in one if value is not None),
            *(ColumnFilter(name, f"{name} {sign} ?", (value,)) for name, sign, value in bounds if value is not None),
        ]

    def where(self) -> tuple[str, list[object]]:
        """Return the SQL condition, and its values."""
        return joined(self.conditions())

    def indexes(self) -> Iterator[str]:
        """Yield the indexes that may lead to few rows, the ones that tell most first."""
        columns = {each.column for each in self.conditions()}
        if "at_ns" in columns:
            yield BY_TIME
        in_pairs: set[str] = set()
        for name, led in INDEXES.items():
            if columns.issuperset(led) and (len(led) > 1 or led[0] not in in_pairs):
                in_pairs |= set(led) if len(led) > 1 else set()
                yield name

    def in_order(self) -> str:
        """Return the index along which all that may fit comes in the order of time."""
        ones = {each.column for each in self.conditions() if each.is_one}
        return next((name for name, led in INDEXES.items() if ones.issuperset(led)), BY_TIME)

    def for_counts(self) -> str:
        """Return the index along which all that fits is counted by time and label, without a look at its rows."""
        columns = {each.column for each in self.conditions()}
        return next((index for column, index in COUNTING.items() if column in columns), BY_TIME)


def joined(conditions: Iterable[ColumnFilter]) -> tuple[str, list[object]]:
    """Return conditions as one, and their values."""
    given = list(conditions)
    return " AND ".join(each.sql for each in given) or "TRUE", [value for each in given for value in each.values]


def led_by(index: str) -> tuple[str, ...]:
    """Return the columns that an index finds rows by, the time among them where it is of any use."""
    return ("score",) if index == "by_score" else (*INDEXES.get(index, ()), "at_ns")


ANYTHING: Final = EventQuery()


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event of a page: the next one goes on behind it."""

    at_ns: int
    id: int

    def __str__(self) -> str:
        return f"{self.at_ns}-{self.id}"

    @staticmethod
    def parse(text: str) -> "Cursor":
        """Return the cursor of its text; StoreError where it is none."""
        found = re.fullmatch(r"(-?\d{1,19})-(\d{1,18})", text, re.ASCII)
        if found is None:
            raise StoreError(f"cursor must be one that a page of events gave, got {text[:60]!r}")
        return Cursor(int(found[1]), int(found[2]))
