"""People who are in the gallery already: called otherwise, found to be the same, or not to be who was seen."""

import sqlite3
from collections.abc import Sequence

from engines.errors import GalleryError
from pipeline.gallery.gallery import Gallery, Person, clean_name


def person(gallery: Gallery, name: str) -> Person:
    """Return a person of the gallery; GalleryError where there is nobody of this name."""
    for each in gallery.people():
        if each.name == name:
            return each
    raise GalleryError(f"gallery {gallery.path}: there is no one called {name!r}")


def rename(gallery: Gallery, name: str, to: str) -> str:
    """Call a person otherwise; return the new name as it is stored.

    Raises:
        GalleryError: there is nobody of the old name, somebody of the new one, or that is not allowed.
    """
    to = clean_name(to)
    with gallery.changing() as db:
        row = _row(gallery, db, name)
        if to != name and db.execute("SELECT 1 FROM people WHERE name = ?", (to,)).fetchone():
            raise GalleryError(f"gallery {gallery.path}: there is {to!r} already: if they are the same, merge the two")
        db.execute("UPDATE people SET name = ? WHERE id = ?", (to, row))
    gallery.file.forget()
    return to


def merge(gallery: Gallery, name: str, into: str) -> None:
    """Give all views of a person to another, whose consent and expiry hold; the first is gone then.

    Raises:
        GalleryError: one of them is not there, or both are the same.
    """
    if name == into:
        raise GalleryError(f"{name!r} cannot be merged into the same name")
    with gallery.changing() as db:
        old, new = _row(gallery, db, name), _row(gallery, db, into)
        db.execute("UPDATE embeddings SET person = ? WHERE person = ?", (new, old))
        db.execute("DELETE FROM people WHERE id = ?", (old,))
    gallery.file.forget()


def remove_views(gallery: Gallery, name: str, sources: Sequence[str]) -> int:
    """Take back the views of a person that came from there; return how many there were.

    Raises:
        GalleryError: there is no such person.
    """
    with gallery.changing() as db:
        row = _row(gallery, db, name)
        gone = sum(
            db.execute("DELETE FROM embeddings WHERE person = ? AND source = ?", (row, source)).rowcount
            for source in sources
        )
    gallery.file.forget()
    return gone


def _row(gallery: Gallery, db: sqlite3.Connection, name: str) -> int:
    found = db.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()
    if found is None:
        raise GalleryError(f"gallery {gallery.path}: there is no one called {name!r}")
    return int(found[0])
