"""The way to the events that a query asks for: which index, how far along it, and where the next page goes on."""

from dataclasses import dataclass
from typing import Any, Final

from pipeline.database import SqliteFile
from pipeline.store.query import Cursor, EventQuery, joined, led_by

FEW: Final = 20_000  # rows that are sorted within some milliseconds, whatever their order
LOOK: Final = 100_000  # rows that one page looks through at the most: some 30 ms


@dataclass(frozen=True, slots=True)
class IndexWalk:
    """An index to go along, newest first, to what a query asks for."""

    query: EventQuery
    index: str

    @staticmethod
    def to(file: SqliteFile, query: EventQuery) -> "IndexWalk":
        """Return the way to few rows where an index knows one, else the one along which rows come in order."""
        for index in query.indexes():
            led = led_by(index)
            where, values = joined(each for each in query.conditions() if each.column in led)
            if _count(file, index, where, values) < FEW:
                return IndexWalk(query, index)
        return IndexWalk(query, query.in_order())

    def page(self, file: SqliteFile, limit: int, cursor: Cursor | None) -> tuple[list[Any], Cursor | None]:
        """Return the numbers of the newest events, and where the next page goes on; None: there is none.

        There are fewer than ``limit`` where ``LOOK`` rows were looked through.
        """
        led = led_by(self.index)
        where, values = joined(each for each in self.query.conditions() if each.column in led)
        fits, wanted = joined(each for each in self.query.conditions() if each.column not in led)
        if cursor is not None:
            where += " AND (at_ns, id) < (?, ?)"
            values += [cursor.at_ns, cursor.id]
        along = f"FROM events INDEXED BY {self.index} WHERE {where} ORDER BY at_ns DESC, id DESC LIMIT"
        rows = file.rows(
            f"SELECT at_ns, id FROM (SELECT at_ns, id, {fits} AS fits {along} {LOOK}) WHERE fits LIMIT {limit + 1}",
            *wanted,
            *values,
        )
        if len(rows) > limit:
            return [number for _, number in rows[:limit]], Cursor(*rows[limit - 1])
        last = file.rows(f"SELECT at_ns, id {along} 1 OFFSET {LOOK - 1}", *values)
        return [number for _, number in rows], Cursor(*last[0]) if last else None


def _count(file: SqliteFile, index: str, where: str, values: list[object]) -> int:
    """How many rows an index leads to, as far as it matters."""
    select = f"SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY {index} WHERE {where} LIMIT {FEW})"
    return int(file.rows(select, *values)[0][0])
