"""Photos of a person -> embeddings in the gallery."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.alignment import align
from engines.boxes import Float, letterbox
from engines.decode import Faces, decode
from engines.engine import Engine
from engines.errors import DataError, EnrollError
from engines.pictures import read_rgb
from engines.spec import ModelSpec
from pipeline.config import IdentitySettings
from pipeline.gallery import Gallery, clean_name
from pipeline.picture import Picture
from pipeline.preprocess import letterbox_into

Pixels = npt.NDArray[np.uint8]

BYSTANDER = 0.4  # of the largest face's height: smaller faces are background
MIN_FACE_PX = IdentitySettings().min_face_px


@dataclass(frozen=True, slots=True)
class FaceReader:
    """Both entries of a model, together from a photo to an embedding."""

    spec: ModelSpec
    frame_engine: Engine
    face_engine: Engine

    def find(self, pixels: Pixels) -> Faces:
        """The faces in RGB pixels (H, W, 3), in those pixels."""
        entry = self.frame_engine.spec
        picture = Picture.from_rgb(pixels)
        box = letterbox((picture.width, picture.height), (entry.width, entry.height))
        batch = np.empty((1, entry.height, entry.width, 3), np.uint8)
        letterbox_into(picture, box, batch[0])
        return decode(self.frame_engine.infer(batch), 0, box, self.spec.thresholds).faces

    def embed(self, face: Pixels) -> tuple[Float, float]:
        """The unit embedding (D,) of an aligned face (112, 112, 3) and its quality in [0, 1].

        The mean over the face and its mirror image: a photo is embedded once and compared for ever.
        """
        outputs = self.face_engine.infer(np.stack([face, face[:, ::-1]]))
        mean = outputs["embedding"].astype(np.float64).mean(axis=0)
        quality = float(outputs["quality"].astype(np.float64).mean())
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32), quality


def enroll_photos(reader: FaceReader, gallery: Gallery, name: str, photos: Sequence[Path]) -> list[float]:
    """Enrol a person from photos that show nobody else; all of them or, when one is refused, none.

    Returns:
        The quality of each photo's face in [0, 1].

    Raises:
        EnrollError: a photo cannot be read, or shows no face, several, or one that is too small.
        GalleryError: the name is not allowed, or the gallery cannot be written.
    """
    name = clean_name(name)
    if not photos:
        raise EnrollError(f"to enrol {name!r}, at least one photo is needed")
    views = [_view(reader, photo) for photo in photos]
    qualities = [quality for _, quality in views]
    gallery.enroll(name, np.stack([embedding for embedding, _ in views]), [photo.name for photo in photos], qualities)
    return qualities


def _view(reader: FaceReader, photo: Path) -> tuple[Float, float]:
    try:
        pixels = read_rgb(photo)
    except DataError as error:
        raise EnrollError(f"photo {photo}: cannot be enrolled: {error}") from error
    landmarks = _only_face(reader.find(pixels), photo)
    try:
        face = align(pixels, landmarks)
    except ValueError as error:
        raise EnrollError(f"photo {photo}: shows no face that can be turned upright") from error
    return reader.embed(face)


def _only_face(faces: Faces, photo: Path) -> Float:
    """Landmarks (5, 2) of the one face a photo may show."""
    heights = faces.boxes[:, 3] - faces.boxes[:, 1]
    if not len(heights):
        raise EnrollError(f"photo {photo}: shows no face")
    tallest = float(heights.max())
    if tallest < MIN_FACE_PX:
        raise EnrollError(f"photo {photo}: its face is {tallest:.0f} pixels high, but must be at least {MIN_FACE_PX}")
    count = int((heights >= BYSTANDER * tallest).sum())
    if count > 1:
        raise EnrollError(f"photo {photo}: shows {count} faces, but must show one person alone")
    return np.asarray(faces.landmarks[heights.argmax()], np.float32)
