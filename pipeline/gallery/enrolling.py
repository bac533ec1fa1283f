"""Photos of people -> embeddings in the gallery."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, product
from pathlib import Path

import numpy as np

from engines.alignment import align
from engines.arrays import Float, Pixels
from engines.boxes import letterbox
from engines.decode import Faces, decode
from engines.engine import Engine
from engines.errors import DataError, EnrollError, GalleryError
from engines.nms import nms
from engines.pictures import read_rgb
from engines.spec import ModelSpec
from pipeline.frames.letterboxing import letterbox_into
from pipeline.frames.picture import Picture
from pipeline.gallery.gallery import Gallery, StoredPhoto, Terms, clean_name
from pipeline.gallery.views import View, decode_photo, encode_photo

CLOSER = (2, 4)  # parts along each side of a picture in which no face was found
BYSTANDER = 0.4  # of the largest face's height: smaller faces are background


@dataclass(frozen=True, slots=True)
class EnrollOptions:
    """How photos are to be enrolled."""

    terms: Terms = field(default_factory=Terms)
    keep_photos: bool = False  # the aligned faces, so that they can be enrolled again with another model
    accept_poor: bool = False  # blurred, small and turned faces too


@dataclass(frozen=True, slots=True)
class EnrolledPhoto:
    """A photo that was enrolled."""

    photo: Path
    quality: float  # of its face, in [0, 1]
    flaw: str | None  # what is wrong with its face, where poor ones are accepted


@dataclass(frozen=True, slots=True)
class RefusedPhoto:
    """A file that was refused."""

    photo: Path
    reason: str


@dataclass(frozen=True, slots=True)
class FaceReader:
    """Both entries of a model, together from a photo to an embedding."""

    spec: ModelSpec
    frame_engine: Engine
    face_engine: Engine

    def find(self, pixels: Pixels) -> Faces:
        """Return the faces in RGB pixels (H, W, 3), in those pixels.

        Where the whole picture shows none, its parts are looked at, larger: two by two, then four by four.
        """
        found = self._find_in(pixels)
        for parts in CLOSER:
            height, width = pixels.shape[:2]
            side = 2 * max(height, width) / (parts + 1)  # of a part, of which each overlaps its neighbours by half
            if len(found.scores) or side < max(self.frame_engine.spec.width, self.frame_engine.spec.height):
                break
            found = self._find_in_parts(pixels, parts)
        return found

    def _find_in_parts(self, pixels: Pixels, parts: int) -> Faces:
        """Faces of all parts, each once."""
        height, width = (2 * side // (parts + 1) for side in pixels.shape[:2])
        tops, lefts = (
            np.linspace(0, side - part, parts).round().astype(int)
            for side, part in zip(pixels.shape[:2], (height, width), strict=True)
        )
        found = []
        for top, left in product(tops.tolist(), lefts.tolist()):
            faces = self._find_in(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
            shift = np.array([left, top], np.float32)
            found.append(Faces(faces.boxes + np.tile(shift, 2), faces.scores, faces.landmarks + shift))
        boxes, scores, landmarks = (
            np.concatenate([getattr(faces, name) for faces in found]) for name in ("boxes", "scores", "landmarks")
        )
        kept = nms(boxes, scores, self.spec.thresholds.face_iou)
        return Faces(boxes[kept], scores[kept], landmarks[kept])

    def _find_in(self, pixels: Pixels) -> Faces:
        entry = self.frame_engine.spec
        picture = Picture.from_rgb(pixels)
        box = letterbox((picture.width, picture.height), (entry.width, entry.height))
        batch = np.empty((1, entry.height, entry.width, 3), np.uint8)
        letterbox_into(picture, box, batch[0])
        (seen,) = decode(self.frame_engine.infer(batch), [box], self.spec.thresholds)
        return seen.faces

    def read(self, photo: Path) -> View:
        """Return the face of the one person on a photo.

        Raises:
            EnrollError: the photo cannot be read, or shows no face or several.
        """
        try:
            pixels = read_rgb(photo)
        except DataError as error:
            raise EnrollError(f"photo {photo}: cannot be enrolled: {error}") from error
        landmarks, height = _only_face(self.find(pixels), photo)
        try:
            crop = align(pixels, landmarks)
        except ValueError as error:
            raise EnrollError(f"photo {photo}: shows no face that can be turned upright") from error
        return View(crop, landmarks, height, *embed(self.face_engine, crop))


def embed(face_engine: Engine, crop: Pixels) -> tuple[Float, float]:
    """Return the unit embedding (D,) of an aligned face (112, 112, 3) and its quality in [0, 1].

    The mean over the face and its mirror image: a photo is embedded once and compared for ever.
    """
    outputs = face_engine.infer(np.stack([crop, crop[:, ::-1]]))
    mean = outputs["embedding"].astype(np.float64).mean(axis=0)
    quality = float(outputs["quality"].astype(np.float64).mean())
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32), quality


def enroll_photos(
    reader: FaceReader, gallery: Gallery, name: str, photos: Sequence[Path], options: EnrollOptions = EnrollOptions()
) -> list[EnrolledPhoto]:
    """Enrol a person from photos that show no other person; all of them or, when one is refused, none.

    Raises:
        EnrollError: a photo cannot be read, shows no face or several, or one that is too poor.
        GalleryError: the name is not allowed, or the gallery cannot be written.
    """
    name = clean_name(name)
    if not photos:
        raise EnrollError(f"to enrol {name!r}, at least one photo is needed")
    views = [_good_view(reader, photo, options) for photo in photos]
    return _store(gallery, name, photos, views, options)


def people_in(folder: Path) -> tuple[dict[str, list[Path]], list[RefusedPhoto]]:
    """Return the photos of a folder with one folder per person, by name, and what lies beside them.

    Hidden files, such as those that file managers make, are passed over.

    Raises:
        EnrollError: it cannot be read, or has no folder in it.
    """
    people: dict[str, list[Path]] = {}
    strays = []
    for entry in _listed(folder):
        if not entry.is_dir():
            strays.append(RefusedPhoto(entry, "lies in no person's folder"))
            continue
        try:
            people.setdefault(clean_name(entry.name), []).extend(_listed(entry))
        except GalleryError as error:
            strays.append(RefusedPhoto(entry, str(error)))
    if not people:
        raise EnrollError(f"folder {folder}: has no folders with photos in it, one for each person")
    return people, strays


def enroll_people(
    reader: FaceReader, gallery: Gallery, people: Mapping[str, Sequence[Path]], options: EnrollOptions = EnrollOptions()
) -> Iterable[tuple[str, list[EnrolledPhoto], list[RefusedPhoto]]]:
    """Enrol people one after the other, each from all photos that are good.

    Yields:
        name, the photos that were taken, and those that were refused.

    Raises:
        GalleryError: the gallery cannot be written.
    """
    for name, photos in people.items():
        taken, views, refused = [], [], []
        for photo in photos:
            try:
                views.append(_good_view(reader, photo, options))
                taken.append(photo)
            except EnrollError as error:
                refused.append(RefusedPhoto(photo, str(error).removeprefix(f"photo {photo}: ")))
        yield name, _store(gallery, name, taken, views, options) if views else [], refused


def reenroll(
    face_engine: Engine, gallery: Gallery, fingerprint: str, step: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Make all embeddings again, with another model, from the photos that are kept; all of them or none.

    Args:
        face_engine: the other model's.
        gallery: opened without a fingerprint.
        fingerprint: the other model's.
        step: called for each embedding.

    Returns:
        How many embeddings were made, and how many had no photo and are gone; their people have others.

    Raises:
        GalleryError: a person has no photo, or the gallery was changed meanwhile or cannot be written. It is as before.
    """
    revision = gallery.revision
    made: dict[int, tuple[Float, float]] = {}
    total, without = 0, []
    for name, photos in groupby(gallery.photos(), key=lambda photo: photo.name):
        again = {}
        for photo in photos:
            if photo.jpeg is not None:
                again[photo.embedding] = embed(face_engine, _decoded(photo, photo.jpeg))
            total += 1
            step()
        if not again:
            without.append(name)
        made |= again
    if without:
        raise GalleryError(
            f"gallery {gallery.path}: nothing was changed, since no photo is kept of {', '.join(without)}: enrol them "
            "again from photos with --keep-photos, or take them out with `trunkline gallery remove`"
        )
    gallery.replace(fingerprint, made, revision)
    return len(made), total - len(made)


def _decoded(photo: StoredPhoto, jpeg: bytes) -> Pixels:
    try:
        return decode_photo(jpeg)
    except GalleryError as error:
        raise GalleryError(f"{photo.name}: {error}; nothing was changed") from error


def _good_view(reader: FaceReader, photo: Path, options: EnrollOptions) -> View:
    view = reader.read(photo)
    flaw = None if options.accept_poor else view.flaw()
    if flaw is not None:
        raise EnrollError(f"photo {photo}: its face {flaw}")
    return view


def _store(
    gallery: Gallery, name: str, photos: Sequence[Path], views: Sequence[View], options: EnrollOptions
) -> list[EnrolledPhoto]:
    embeddings = np.stack([view.embedding for view in views])
    qualities = [view.quality for view in views]
    kept = [encode_photo(view.crop) if options.keep_photos else None for view in views]
    gallery.enroll(name, embeddings, [photo.name for photo in photos], qualities, kept, options.terms)
    return [EnrolledPhoto(photo, view.quality, view.flaw()) for photo, view in zip(photos, views, strict=True)]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise EnrollError(f"folder {folder}: cannot be read: {error.strerror}") from error


def _only_face(faces: Faces, photo: Path) -> tuple[Float, float]:
    """Return the landmarks (5, 2) and the height in pixels of the one face a photo may show."""
    heights = faces.boxes[:, 3] - faces.boxes[:, 1]
    if not len(heights):
        raise EnrollError(f"photo {photo}: shows no face; where there is one, crop the photo to it")
    tallest = float(heights.max())
    count = int((heights >= BYSTANDER * tallest).sum())
    if count > 1:
        raise EnrollError(f"photo {photo}: shows {count} faces, but must show one person alone")
    return np.asarray(faces.landmarks[heights.argmax()], np.float32), tallest
