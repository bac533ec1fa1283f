"""The gallery: enrolled people and their embeddings, in one SQLite file that several processes may use at once."""

import os
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from engines.boxes import Float
from engines.errors import GalleryError
from pipeline.messages import timestamp

APPLICATION_ID = 0x54524B4C  # "TRKL" in the file's header says whose file this is
FORMAT = 1
BUSY_S = 5.0  # wait this long for another process that writes
MAX_NAME = 100  # characters
CONTROL = {"Cc", "Cs", "Zl", "Zp"}  # Unicode categories: control, lone surrogate, line and paragraph separator
PRIVATE = 0o600  # faces are personal data

SCHEMA = """
CREATE TABLE model (fingerprint TEXT NOT NULL);
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, added_at TEXT NOT NULL);
CREATE TABLE embeddings (
    id INTEGER PRIMARY KEY,
    person INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    vector BLOB NOT NULL,
    source TEXT NOT NULL,
    quality REAL NOT NULL,
    added_at TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone in the gallery."""

    name: str
    embeddings: int
    added_at: str  # RFC 3339, UTC


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All embeddings at one moment."""

    names: tuple[str, ...]  # (N,) of each row, rows of one person together
    vectors: Float  # (N, D) unit vectors


class ExportedEmbedding(msgspec.Struct, frozen=True):
    """One enrolled view; ``vector`` has unit length."""

    source: str
    quality: float
    added_at: str
    vector: list[float]


class ExportedPerson(msgspec.Struct, frozen=True):
    """A person with all views."""

    name: str
    added_at: str
    embeddings: list[ExportedEmbedding]


class Export(msgspec.Struct, frozen=True):
    """The whole gallery; ``model`` is the fingerprint of the model that made the vectors."""

    model: str
    people: list[ExportedPerson]


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
        self._lock = threading.RLock()
        self._own_changes = 0
        if fingerprint is None and not self.path.is_file():
            raise GalleryError(f"gallery {self.path}: there is no such file")
        self._db = self._connect()
        try:
            self._prepare(fingerprint)
        except BaseException:
            self.close()
            raise

    def enroll(
        self, name: str, embeddings: Float, sources: Sequence[str], qualities: Sequence[float] | None = None
    ) -> None:
        """Add views of a person, new or known; all of them or none.

        Args:
            name: 1 to 100 characters, no control characters; spaces around it are taken off.
            embeddings: (N, D), N at least 1; stored with unit length.
            sources: (N,) where each comes from, such as the photo's name.
            qualities: (N,) in [0, 1]; 1 where not given.

        Raises:
            GalleryError: the name is not allowed, an embedding is not finite or of another length than those there.
            ValueError: the lengths differ.
        """
        name = clean_name(name)
        vectors = _unit(embeddings)
        now = timestamp(time.time_ns())
        rows = zip(vectors, sources, qualities or [1.0] * len(vectors), strict=True)
        views = [(vector.tobytes(), source, quality, now) for vector, source, quality in rows]
        with self._transaction() as db:
            known = db.execute("SELECT length(vector) FROM embeddings LIMIT 1").fetchone()
            if known and known[0] != vectors.shape[1] * 4:
                raise GalleryError(
                    f"gallery {self.path}: embeddings must have {known[0] // 4} numbers, got {vectors.shape[1]}"
                )
            db.execute("INSERT INTO people (name, added_at) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, now))
            (person,) = db.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()
            db.executemany(
                "INSERT INTO embeddings (person, vector, source, quality, added_at) VALUES (?, ?, ?, ?, ?)",
                [(person, *view) for view in views],
            )

    def remove(self, name: str) -> int:
        """Delete a person; returns how many embeddings went. Nothing of them stays in the file.

        Raises:
            GalleryError: there is no such person.
        """
        name = unicodedata.normalize("NFC", name.strip())
        with self._transaction() as db:
            found = db.execute(
                "SELECT people.id, count(embeddings.id) FROM people LEFT JOIN embeddings ON person = people.id"
                " WHERE name = ? GROUP BY people.id",
                (name,),
            ).fetchone()
            if found is None:
                known = [person.name for person in self.people()]
                listed = f"it knows {', '.join(known)}" if known else "it is empty"
                raise GalleryError(f"gallery {self.path}: there is no one called {name!r}, {listed}")
            db.execute("DELETE FROM people WHERE id = ?", found[:1])
        # The pages of the enrolment lie in the write-ahead log too, until it is emptied.
        with self._errors():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return int(found[1])

    def people(self) -> list[Person]:
        """Everyone, by name."""
        with self._errors():
            rows = self._db.execute(
                "SELECT name, count(embeddings.id), people.added_at FROM people"
                " LEFT JOIN embeddings ON person = people.id GROUP BY people.id ORDER BY name"
            ).fetchall()
        return [Person(*row) for row in rows]

    def snapshot(self) -> Snapshot:
        """All embeddings, rows of one person together, ordered by name."""
        with self._errors():
            rows = self._db.execute(
                "SELECT name, vector FROM embeddings JOIN people ON person = people.id ORDER BY name, embeddings.id"
            ).fetchall()
        names = tuple(name for name, _ in rows)
        return Snapshot(names, self._stacked([vector for _, vector in rows]))

    def export(self) -> Export:
        """Everything the gallery holds, for ``msgspec.json.encode``."""
        with self._errors():
            rows = self._db.execute(
                "SELECT name, people.added_at, source, quality, embeddings.added_at, vector"
                " FROM embeddings JOIN people ON person = people.id ORDER BY name, embeddings.id"
            ).fetchall()
        people = []
        for (name, added_at), group in groupby(rows, key=lambda row: row[:2]):
            views = [
                ExportedEmbedding(source, quality, viewed_at, np.frombuffer(vector, np.float32).tolist())
                for _, _, source, quality, viewed_at, vector in group
            ]
            people.append(ExportedPerson(name, added_at, views))
        return Export(self.model, people)

    @property
    def model(self) -> str:
        """Fingerprint of the model that made the embeddings."""
        with self._errors():
            return str(self._db.execute("SELECT fingerprint FROM model").fetchone()[0])

    @property
    def revision(self) -> tuple[int, int]:
        """Differs from an earlier one when anything was changed since, here or by another process; cheap."""
        with self._errors():
            (others,) = self._db.execute("PRAGMA data_version").fetchone()
            return int(others), self._own_changes

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection:
        try:
            # SQLite would make it readable for everyone; its side files take over the rights of the file.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, PRIVATE))
        except OSError as error:
            raise GalleryError(f"gallery {self.path}: cannot be opened: {error.strerror}") from error
        with self._errors():
            return sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)

    def _prepare(self, fingerprint: str | None) -> None:
        with self._errors():
            if self._is_new() and fingerprint is None:
                raise GalleryError(f"gallery {self.path}: is not a gallery but an empty file")
            # Asking for write-ahead logging changes a file: not before it is known to be ours.
            self._check_format()
            self._db.execute("PRAGMA journal_mode = WAL").fetchone()
            self._db.execute("PRAGMA secure_delete = ON").fetchone()
            self._db.execute("PRAGMA foreign_keys = ON")
        if fingerprint is not None:
            self._adopt(fingerprint)

    def _is_new(self) -> bool:
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return tables == 0 and self._pragma("application_id") == 0

    def _check_format(self) -> None:
        if self._is_new():
            return
        if self._pragma("application_id") != APPLICATION_ID:
            raise GalleryError(f"gallery {self.path}: is a database of something else, not a gallery")
        if self._pragma("user_version") != FORMAT:
            found = self._pragma("user_version")
            raise GalleryError(f"gallery {self.path}: has format {found}, this version reads format {FORMAT}")

    def _adopt(self, fingerprint: str) -> None:
        """Make the tables of a new file, and see to it that the embeddings are this model's."""
        with self._transaction() as db:
            if self._is_new():
                for statement in SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute("INSERT INTO model VALUES (?)", (fingerprint,))
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {FORMAT}")
            (made_by,) = db.execute("SELECT fingerprint FROM model").fetchone()
            if made_by == fingerprint:
                return
            if db.execute("SELECT count(*) FROM embeddings").fetchone()[0]:
                raise GalleryError(
                    f"gallery {self.path}: was made with model {made_by}, not with {fingerprint}: take that model, or "
                    "enrol everyone again from their photos into a new file with `trunkline enroll`"
                )
            db.execute("UPDATE model SET fingerprint = ?", (fingerprint,))

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _stacked(self, vectors: list[bytes]) -> Float:
        if not vectors:
            return np.zeros((0, 0), np.float32)
        if len({len(vector) for vector in vectors}) > 1 or len(vectors[0]) % 4:
            raise GalleryError(f"gallery {self.path}: is damaged: its embeddings differ in length")
        return np.frombuffer(b"".join(vectors), np.float32).reshape(len(vectors), -1)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk, for one, has ended it already
                    self._db.execute("ROLLBACK")
                raise
            self._own_changes += 1

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.DatabaseError as error:
                reason = "is not a gallery" if _foreign(error) else f"cannot be used: {error}"
                raise GalleryError(f"gallery {self.path}: {reason}") from error


def clean_name(name: str) -> str:
    """The name as it is stored: in Unicode's composed form, without spaces around it.

    Raises:
        GalleryError: it is empty, longer than 100 characters or has control characters.
    """
    cleaned = unicodedata.normalize("NFC", name.strip())
    if not cleaned or len(cleaned) > MAX_NAME:
        raise GalleryError(f"a name must have 1 to {MAX_NAME} characters, got {len(cleaned)}")
    if any(unicodedata.category(character) in CONTROL for character in cleaned):
        raise GalleryError(f"a name must not have control characters, got {cleaned!r}")
    return cleaned


def _unit(embeddings: npt.NDArray[np.floating]) -> Float:
    if embeddings.ndim != 2 or not embeddings.size:
        raise GalleryError(f"embeddings must have shape (N, D) with at least one row, got {embeddings.shape}")
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths == 0.0).any():
        raise GalleryError("embeddings must be finite and not zero")
    return np.asarray(embeddings / lengths, np.float32)


def _foreign(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
