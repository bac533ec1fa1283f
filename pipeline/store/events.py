"""Events in an SQLite file, with their snapshots; clips lie beside it as files."""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from engines.errors import StoreError
from pipeline.database import FileKind, SqliteFile
from pipeline.store.people import rename, showing
from pipeline.store.query import ANYTHING, Cursor, EventQuery
from pipeline.store.search import IndexWalk

FILE: Final = "events.sqlite"
CLIPS: Final = "clips"  # folder beside it
COLUMNS: Final = "id, at_ns, stream, event, kind, track, label, person, place, score, snapshot IS NOT NULL, clip, body"
STORED: Final = ("at_ns", "stream", "event", "kind", "track", "label", "person", "place", "score", "body", "snapshot")
INSERT: Final = f"INSERT INTO events ({', '.join(STORED)}) VALUES ({', '.join('?' * len(STORED))})"
PAGE: Final = 50
ORPHAN_S: Final = 10.0  # a clip is an event's moments after it was begun
READ: Final = 2**20  # bytes of the file that are looked through at once
AT_ONCE: Final = 1000  # rows of one transaction, when many are deleted: others may write in between

FORMAT_1: Final = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns INTEGER NOT NULL,
    stream TEXT NOT NULL,
    event TEXT NOT NULL,
    kind TEXT NOT NULL,
    track INTEGER,
    label TEXT,
    person TEXT,
    place TEXT,
    score REAL,
    body BLOB NOT NULL,
    clip TEXT,
    snapshot BLOB
);
CREATE INDEX by_time ON events (at_ns, stream, kind, event, label, person, place, track, score);
CREATE INDEX by_stream ON events (stream, at_ns, kind, event, label, score);
CREATE INDEX by_label ON events (label, at_ns, stream, kind, event, score);
CREATE INDEX by_person ON events (person, at_ns) WHERE person IS NOT NULL;
CREATE INDEX by_place ON events (place, at_ns) WHERE place IS NOT NULL;
"""
FORMAT_2: Final = "CREATE INDEX by_clip ON events (clip) WHERE clip IS NOT NULL;\n"
# Every filter has an index, and so has every pair of those that many events have; pipeline/store/search.py chooses. The
# number stands behind the time, or rows that lie in order would be sorted again.
FORMAT_3: Final = """
DROP INDEX by_time;
DROP INDEX by_stream;
DROP INDEX by_label;
DROP INDEX by_person;
DROP INDEX by_place;
CREATE INDEX by_time ON events (at_ns, id, stream, kind, event, label, person, place, track, score);
CREATE INDEX by_stream ON events (stream, at_ns, id, kind, event, label, score);
CREATE INDEX by_label ON events (label, at_ns, id, stream, kind, event, score);
CREATE INDEX by_person ON events (person, at_ns, id, stream, kind, event, label, place, score) WHERE person IS NOT NULL;
CREATE INDEX by_place ON events (place, at_ns, id, stream, kind, event, label, person, score) WHERE place IS NOT NULL;
CREATE INDEX by_track ON events (track, at_ns) WHERE track IS NOT NULL;
CREATE INDEX by_event ON events (event, at_ns, id, stream, kind, label, score);
CREATE INDEX by_kind ON events (kind, at_ns, id, stream, event, label, score);
CREATE INDEX by_score ON events (score, at_ns, id, stream, kind, event, label) WHERE score IS NOT NULL;
CREATE INDEX by_stream_label ON events (stream, label, at_ns);
CREATE INDEX by_stream_kind ON events (stream, kind, at_ns);
CREATE INDEX by_stream_event ON events (stream, event, at_ns);
CREATE INDEX by_label_kind ON events (label, kind, at_ns);
CREATE INDEX by_label_event ON events (label, event, at_ns);
CREATE INDEX by_kind_event ON events (kind, event, at_ns);
CREATE INDEX by_place_event ON events (place, event, at_ns) WHERE place IS NOT NULL;
CREATE INDEX by_place_kind ON events (place, kind, at_ns) WHERE place IS NOT NULL;
"""
STORE: Final = FileKind(
    word="event store",
    application_id=0x54524B45,  # "TRKE"
    formats=(FORMAT_1, FORMAT_2, FORMAT_3),
    error=StoreError,
    damaged=StoreError,
    remedy="put a copy of {path} in its place, or move it away, and a new one is begun",
    # A commit is in the file's log before it is told done, so it outlives the death of the program.
    pragmas=("auto_vacuum = INCREMENTAL", "secure_delete = ON", "synchronous = NORMAL"),
)


def boxes_of(clip: Path) -> Path:
    """Return the file beside a clip that holds the boxes of its frames; a clip need not have one."""
    return clip.with_suffix(".boxes")


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be stored."""

    at_ns: int  # Unix time
    stream: str
    event: str
    kind: str
    track: int | None
    label: str | None
    person: str | None  # the name of the gallery that it is about
    place: str | None  # the zone or line
    score: float | None
    body: bytes  # all of it, JSON, without its picture
    snapshot: bytes | None  # JPEG


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the store."""

    id: int
    at_ns: int
    stream: str
    event: str
    kind: str
    track: int | None
    label: str | None
    person: str | None
    place: str | None
    score: float | None
    has_snapshot: bool
    clip: str | None  # file name in the clips folder
    body: msgspec.Raw  # JSON


class EventCount(msgspec.Struct, frozen=True):
    """How many events there were with a label, in a step of time."""

    at_ns: int  # when the step begins, Unix time
    label: str | None
    count: int


class Page(msgspec.Struct, frozen=True):
    """Events, newest first, and where the next page goes on; None: there is none."""

    events: tuple[StoredEvent, ...]
    next: str | None


class EventStore:
    """A folder with events, snapshots and clips. Thread-safe; other processes may have it open too.

    Args:
        folder: made when it is missing and ``create`` is given.
        create: whether it may be made.

    Raises:
        StoreError: it cannot be opened, or is something else.
    """

    def __init__(self, folder: str | Path, *, create: bool = False) -> None:
        self.folder = Path(folder)
        if create:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"event store {folder}: cannot be made: {error.strerror}") from error
        self.file = SqliteFile(self.folder / FILE, STORE, create)

    def add(self, events: Iterable[NewEvent]) -> list[int]:
        """Store events, all of them or none; return their numbers, which rise."""
        with self.file.transaction() as db:
            return [int(db.execute(INSERT, [getattr(each, name) for name in STORED]).lastrowid or 0) for each in events]

    def page(self, query: EventQuery = ANYTHING, limit: int = PAGE, cursor: str | None = None) -> Page:
        """Return the newest events that a query asks for, or those that follow a page.

        A page that looked through many events that do not fit may have fewer than ``limit``, or none, though more
        follow: ``next`` alone tells the end.

        Args:
            query: what they must be like.
            limit: of events, 1 to 1000.
            cursor: ``next`` of the page before.

        Raises:
            StoreError: the limit or the cursor is not allowed.
        """
        if not 1 <= limit <= AT_ONCE:
            raise StoreError(f"limit must be 1 to {AT_ONCE}, got {limit}")
        return self._page(IndexWalk.to(self.file, query), limit, None if cursor is None else Cursor.parse(cursor))

    def _page(self, way: IndexWalk, limit: int, cursor: Cursor | None) -> Page:
        numbers, following = way.page(self.file, limit, cursor)
        marks = ", ".join("?" * len(numbers))
        rows = self.file.rows(
            f"SELECT {COLUMNS} FROM events WHERE id IN ({marks}) ORDER BY at_ns DESC, id DESC", *numbers
        )
        return Page(tuple(map(_stored, rows)), None if following is None else str(following))

    def get(self, number: int) -> StoredEvent:
        """Return an event; StoreError where there is none of this number."""
        rows = self.file.rows(f"SELECT {COLUMNS} FROM events WHERE id = ?", number)
        if not rows:
            raise StoreError(f"event {number}: is not in the store, or not any more")
        return _stored(rows[0])

    def snapshot(self, number: int) -> bytes | None:
        """Return the JPEG of an event; None: it has none; StoreError where there is no such event."""
        rows = self.file.rows("SELECT snapshot FROM events WHERE id = ?", number)
        if not rows:
            raise StoreError(f"event {number}: is not in the store, or not any more")
        found: bytes | None = rows[0][0]
        return found

    def clip_file(self, event: StoredEvent) -> Path | None:
        """Return the path of an event's clip; None: it has none."""
        return None if event.clip is None else self.folder / CLIPS / event.clip

    def attach_clip(self, number: int, name: str) -> None:
        """Say that the file ``name`` of the clips folder shows an event."""
        with self.file.transaction() as db:
            if db.execute("UPDATE events SET clip = ? WHERE id = ?", (name, number)).rowcount == 0:
                raise StoreError(f"event {number}: is not in the store, or not any more")

    def delete_orphans(self, younger_s: float = ORPHAN_S) -> int:
        """Delete clips that no event has, as a program leaves them that is killed; return how many there were.

        Args:
            younger_s: what was written to so lately may be a clip that is being begun, and stays.
        """
        folder, gone = self.folder / CLIPS, 0
        if not folder.is_dir():
            return 0
        old_s = time.time() - younger_s
        for path in folder.iterdir():
            with suppress(FileNotFoundError):  # deleted meanwhile
                if path.stat().st_mtime <= old_s and not self.file.rows(
                    "SELECT 1 FROM events WHERE clip = ? LIMIT 1", path.with_suffix(".mp4").name
                ):
                    path.unlink()
                    gone += 1
        return gone

    def matching(self, query: EventQuery) -> Iterator[StoredEvent]:
        """Yield all events that a query asks for, newest first, page by page."""
        way = IndexWalk.to(self.file, query)
        cursor: Cursor | None = None
        while True:
            found = self._page(way, AT_ONCE, cursor)
            yield from found.events
            if found.next is None:
                return
            cursor = Cursor.parse(found.next)

    def count(self, query: EventQuery = ANYTHING) -> int:
        """Return how many events a query asks for."""
        where, values = query.where()
        index = IndexWalk.to(self.file, query).index
        return int(self.file.rows(f"SELECT count(*) FROM events INDEXED BY {index} WHERE {where}", *values)[0][0])

    def counts(self, query: EventQuery, step_ns: int) -> list[EventCount]:
        """Return how many events a query asks for in each step of time that has any, by label, the oldest first.

        Args:
            query: what they must be like.
            step_ns: length of a step, 1 or more; steps begin at its multiples since 1970.
        """
        where, values = query.where()
        rows = self.file.rows(
            f"SELECT at_ns / ? AS step, label, count(*) FROM events INDEXED BY {query.for_counts()} WHERE {where}"
            " GROUP BY step, label ORDER BY step, label",
            step_ns,
            *values,
        )
        return [EventCount(step * step_ns, label, count) for step, label, count in rows]

    def delete(self, numbers: Sequence[int]) -> int:
        """Delete events with their snapshots, and the clips that no other event has; return how many there were."""
        gone = 0
        for begin in range(0, len(numbers), AT_ONCE):
            gone += self._delete_some(numbers[begin : begin + AT_ONCE])
        return gone

    def _delete_some(self, numbers: Sequence[int]) -> int:
        marks = ", ".join("?" * len(numbers))
        with self.file.transaction() as db:
            clips = {name for (name,) in db.execute(f"SELECT clip FROM events WHERE id IN ({marks})", numbers) if name}
            gone = db.execute(f"DELETE FROM events WHERE id IN ({marks})", numbers).rowcount
            used = {name for name in clips if db.execute("SELECT 1 FROM events WHERE clip = ?", (name,)).fetchone()}
        self._delete_clips(clips - used)
        return gone

    def _delete_clips(self, names: Iterable[str]) -> None:
        """Delete files, after their rows: a clip without an event is found later, an event without clip is not."""
        for name in names:
            clip = self.folder / CLIPS / name
            clip.unlink(missing_ok=True)
            boxes_of(clip).unlink(missing_ok=True)

    def delete_matching(self, query: EventQuery) -> int:
        """Delete all events that a query asks for; return how many there were."""
        where, values = query.where()
        index = IndexWalk.to(self.file, query).index
        select = f"SELECT id FROM events INDEXED BY {index} WHERE {where} LIMIT {AT_ONCE}"
        gone = 0
        while rows := self.file.rows(select, *values):
            gone += self._delete_some([number for (number,) in rows])
        return gone

    def forget_person(self, name: str, clips: bool = False) -> int:
        """Take a person's name and snapshots out of all events, which stay; return how many named them.

        Args:
            name: of the gallery.
            clips: whether the clips of what shows them go, too, though others may be seen in them.
        """
        with self.file.transaction() as db:
            shown = showing(db, name)
            gone = {clip for clip in shown.values() if clip is not None} if clips else set()
            # The name first: where a row becomes small, SQLite moves others, and leaves copies of them.
            changed = rename(db, name, None)
            db.executemany("UPDATE events SET snapshot = NULL WHERE id = ?", [(number,) for number in shown])
            db.executemany("UPDATE events SET clip = NULL WHERE clip = ?", [(clip,) for clip in gone])
        self._delete_clips(gone)
        self.file.empty_log()
        return changed

    def showing(self, name: str) -> list[int]:
        """Return the numbers of the events that name a person, and of those of the same face and body."""
        with self.file.transaction() as db:
            return sorted(showing(db, name), reverse=True)

    def scrub(self, name: str) -> None:
        """Make the indexes anew where a name that was forgotten is still found in the file.

        SQLite overwrites what is deleted, but not what it moved within an index, when a page of it was full.
        """
        if not _holds(self.file.path, name.encode()):
            return
        for (index,) in self.file.rows("SELECT name FROM sqlite_master WHERE type = 'index' AND sql NOT NULL"):
            with self.file.transaction() as db:  # one by one: others may write in between
                db.execute(f"REINDEX {index}")
        self.file.empty_log()

    def rename_person(self, name: str, to: str) -> int:
        """Let all events name a person otherwise, so that they are found and forgotten by it; return how many did."""
        with self.file.transaction() as db:
            return rename(db, name, to)

    def set_person(self, numbers: Sequence[int], name: str | None) -> None:
        """Say whom events are about, None: nobody who is known; that they were published otherwise stays as it is."""
        with self.file.transaction() as db:
            db.executemany("UPDATE events SET person = ? WHERE id = ?", [(name, number) for number in numbers])

    def size(self) -> int:
        """Return the bytes that events, snapshots and clips take."""
        pages, free, page = (
            int(self.file.rows(f"PRAGMA {name}")[0][0]) for name in ("page_count", "freelist_count", "page_size")
        )
        clips = self.folder / CLIPS
        files = clips.iterdir() if clips.is_dir() else ()
        return (pages - free) * page + sum(file.stat().st_size for file in files)

    def give_back(self) -> None:
        """Give what was deleted back to the file system."""
        self.file.give_back()
        self.file.empty_log()

    def free(self) -> int:
        """Return the bytes that are free where the store lies."""
        return shutil.disk_usage(self.folder).free

    def close(self) -> None:
        """Close the file; may be called twice."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _stored(row: tuple[Any, ...]) -> StoredEvent:
    *values, has_snapshot, clip, body = row
    return StoredEvent(
        **dict(zip(("id", *STORED[:9]), values, strict=True)),
        has_snapshot=bool(has_snapshot),
        clip=clip,
        body=msgspec.Raw(body),
    )


def _holds(file: Path, wanted: bytes) -> bool:
    """Whether a file has these bytes anywhere."""
    kept = b""
    with file.open("rb") as opened:
        while part := opened.read(READ):
            if wanted in (whole := kept + part):
                return True
            kept = whole[-len(wanted) :]
    return False
