"""An SQLite file that is ours: known by its header, of a format with a number, brought up to date when it is opened."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, cycle
from pathlib import Path
from types import UnionType
from typing import Any, Final

from engines.errors import TrunklineError
from engines.files import PRIVATE

BUSY_S: Final = 5.0  # wait this long for another process that writes


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is.

    Attributes:
        word: what sentences call it, such as "gallery".
        application_id: in the file's header, says whose file this is.
        formats: what each format adds to the one before, as statements that end with ``;`` and a line break. A new file
            takes the way of an old one: so what is migrated cannot differ from what is made.
        error: raised where the file cannot be used.
        damaged: raised where pages of it cannot be read.
        remedy: what helps then, with ``{path}``.
        pragmas: set on each connection.
    """

    word: str
    application_id: int
    formats: tuple[str, ...]
    error: type[TrunklineError]
    damaged: type[TrunklineError]
    remedy: str
    pragmas: tuple[str, ...] = ()


class SqliteFile:
    """An open file. Thread-safe; other processes may have it open too.

    Args:
        path: it is made when it is missing and ``create`` is given.
        kind: what it must be.
        create: make it when it is missing, or an empty file.

    Raises:
        TrunklineError: of the kind; the file is missing, is another kind's, is of a later format, or cannot be used.
    """

    def __init__(self, path: Path, kind: FileKind, create: bool) -> None:
        self.path, self._kind = path, kind
        self._lock = threading.RLock()
        if not create and not path.is_file():
            raise kind.error(f"{kind.word} {path}: there is no such file")
        self._db = self._connect()
        try:
            self._prepare(create)
        except BaseException:
            self.close()
            raise

    def rows(self, query: str, *values: object) -> list[Any]:
        """Return the rows that a query finds."""
        with self._errors():
            return self._db.execute(query, values).fetchall()

    def typed(self, query: str, *kinds: type | UnionType) -> list[Any]:
        """Return the rows that a query finds, whose columns must be of these types: a damaged row may have any."""
        found = self.rows(query)
        if all(map(isinstance, chain.from_iterable(found), cycle(kinds))):
            return found
        raise self.damaged()

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

    def empty_log(self) -> bool:
        """Empty the write-ahead log, where the pages of what was deleted lie too; False: another program is reading."""
        ((busy, _, _),) = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy

    def give_back(self) -> None:
        """Give the pages of what was deleted back to the file system, of a file with ``auto_vacuum = INCREMENTAL``."""
        with self._errors():
            self._db.executescript("PRAGMA incremental_vacuum")  # execute would free one page

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._lock:
            self._db.close()

    def is_current(self) -> bool:
        """Return whether nothing has to be changed before the file is used."""
        return self._pragma("user_version") == len(self._kind.formats)

    def bring_up(self, db: sqlite3.Connection) -> None:
        """Bring the tables up to date, in a transaction."""
        if self._is_new():
            db.execute(f"PRAGMA application_id = {self._kind.application_id}")
        for number in range(self._pragma("user_version"), len(self._kind.formats)):
            for statement in self._kind.formats[number].split(";\n"):  # executescript would end the transaction
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number + 1}")

    def _connect(self) -> sqlite3.Connection:
        try:
            # SQLite would make it readable for everyone; its side files take over the rights of the file.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, PRIVATE))
        except OSError as error:
            raise self._kind.error(f"{self._kind.word} {self.path}: cannot be opened: {error.strerror}") from error
        with self._errors():
            return sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)

    def _prepare(self, create: bool) -> None:
        with self._errors():
            if self._is_new() and not create:
                raise self._kind.error(f"{self._kind.word} {self.path}: is not {_a(self._kind.word)} but an empty file")
            # Asking for write-ahead logging changes a file: not before it is known to be ours.
            self._check_format()
            for pragma in (*self._kind.pragmas, "journal_mode = WAL"):
                self._db.execute(f"PRAGMA {pragma}").fetchone()
            done = self.is_current()
        if not done:  # readers do not wait for writers
            with self.transaction() as db:
                self.bring_up(db)

    def _is_new(self) -> bool:
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return tables == 0 and self._pragma("application_id") == 0

    def _check_format(self) -> None:
        kind = self._kind
        if self._is_new():
            return
        if self._pragma("application_id") != kind.application_id:
            raise kind.error(f"{kind.word} {self.path}: is a database of something else, not {_a(kind.word)}")
        if not 1 <= (found := self._pragma("user_version")) <= len(kind.formats):
            raise kind.error(
                f"{kind.word} {self.path}: has format {found}, this version reads formats 1 to {len(kind.formats)}"
            )

        for table, columns in _columns_of(kind.formats[:found]).items():
            if _columns(self._db, table) != columns:
                raise self.damaged()

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.DatabaseError as error:
                raise self._explained(error) from error
            except UnicodeDecodeError as error:  # of a text, or of an error's words that quote the file
                raise self.damaged() from error

    def _explained(self, error: sqlite3.DatabaseError) -> TrunklineError:
        code, kind = getattr(error, "sqlite_errorcode", None), self._kind
        undecodable = str(error).startswith("Could not decode to UTF-8")
        # Of a code the low byte; the rest says where.
        if undecodable or (code is not None and code & 0xFF == sqlite3.SQLITE_CORRUPT):
            return self.damaged()
        reason = f"is not {_a(kind.word)}" if code == sqlite3.SQLITE_NOTADB else f"cannot be used: {error}"
        return kind.error(f"{kind.word} {self.path}: {reason}")

    def damaged(self) -> TrunklineError:
        """Return the error to raise where what was read cannot have been written."""
        kind = self._kind
        return kind.damaged(f"{kind.word} {self.path}: is damaged: {kind.remedy.format(path=self.path)}")


@lru_cache(maxsize=8)
def _columns_of(formats: tuple[str, ...]) -> dict[str, list[Any]]:
    """The columns of each table that these formats make."""
    with closing(sqlite3.connect(":memory:")) as db:
        for statements in formats:
            db.executescript(statements)
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: _columns(db, name) for (name,) in tables if not name.startswith("sqlite_")}


def _columns(db: sqlite3.Connection, table: str) -> list[Any]:
    """Name, type, whether it may be null, and place in the key, of each column."""
    return db.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (table,)).fetchall()


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
