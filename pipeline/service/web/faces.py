"""Faces on pictures that the page shows: who they are, and which unknown ones are the same."""

import io
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from PIL import Image

from engines.alignment import align
from engines.arrays import Float, Pixels
from engines.engine import open_engine
from engines.errors import DataError, RequestError
from engines.pictures import decode_rgb
from engines.spec import Model, load_model
from pipeline.gallery import Gallery
from pipeline.gallery.enrolling import FaceReader, embed
from pipeline.gallery.search import Index
from pipeline.gallery.views import View
from pipeline.identity.stage import rankings
from pipeline.settings.schema import ModelSettings

MAX_PIXELS: Final = 60_000_000  # of a photo: what phones make has less
BORDER: Final = 0.5  # of a snapshot's longer side, around it: faces that fill a picture are found worse
GREY: Final = (114, 114, 114)
REMEMBERED: Final = 5000  # snapshots whose faces are kept in mind


@dataclass(frozen=True, slots=True)
class FaceFound:
    """A face on a photo; ``box`` is xyxy in its pixels."""

    box: tuple[float, float, float, float]
    name: str | None
    similarity: float | None  # cosine to the person who resembles it most; None where the gallery is empty


class FaceReading:
    """A model's entries, opened when they are first needed. Thread-safe: one call after the other.

    Args:
        settings: which model, and what runs it.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._opened = ExitStack()
        self._reader: FaceReader | None = None
        self._model: Model | None = None
        self._views: dict[int, View | None] = {}  # by the event's number

    def model(self) -> Model:
        """Return the model; ModelError where it has no faces."""
        with self._lock:
            if self._model is None:
                model = load_model(self._settings.path)
                model.require(("faces", "identity"), "people")
                self._model = model
            return self._model

    def check(self, gallery: Gallery) -> None:
        """Raise RequestError 409 where a gallery holds the embeddings of another model."""
        if gallery.size and gallery.model != self.model().fingerprint:
            raise RequestError(409, f"gallery {gallery.path}: was made with another model than {self._settings.path!r}")

    def who(self, photo: bytes, gallery: Gallery | None) -> list[FaceFound]:
        """Return the faces on a photo, and who they are.

        Raises:
            DataError: it is no picture, or too large.
        """
        pixels, reader = _decoded(photo), self._opened_reader()
        if gallery is not None:
            self.check(gallery)
        with self._lock:
            found = reader.find(pixels)
            rows = [
                (box, _embedding(reader, pixels, points))
                for box, points in zip(found.boxes, found.landmarks, strict=True)
            ]
        names = iter(self._names([vector for _, vector in rows if vector is not None], gallery))
        return [
            FaceFound(tuple(box.round(1).tolist()), *((None, None) if vector is None else next(names)))
            for box, vector in rows
        ]

    def _names(self, vectors: Sequence[Float], gallery: Gallery | None) -> list[tuple[str | None, float | None]]:
        if gallery is None or not vectors:
            return [(None, None)] * len(vectors)
        threshold = self.model().spec.thresholds.identity_similarity
        chosen: list[tuple[str | None, float | None]] = []
        for ranking in rankings(vectors, Index(gallery.snapshot())):
            identity = None if ranking is None else ranking.choose(threshold, None)
            score = None if ranking is None else round(ranking.first.score, 3)
            chosen.append((None if identity is None else identity.name, score))
        return chosen

    def view(self, number: int, snapshot: bytes) -> View | None:
        """Return the one face of an event's snapshot; None: none is found in it."""
        reader = self._opened_reader()
        with self._lock:
            if number not in self._views:
                while len(self._views) >= REMEMBERED:
                    self._views.pop(next(iter(self._views)))
                self._views[number] = _view(reader, snapshot)
            return self._views[number]

    def forget(self, numbers: Iterable[int]) -> None:
        """Keep the faces of these events in mind no longer."""
        with self._lock:
            for number in numbers:
                self._views.pop(number, None)

    def groups(self, views: Sequence[View], gallery: Gallery | None) -> list[list[int]]:
        """Return which views show the same unknown face: rows of ``views``, those whom the gallery knows left out.

        A view joins the group whose mean it resembles most, from the model's own threshold on.
        """
        if not views:
            return []
        names = self._names([view.embedding for view in views], gallery)
        threshold = self.model().spec.thresholds.identity_similarity
        sums: list[Float] = []
        groups: list[list[int]] = []
        for row, view in enumerate(views):
            if names[row][0] is not None:
                continue
            cosines = [float(total @ view.embedding) / max(float(np.linalg.norm(total)), 1e-9) for total in sums]
            best = int(np.argmax(cosines)) if cosines else -1
            if best >= 0 and cosines[best] >= threshold:
                groups[best].append(row)
                sums[best] = sums[best] + view.embedding
            else:
                groups.append([row])
                sums.append(view.embedding)
        return groups

    def close(self) -> None:
        """Close the engines."""
        with self._lock:
            self._opened.close()
            self._reader = None

    def _opened_reader(self) -> FaceReader:
        model = self.model()
        with self._lock:
            if self._reader is None:
                engines = [
                    self._opened.enter_context(open_engine(model, entry, self._settings.backend))
                    for entry in ("frame", "face")
                ]
                self._reader = FaceReader(model.spec, *engines)
            return self._reader


def _decoded(photo: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(photo)) as header:
            width, height = header.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError("photo: is not a picture that can be read") from error
    if width * height > MAX_PIXELS:
        raise DataError(f"photo: has {width}x{height} pixels, but may have {MAX_PIXELS:,} at most")
    return decode_rgb(photo, "photo")


def _embedding(reader: FaceReader, pixels: Pixels, landmarks: Float) -> Float | None:
    try:
        return embed(reader.face_engine, align(pixels, landmarks))[0]
    except ValueError:  # points that fit no face
        return None


def _view(reader: FaceReader, snapshot: bytes) -> View | None:
    try:
        pixels = _decoded(snapshot)
    except DataError:
        return None
    border = round(BORDER * max(pixels.shape[:2]))
    framed = cv2.copyMakeBorder(pixels, border, border, border, border, cv2.BORDER_CONSTANT, value=GREY)
    found = reader.find(np.asarray(framed, np.uint8))
    if not len(found.scores):
        return None
    sizes = found.boxes[:, 3] - found.boxes[:, 1]
    row = int(sizes.argmax())
    try:
        crop = align(np.asarray(framed, np.uint8), found.landmarks[row])
    except ValueError:
        return None
    return View(crop, found.landmarks[row], float(sizes[row]), *embed(reader.face_engine, crop))
