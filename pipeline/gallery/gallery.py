"""The gallery: enrolled people and their embeddings, in one SQLite file that several processes may use at once."""

import sqlite3
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from engines.arrays import Float
from engines.errors import GalleryError
from pipeline.frames.clock import timestamp
from pipeline.gallery.file import GalleryFile

VIEW = "person, vector, source, quality, added_at, crop"  # columns of embeddings
MAX_NAME = 100  # characters
MAX_CONSENT = 1000  # characters
CONTROL = {"Cc", "Cs", "Zl", "Zp"}  # Unicode categories: control, lone surrogate, line and paragraph separator


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of an enrolment; a value of None keeps the old one."""

    consent: str | None = None  # a note on what they agreed to, and when
    expires_at: str | None = None  # RFC 3339, UTC: from this moment on they are not matched


@dataclass(frozen=True, slots=True)
class Person:
    """A person in the gallery."""

    name: str
    embeddings: int
    photos: int  # embeddings whose photo is kept
    added_at: str  # RFC 3339, UTC
    consent: str | None
    expires_at: str | None  # RFC 3339, UTC
    expired: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The embeddings of all who had not expired, at one moment."""

    names: tuple[str, ...]  # (N,) of each row, rows of one person together
    vectors: Float  # (N, D) unit vectors
    expires: Mapping[str, str] = field(default_factory=dict)  # name -> RFC 3339 moment, UTC, of those who will

    def at(self, moment: str) -> "Snapshot":
        """Return the snapshot without people who have expired at an RFC 3339 moment, UTC."""
        gone = {name for name, expires_at in self.expires.items() if expires_at <= moment}
        if not gone:
            return self
        left = [row for row, name in enumerate(self.names) if name not in gone]
        expires = {name: expires_at for name, expires_at in self.expires.items() if name not in gone}
        return Snapshot(tuple(self.names[row] for row in left), self.vectors[left], expires)


@dataclass(frozen=True, slots=True)
class StoredPhoto:
    """The aligned face that an embedding was made from."""

    embedding: int  # its row in the file
    name: str
    jpeg: bytes | None  # None where it was not kept


class Gallery:
    """People and their embeddings. Thread-safe; other processes see a change as soon as it is made.

    Args:
        path: the SQLite file. It is made when it is missing and a fingerprint is given.
        fingerprint: of the model whose embeddings go in and out; None to look at a gallery whatever its model.

    Raises:
        GalleryError: the file is missing, is no gallery, cannot be used, or holds embeddings of another model.
    """

    def __init__(self, path: str | Path, fingerprint: str | None = None) -> None:
        self.path = Path(path)
        self.fingerprint = fingerprint
        self.file = GalleryFile(self.path, fingerprint)

    def enroll(
        self,
        name: str,
        embeddings: Float,
        sources: Sequence[str],
        qualities: Sequence[float] | None = None,
        photos: Sequence[bytes | None] | None = None,
        terms: Terms = Terms(),
    ) -> int:
        """Add views of a person, new or known; all of them or none. A view that is there is not added again.

        Args:
            name: 1 to 100 characters, no control characters; spaces around it are taken off.
            embeddings: (N, D), N at least 1; stored with unit length.
            sources: (N,) where each comes from, such as the photo's name.
            qualities: (N,) in [0, 1]; 1 where not given.
            photos: (N,) JPEG of the aligned faces to keep; none where not given.
            terms: consent and expiry; those given take the place of the person's earlier ones.

        Returns:
            How many views were added.

        Raises:
            GalleryError: the name is not allowed, the person has expired, an embedding is not finite or of another
                length than those there.
            ValueError: the lengths differ.
        """
        name, vectors, now = clean_name(name), _unit(embeddings), _now()
        count = len(vectors)
        rows = zip(vectors, sources, qualities or [1.0] * count, photos or [None] * count, strict=True)
        views = [(vector.tobytes(), source, quality, photo) for vector, source, quality, photo in rows]
        with self.changing() as db:
            self.check_length(db, vectors.shape[1])
            person = self._person(db, name, terms, now)
            added, known = 0, dict(db.execute("SELECT vector, id FROM embeddings WHERE person = ?", (person,)))
            for vector, source, quality, photo in views:
                if vector not in known:
                    row = (person, vector, source, quality, now, photo)
                    known[vector] = db.execute(
                        f"INSERT INTO embeddings ({VIEW}) VALUES (?, ?, ?, ?, ?, ?)", row
                    ).lastrowid
                    added += 1
                elif photo is not None:
                    db.execute("UPDATE embeddings SET crop = ? WHERE id = ?", (photo, known[vector]))
        return added

    def remove(self, name: str) -> int:
        """Delete a person; returns how many embeddings went. Nothing of them stays in the file.

        Raises:
            GalleryError: there is no such person.
        """
        person = self._known(name)
        with self.changing() as db:
            db.execute("DELETE FROM people WHERE name = ?", (person.name,))
        self.file.forget()
        return person.embeddings

    def expire(self, name: str, terms: Terms) -> None:
        """Set another moment at which a person expires, or never, whether or not they have expired already.

        Args:
            name: who.
            terms: the new expiry, None for none; a consent note takes the place of the earlier one.

        Raises:
            GalleryError: there is no such person.
        """
        person = self._known(name)
        with self.changing() as db:
            db.execute(
                "UPDATE people SET expires_at = ?, consent = coalesce(?, consent) WHERE name = ?",
                (terms.expires_at, terms.consent, person.name),
            )

    def purge(self) -> list[str]:
        """Delete all who have expired; returns their names. Nothing of them stays in the file."""
        now = _now()
        with self.changing() as db:
            gone = db.execute("SELECT name FROM people WHERE expires_at <= ? ORDER BY name", (now,)).fetchall()
            db.execute("DELETE FROM people WHERE expires_at <= ?", (now,))
        self.file.forget()
        return [name for (name,) in gone]

    def people(self) -> list[Person]:
        """Return all people by name, expired ones too."""
        now = _now()
        rows = self.file.typed(
            "SELECT name, count(embeddings.id), count(crop), people.added_at, consent, expires_at FROM people"
            " LEFT JOIN embeddings ON person = people.id GROUP BY people.id ORDER BY name",
            *(str, int, int, str, str | None, str | None),
        )
        return [
            Person(name, views, photos, since, consent, expires_at, expires_at is not None and expires_at <= now)
            for name, views, photos, since, consent, expires_at in rows
        ]

    def snapshot(self) -> Snapshot:
        """Return all embeddings of people who have not expired, rows of one person together, ordered by name."""
        made_by, expires, rows = self._read_all()
        if self.fingerprint not in (None, made_by):
            raise GalleryError(f"gallery {self.path}: was enrolled again with model {made_by}, not {self.fingerprint}")
        names = tuple(name for name, _ in rows)
        return Snapshot(names, self._stacked([vector for _, vector in rows]), expires).at(_now())

    def photos(self) -> Iterator[StoredPhoto]:
        """Return every embedding's photo, those of one person together, ordered by name."""
        rows = self.file.typed("SELECT embeddings.id, name FROM embeddings JOIN people ON person = people.id", int, str)
        for row, name in sorted(rows, key=lambda row: (row[1], row[0])):
            for (jpeg,) in self.file.rows("SELECT crop FROM embeddings WHERE id = ?", row):
                yield StoredPhoto(row, name, jpeg)

    def replace(self, fingerprint: str, views: Mapping[int, tuple[Float, float]], revision: int) -> None:
        """Take the embeddings of another model in place of those there; all of them or none.

        Args:
            fingerprint: of the model that made them.
            views: row of a :class:`StoredPhoto` -> its new embedding (D,) and quality; other embeddings are deleted.
            revision: the gallery's when its photos were read.

        Raises:
            GalleryError: the gallery was changed meanwhile.
        """
        now = _now()
        with self.changing() as db:
            if revision != self.revision - 1:  # this change is one
                raise GalleryError(f"gallery {self.path}: was changed meanwhile, nothing was done: try again")
            left = [(_unit(vector[None])[0].tobytes(), quality, now, row) for row, (vector, quality) in views.items()]
            db.execute("UPDATE embeddings SET vector = x''")
            db.executemany("UPDATE embeddings SET vector = ?, quality = ?, added_at = ? WHERE id = ?", left)
            db.execute("DELETE FROM embeddings WHERE vector = x''")
            db.execute("UPDATE model SET fingerprint = ?", (fingerprint,))
        self.file.forget()

    @property
    def model(self) -> str:
        """Return the fingerprint of the model that made the embeddings."""
        return str(self.file.rows("SELECT fingerprint FROM model")[0][0])

    @property
    def revision(self) -> int:
        """Return a number that changes when people are changed, here or by another process; cheap."""
        return int(self.file.rows("SELECT changes FROM model")[0][0])

    @property
    def size(self) -> int:
        """Return the number of embeddings."""
        return int(self.file.rows("SELECT count(*) FROM embeddings")[0][0])

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that changes people."""
        with self.file.transaction() as db:
            db.execute("UPDATE model SET changes = changes + 1")
            yield db

    def check_length(self, db: sqlite3.Connection, length: int) -> None:
        """Raise GalleryError unless the stored embeddings have this length."""
        known = db.execute("SELECT length(vector) FROM embeddings LIMIT 1").fetchone()
        if known and known[0] != length * 4:
            raise GalleryError(f"gallery {self.path}: embeddings must have {known[0] // 4} numbers, got {length}")

    def close(self) -> None:
        """Close the file; may be called twice."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _known(self, name: str) -> Person:
        name = unicodedata.normalize("NFC", name.strip())
        known = {person.name: person for person in self.people()}
        if name not in known:
            listed = f"it knows {', '.join(known)}" if known else "it is empty"
            raise GalleryError(f"gallery {self.path}: there is no one called {name!r}, {listed}")
        return known[name]

    def _person(self, db: sqlite3.Connection, name: str, terms: Terms, now: str) -> int:
        """Return the row of a person, new or known, with these terms stored."""
        db.execute("INSERT INTO people (name, added_at) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, now))
        db.execute(
            "UPDATE people SET consent = coalesce(?, consent), expires_at = coalesce(?, expires_at) WHERE name = ?",
            (terms.consent, terms.expires_at, name),
        )
        found = db.execute("SELECT id, expires_at FROM people WHERE name = ?", (name,)).fetchone()
        if found is None:  # its index is damaged
            raise self.file.damaged()
        row, expires_at = found
        if expires_at is not None and expires_at <= now:
            raise GalleryError(f"gallery {self.path}: {name!r} expired at {expires_at} and needs a new --expires")
        return int(row)

    def _read_all(self) -> tuple[str, dict[str, str], list[tuple[str, bytes]]]:
        """Return the model, all expiry times, names and vectors, from one state of the file."""
        with self.file.reading():
            expires = dict(
                self.file.typed("SELECT name, expires_at FROM people WHERE expires_at IS NOT NULL", str, str)
            )
            rows = self.file.typed(
                "SELECT name, vector FROM people JOIN embeddings ON person = people.id ORDER BY name, embeddings.id",
                *(str, bytes),
            )
            return self.model, expires, rows

    def _stacked(self, vectors: list[bytes]) -> Float:
        if not vectors:
            return np.zeros((0, 0), np.float32)
        if len({len(vector) for vector in vectors}) > 1 or len(vectors[0]) % 4:
            raise GalleryError(f"gallery {self.path}: is damaged: its embeddings differ in length")
        return np.frombuffer(b"".join(vectors), np.float32).reshape(len(vectors), -1)


def clean_name(name: str) -> str:
    """Return the name as it is stored: in Unicode's composed form, without spaces around it.

    Raises:
        GalleryError: it is empty, longer than 100 characters or has control characters.
    """
    return _clean("a name", name, MAX_NAME)


def agreed(consent: str | None, expires: str | None) -> Terms:
    """Return the checked terms of consent and expiry.

    Args:
        consent: 1 to 1000 characters, no control characters.
        expires: a date such as 2027-12-31, whose end (UTC) is meant, or a moment such as 2027-12-31T18:00:00+01:00.

    Raises:
        GalleryError: the note is not allowed, or the expiry is no date or lies in the past.
    """
    note = None if consent is None else clean_note(consent)
    return Terms(note, None if expires is None else _expiry(expires))


def clean_note(note: str) -> str:
    """Return a consent note as it is stored; GalleryError where it is not allowed."""
    return _clean("a consent note", note, MAX_CONSENT)


def _expiry(text: str) -> str:
    try:
        moment = _end(text)
    except (ValueError, OverflowError):
        raise GalleryError(
            f"expires must be a date such as 2027-12-31, or a moment with its time zone, such as 2027-12-31T18:00:00Z, "
            f"got {text!r}"
        ) from None
    expires_at = timestamp(round(moment.timestamp() * 1000) * 1_000_000)
    if expires_at <= _now():
        raise GalleryError(f"expires must lie in the future, got {text!r}")
    return expires_at


def _end(text: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise
        return moment
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def _clean(what: str, text: str, most: int) -> str:
    cleaned = unicodedata.normalize("NFC", text.strip())
    if not cleaned or len(cleaned) > most:
        raise GalleryError(f"{what} must have 1 to {most} characters, got {len(cleaned)}")
    if any(unicodedata.category(character) in CONTROL for character in cleaned):
        raise GalleryError(f"{what} must not have control characters, got {cleaned!r}")
    return cleaned


def _now() -> str:
    return timestamp(time.time_ns())


def _unit(embeddings: npt.NDArray[np.floating]) -> Float:
    if embeddings.ndim != 2 or not embeddings.size:
        raise GalleryError(f"embeddings must have shape (N, D) with at least one row, got {embeddings.shape}")
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0.0).any():
        raise GalleryError("embeddings must be finite and not zero")
    return np.asarray(embeddings / lengths, np.float32)
