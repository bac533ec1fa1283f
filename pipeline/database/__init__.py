"""SQLite files of ours: opening them, their formats, and changes that are made wholly or not at all.

The gallery and store rooms may import it; both are files that other processes have open at the same time.
"""

from pipeline.database.sqlite_file import FileKind, SqliteFile

__all__ = ["FileKind", "SqliteFile"]
