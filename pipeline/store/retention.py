"""How long events are kept, and how much of the disk they may take."""

import time
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
import structlog

from pipeline.store.events import EventStore

DAY_NS: Final = 86_400 * 10**9
GB: Final = 10**9
OLDEST: Final = 500  # events that are deleted at a time where there is too little room

Days = Annotated[float, msgspec.Meta(gt=0.0)]

log = structlog.get_logger()


class KeepRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long the events of a stream, of a label, or of both are kept; the one that says most holds."""

    days: Days
    stream: str | None = None
    label: str | None = None

    @property
    def rank(self) -> int:
        """How much it says: a stream more than a label."""
        return 2 * (self.stream is not None) + (self.label is not None)

    def where(self) -> tuple[str, list[object]]:
        """Return the SQL condition of the events that it is for, and its values."""
        wanted = {"stream = ?": self.stream, "label IS ?": self.label}
        chosen = {condition: value for condition, value in wanted.items() if value is not None}
        return " AND ".join(chosen) or "TRUE", list(chosen.values())


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept."""

    keep_days: Days = 30.0
    keep_gb: Annotated[float, msgspec.Meta(gt=0.0)] = 10.0  # of events, snapshots and clips together, in 10^9 bytes
    min_free_gb: Annotated[float, msgspec.Meta(ge=0.0)] = 2.0  # of the disk: the oldest go before less is free
    keep: tuple[KeepRule, ...] = ()  # of some streams and labels, for other times


def prune(store: EventStore, retention: Retention, now_ns: int | None = None) -> int:
    """Delete what is too old, then the oldest while there is too much or too little of the disk is free.

    Args:
        store: from which.
        retention: what is kept.
        now_ns: Unix time; None: now.

    Returns:
        How many events were deleted.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    gone = sum(map(store.delete, _too_old(store, retention, now_ns)))
    if gone:
        store.give_back()
    crowded = 0
    while _crowded(store, retention):
        rows = store.file.rows(f"SELECT id FROM events INDEXED BY by_time ORDER BY at_ns, id LIMIT {OLDEST}")
        if not rows:
            break
        crowded += store.delete([number for (number,) in rows])
        store.give_back()
    if crowded:
        log.warning("event store is full: the oldest events were deleted", events=crowded, folder=str(store.folder))
    return gone + crowded


def _crowded(store: EventStore, retention: Retention) -> bool:
    return store.size() > retention.keep_gb * GB or store.free() < retention.min_free_gb * GB


def _too_old(store: EventStore, retention: Retention, now_ns: int) -> Iterator[list[int]]:
    """Numbers of events whose time is over, some at a time; each is deleted before the next are asked for."""
    rules = sorted((*retention.keep, KeepRule(days=retention.keep_days)), key=lambda rule: -rule.rank)
    earlier: list[str] = []
    values: list[object] = []
    for rule in rules:
        own, own_values = rule.where()
        where = " AND ".join([f"({own})", *(f"NOT ({other})" for other in earlier)])
        query = f"SELECT id FROM events INDEXED BY by_time WHERE at_ns < ? AND {where} LIMIT {OLDEST}"
        until_ns = now_ns - round(rule.days * DAY_NS)
        while rows := store.file.rows(query, until_ns, *own_values, *values):
            yield [number for (number,) in rows]
        earlier.append(own)
        values += own_values
