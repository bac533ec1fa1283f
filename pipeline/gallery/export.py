"""A gallery as JSON: to export it, and to import it on another machine."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import numpy as np

from engines.arrays import Float
from engines.errors import GalleryError
from engines.undecodable import UNDECODABLE
from pipeline.frames.clock import timestamp
from pipeline.gallery.gallery import VIEW, Gallery, clean_name, clean_note

MAX_MISSING: Final = 2**30  # bytes at the end of a gallery that is cut off; a header that says more is damaged, too
UNIT_TOLERANCE: Final = 1e-3  # of a vector's length; what float32 leaves is a thousandth of that


class ExportedEmbedding(msgspec.Struct, frozen=True):
    """One enrolled view; ``vector`` has unit length, ``photo`` is the aligned face as JPEG, base64 in JSON."""

    source: str
    quality: Annotated[float, msgspec.Meta(ge=0, le=1)]
    added_at: str
    vector: Annotated[list[float], msgspec.Meta(min_length=1)]
    photo: bytes | None


class ExportedPerson(msgspec.Struct, frozen=True):
    """A person with all views."""

    name: str
    added_at: str
    consent: str | None
    expires_at: str | None
    embeddings: Annotated[list[ExportedEmbedding], msgspec.Meta(min_length=1)]


class Export(msgspec.Struct, frozen=True):
    """The whole gallery; ``model`` is the fingerprint of the model that made the vectors."""

    model: str
    people: list[ExportedPerson]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import changed."""

    people: list[str]
    embeddings: int
    replaced: list[str]  # those of the people who had been there


def export_gallery(gallery: Gallery, only: str | None = None) -> Export:
    """Return everything a gallery holds, or all of one person, for ``msgspec.json.encode``."""
    rows = gallery.file.rows(
        "SELECT name, people.added_at, consent, expires_at, source, quality, embeddings.added_at, vector, crop"
        " FROM embeddings JOIN people ON person = people.id WHERE name = coalesce(?, name)"
        " ORDER BY name, embeddings.id",
        only,
    )
    people = []
    for (name, since, consent, expires_at), group in groupby(rows, key=lambda row: row[:4]):
        views = [
            ExportedEmbedding(source, quality, added_at, np.frombuffer(vector, np.float32).tolist(), crop)
            for source, quality, added_at, vector, crop in (row[4:] for row in group)
        ]
        people.append(ExportedPerson(name, since, consent, expires_at, views))
    return Export(gallery.model, people)


def salvage(path: Path) -> tuple[Export, int]:
    """Return what can be read of a damaged gallery, and how many people and views are lost, as far as that shows.

    Every row is read on its own, so that a page that cannot be read costs what lies in it alone. Nothing is written.

    Raises:
        GalleryError: nothing can be read.
    """
    with closing(_opened_damaged(path)) as db:
        try:
            model = str(db.execute("SELECT fingerprint FROM model").fetchone()[0])
        except (sqlite3.Error, TypeError) as error:
            raise GalleryError(f"gallery {path}: is damaged, and nothing of it can be read: {error}") from error
        people, lost_people = _rows_read(db, "people", "id, name, added_at, consent, expires_at")
        rows, lost_views = _rows_read(db, "embeddings", "person, source, quality, added_at, vector, crop")
    numbers = {row[0] for row in people}
    views: dict[int, list[ExportedEmbedding]] = {}
    for person, source, quality, added_at, stored, crop in rows:
        vector = np.frombuffer(stored[: len(stored) // 4 * 4], np.float32)
        if person in numbers and abs(float(np.linalg.norm(vector)) - 1.0) <= UNIT_TOLERANCE:
            view = ExportedEmbedding(source, quality, added_at, vector.tolist(), crop)
            views.setdefault(person, []).append(view)
    saved = [
        ExportedPerson(name, added_at, consent, expires_at, views[number])
        for number, name, added_at, consent, expires_at in people
        if number in views
    ]
    unused = len(rows) - sum(map(len, views.values())) + len(people) - len(saved)
    return Export(model, saved), lost_people + lost_views + unused


def _opened_damaged(path: Path) -> sqlite3.Connection:
    """Open a gallery to read it; where its end is cut off, a copy in memory with empty pages in its place.

    SQLite reads nothing at all of a file that is shorter than its header says (its file format, 1.3).
    """
    with path.open("rb") as file:
        head = file.read(100)
        missing = int.from_bytes(head[16:18]) * int.from_bytes(head[28:32]) - path.stat().st_size
        if not 0 < missing <= MAX_MISSING:
            return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        file.seek(0)
        content = bytearray(file.read() + bytes(missing))
    content[18:20] = b"\1\1"  # no write-ahead log, which memory has not
    db = sqlite3.connect(":memory:")
    db.deserialize(bytes(content))
    return db


def _rows_read(db: sqlite3.Connection, table: str, columns: str) -> tuple[list[tuple[Any, ...]], int]:
    """Return the rows of a table that can be read, by their number, and how many cannot."""
    found, lost = [], 0
    for number in range(1, max(_largest_id(db, table, order) for order in ("ASC", "DESC")) + 1):
        try:
            found += db.execute(f"SELECT {columns} FROM {table} WHERE id = ?", (number,)).fetchall()
        except sqlite3.DatabaseError:
            lost += 1
    return found, lost


def _largest_id(db: sqlite3.Connection, table: str, order: str) -> int:
    """The largest number on the way along a table, which a page that cannot be read ends."""
    largest = 0
    try:
        for (number,) in db.execute(f"SELECT id FROM {table} ORDER BY id {order}"):
            largest = max(largest, number)
    except sqlite3.DatabaseError:
        return largest
    return largest


def read_export(file: Path) -> Export:
    """Read and check an exported file.

    Raises:
        GalleryError: it cannot be read, is no export, or holds what no gallery does.
    """
    try:
        export = msgspec.json.decode(file.read_bytes(), type=Export)
    except OSError as error:
        raise GalleryError(f"export {file}: cannot be read: {error.strerror}") from error
    except UNDECODABLE as error:
        raise GalleryError(f"export {file}: is not one of a gallery: {error}") from error
    try:
        people = [_checked(person) for person in export.people]
        twice = [name for name, count in Counter(person.name for person in people).items() if count > 1]
        if twice:
            raise GalleryError(f"{', '.join(twice)} must be in it once, not more often")
        if len({len(view.vector) for person in people for view in person.embeddings}) > 1:
            raise GalleryError("its vectors differ in length")
    except GalleryError as error:
        raise GalleryError(f"export {file}: {error}") from error
    return msgspec.structs.replace(export, people=people)


def import_people(path: Path, export: Export, replace: bool = False) -> Imported:
    """Import all people of a checked export into a gallery, or none.

    Args:
        path: the gallery; made when it is missing.
        export: of a gallery of the same model.
        replace: let people take the place of those of the same name; without, that is refused.

    Raises:
        GalleryError: the gallery holds embeddings of another model or a person of that name, or cannot be used.
    """
    _check_model(path, export)
    with Gallery(path, export.model) as gallery:
        with gallery.changing() as db:
            if export.people:  # all vectors of an export are of one length
                gallery.check_length(db, len(export.people[0].embeddings[0].vector))
            there = {name for (name,) in db.execute("SELECT name FROM people")}
            replaced = sorted(there & {person.name for person in export.people})
            if replaced and not replace:
                raise GalleryError(
                    f"gallery {path}: has {', '.join(replaced)} already: nobody was imported; with --replace those of "
                    "the export take their place"
                )
            db.executemany("DELETE FROM people WHERE name = ?", [(name,) for name in replaced])
            for person in export.people:
                row = db.execute(
                    "INSERT INTO people (name, added_at, consent, expires_at) VALUES (?, ?, ?, ?)",
                    (person.name, person.added_at, person.consent, person.expires_at),
                ).lastrowid
                views = [(row, *view) for view in _rows(person)]
                db.executemany(f"INSERT INTO embeddings ({VIEW}) VALUES (?, ?, ?, ?, ?, ?)", views)
        if replaced:
            gallery.file.forget()
    names = [person.name for person in export.people]
    return Imported(names, sum(len(person.embeddings) for person in export.people), replaced)


def _check_model(path: Path, export: Export) -> None:
    if not path.is_file():
        return
    with Gallery(path) as gallery:
        if gallery.size and gallery.model != export.model:
            raise GalleryError(
                f"gallery {path}: was made with model {gallery.model}, and the export with {export.model}: import it "
                "into a new gallery, and take that along with `trunkline gallery reenroll`"
            )


def _checked(person: ExportedPerson) -> ExportedPerson:
    """Return the person as it is stored; GalleryError where no gallery would."""
    return msgspec.structs.replace(
        person,
        name=clean_name(person.name),
        added_at=_moment(person.name, person.added_at),
        consent=None if person.consent is None else clean_note(person.consent),
        expires_at=None if person.expires_at is None else _moment(person.name, person.expires_at),
        embeddings=[_checked_view(person.name, view) for view in person.embeddings],
    )


def _checked_view(name: str, view: ExportedEmbedding) -> ExportedEmbedding:
    if not abs(float(np.linalg.norm(_vector(view))) - 1.0) <= UNIT_TOLERANCE:  # what is not finite is not either
        raise GalleryError(f"a vector of {name!r} has not unit length")
    return msgspec.structs.replace(view, added_at=_moment(name, view.added_at))


def _moment(name: str, text: str) -> str:
    """Return an RFC 3339 moment in the one form that can be compared as text."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        return timestamp(round(moment.timestamp() * 1000) * 1_000_000)
    except (ValueError, OverflowError):
        raise GalleryError(f"{name!r} has {text!r}, which is not a moment with its time zone") from None


def _rows(person: ExportedPerson) -> Iterator[tuple[bytes, str, float, str, bytes | None]]:
    for view in person.embeddings:
        yield _vector(view).tobytes(), view.source, view.quality, view.added_at, view.photo


def _vector(view: ExportedEmbedding) -> Float:
    return np.array(view.vector, np.float32)
