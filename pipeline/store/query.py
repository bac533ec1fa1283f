"""What is looked for in the store, as SQL."""

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from engines.errors import StoreError

# Which index leads to the fewest rows, best first; what else is asked for is looked up in those.
INDEX_OF: Final = (("person", "by_person"), ("place", "by_place"), ("label", "by_label"), ("streams", "by_stream"))


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

    def where(self) -> tuple[str, list[object]]:
        """Return the SQL condition, and its values."""
        parts: list[str] = []
        values: list[object] = []
        for column, several in (("stream", self.streams), ("event", self.events), ("kind", self.kinds)):
            if several:
                parts.append(f"{column} IN ({', '.join('?' * len(several))})")
                values += several
        for condition, value in (
            ("label = ?", self.label),
            ("person = ?", self.person),
            ("place = ?", self.place),
            ("track = ?", self.track),
            ("score >= ?", self.min_score),
            ("at_ns >= ?", self.since_ns),
            ("at_ns < ?", self.until_ns),
        ):
            if value is not None:
                parts.append(condition)
                values.append(value)
        return " AND ".join(parts) or "TRUE", values

    @property
    def index(self) -> str:
        """The index to go along, newest first."""
        for name, index in INDEX_OF:
            value = getattr(self, name)
            if value and (name != "streams" or len(value) == 1):
                return index
        return "by_time"


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
