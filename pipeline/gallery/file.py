"""The SQLite file behind a gallery: opening it, its format, and changes that are made wholly or not at all."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engines.errors import DamagedGallery, GalleryError

APPLICATION_ID: Final = 0x54524B4C  # "TRKL" in the file's header says whose file this is
FORMAT: Final = 2
BUSY_S: Final = 5.0  # wait this long for another process that writes
PRIVATE: Final = 0o600  # faces are personal data

FORMAT_1: Final = """
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
# A new file takes the way of an old one: so what is migrated cannot differ from what is made.
FORMAT_2: Final = """
ALTER TABLE model ADD COLUMN changes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE people ADD COLUMN consent TEXT;
ALTER TABLE people ADD COLUMN expires_at TEXT;
ALTER TABLE embeddings ADD COLUMN crop BLOB;
CREATE INDEX embeddings_of ON embeddings (person);
CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    track INTEGER NOT NULL,
    name TEXT NOT NULL,
    consent TEXT,
    expires_at TEXT,
    keep_photos INTEGER NOT NULL,
    valid_until TEXT NOT NULL,
    answer TEXT
);
"""


class GalleryFile:
    """An open gallery file. Thread-safe; other processes may have it open too.

    Args:
        path: it is made when it is missing and a fingerprint is given.
        fingerprint: of the model whose embeddings it must hold; None for whatever model.

    Raises:
        GalleryError: the file is missing, is no gallery, cannot be used, or holds embeddings of another model.
    """

    def __init__(self, path: Path, fingerprint: str | None) -> None:
        self.path = path
        self._lock = threading.RLock()
        if fingerprint is None and not path.is_file():
            raise GalleryError(f"gallery {path}: there is no such file")
        self._db = self._connect()
        try:
            self._prepare(fingerprint)
        except BaseException:
            self.close()
            raise

    def rows(self, query: str, *values: object) -> list[Any]:
        """Return the rows that a query finds."""
        with self._errors():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Make the changes of the block together, or none when it raises; within another block, as a part of that."""
        with self._errors():
            if self._db.in_transaction:
                yield self._db
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk, for one, has ended it already
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read one state of the file in the whole block."""
        with self._errors():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    def forget(self) -> None:
        """Empty the write-ahead log: the pages of what was deleted since lie in it too.

        Raises:
            GalleryError: another program kept on reading for so long that this could not be done.
        """
        ((busy, _, _),) = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise GalleryError(
                f"gallery {self.path}: what was deleted is still in {self.path}-wal, since another program is reading: "
                f"try again with `trunkline gallery purge --gallery {self.path}`"
            )

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._db.close()

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
            done = self._pragma("user_version") == FORMAT and fingerprint in (None, self._made_by())
        if not done:  # readers do not wait for writers
            self._bring_up(fingerprint)

    def _is_new(self) -> bool:
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return tables == 0 and self._pragma("application_id") == 0

    def _check_format(self) -> None:
        if self._is_new():
            return
        if self._pragma("application_id") != APPLICATION_ID:
            raise GalleryError(f"gallery {self.path}: is a database of something else, not a gallery")
        if not 1 <= (found := self._pragma("user_version")) <= FORMAT:
            raise GalleryError(f"gallery {self.path}: has format {found}, this version reads formats 1 to {FORMAT}")

    def _bring_up(self, fingerprint: str | None) -> None:
        """Make the tables of a new file, bring an older one up to date, and see to it that the model is this."""
        with self.transaction() as db:
            if self._is_new():
                _run(db, FORMAT_1)
                db.execute("INSERT INTO model (fingerprint) VALUES (?)", (fingerprint,))
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute("PRAGMA user_version = 1")
            if self._pragma("user_version") == 1:
                _run(db, FORMAT_2)
                db.execute(f"PRAGMA user_version = {FORMAT}")
            if fingerprint is not None:
                self._adopt(db, fingerprint)

    def _adopt(self, db: sqlite3.Connection, fingerprint: str) -> None:
        made_by = self._made_by()
        if made_by == fingerprint:
            return
        if db.execute("SELECT EXISTS (SELECT 1 FROM embeddings)").fetchone()[0]:
            raise GalleryError(
                f"gallery {self.path}: was made with model {made_by}, not with {fingerprint}: take that model, or "
                f"enrol everyone again with `trunkline gallery reenroll --gallery {self.path} --model DIR`"
            )
        db.execute("UPDATE model SET fingerprint = ?", (fingerprint,))

    def _made_by(self) -> str:
        return str(self._db.execute("SELECT fingerprint FROM model").fetchone()[0])

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.DatabaseError as error:
                raise _explained(self.path, error) from error


def _run(db: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";\n"):  # executescript would end the transaction
        db.execute(statement)


def _explained(path: Path, error: sqlite3.DatabaseError) -> GalleryError:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_CORRUPT:  # the low byte; the rest says where
        return DamagedGallery(
            f"gallery {path}: is damaged: put a copy of it in its place, or save what can be read with "
            f"`trunkline gallery export --gallery {path} --out people.json`, and import that into a new one"
        )
    return GalleryError(
        f"gallery {path}: {'is not a gallery' if code == sqlite3.SQLITE_NOTADB else f'cannot be used: {error}'}"
    )
