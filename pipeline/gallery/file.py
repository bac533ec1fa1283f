"""The SQLite file behind a gallery, and the model whose embeddings it holds."""

import sqlite3
from pathlib import Path
from typing import Final

from engines.errors import DamagedGallery, GalleryError
from pipeline.database import FileKind, SqliteFile

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

GALLERY: Final = FileKind(
    word="gallery",
    application_id=0x54524B4C,  # "TRKL"
    formats=(FORMAT_1, FORMAT_2),
    error=GalleryError,
    damaged=DamagedGallery,
    remedy="put a copy of it in its place, or save what can be read with `trunkline gallery export --gallery {path} "
    "--out people.json`, and import that into a new one",
    pragmas=("secure_delete = ON", "foreign_keys = ON"),
)


class GalleryFile(SqliteFile):
    """An open gallery file.

    Args:
        path: it is made when it is missing and a fingerprint is given.
        fingerprint: of the model whose embeddings it must hold; None for whatever model.

    Raises:
        GalleryError: the file is missing, is no gallery, cannot be used, or holds embeddings of another model.
    """

    def __init__(self, path: Path, fingerprint: str | None) -> None:
        self._fingerprint = fingerprint
        super().__init__(path, GALLERY, create=fingerprint is not None)

    def forget(self) -> None:
        """Empty the write-ahead log: the pages of what was deleted since lie in it too.

        Raises:
            GalleryError: another program kept on reading for so long that this could not be done.
        """
        if not self.empty_log():
            raise GalleryError(
                f"gallery {self.path}: what was deleted is still in {self.path}-wal, since another program is reading: "
                f"try again with `trunkline gallery purge --gallery {self.path}`"
            )

    def is_current(self) -> bool:
        """Return whether nothing has to be changed before the file is used, the model's fingerprint included."""
        return super().is_current() and self._fingerprint in (None, self._made_by())

    def bring_up(self, db: sqlite3.Connection) -> None:
        """Bring the tables up to date, and see to it that the model is this."""
        super().bring_up(db)
        if not self.rows("SELECT 1 FROM model"):
            db.execute("INSERT INTO model (fingerprint) VALUES (?)", (self._fingerprint,))
        if self._fingerprint is not None and (made_by := self._made_by()) != self._fingerprint:
            if db.execute("SELECT EXISTS (SELECT 1 FROM embeddings)").fetchone()[0]:
                raise GalleryError(
                    f"gallery {self.path}: was made with model {made_by}, not with {self._fingerprint}: take that "
                    "model, or enrol everyone again with "
                    f"`trunkline gallery reenroll --gallery {self.path} --model DIR`"
                )
            db.execute("UPDATE model SET fingerprint = ?", (self._fingerprint,))

    def _made_by(self) -> str:
        return str(self.rows("SELECT fingerprint FROM model")[0][0])
