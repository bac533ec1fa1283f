"""The enrolled people and their embeddings: one SQLite file, exact search, enrolling, export.

The stages and whatever stands above them may import it.
"""

from pipeline.gallery.gallery import Gallery, Person, Snapshot, StoredPhoto, Terms

__all__ = [
    "Gallery",
    "Person",
    "Snapshot",
    "StoredPhoto",
    "Terms",
]
