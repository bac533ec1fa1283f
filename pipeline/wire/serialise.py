"""Arrays as messages have them: pixels with 1 decimal, scores with 3."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from engines.arrays import Float
from pipeline.frames.rounding import rounded
from pipeline.frames.types import FaceLabel, Identity
from pipeline.wire.messages import FaceLabelMessage, FaceMessage, IdentityMessage


def tuples(table: npt.NDArray[np.float64]) -> Iterator[Any]:
    """The rows of a table as tuples."""
    return zip(*table.T.tolist(), strict=True)


def face_messages(
    tracks: Iterable[int],
    owners: Iterable[int],
    scores: Float,
    boxes: Float,
    landmarks: Float,
    identities: Iterable[Identity | None],
    labels: Mapping[str, Sequence[FaceLabel | None]],
) -> tuple[FaceMessage, ...]:
    """Faces (N,) with the persons' tracks, 0 for none, boxes (N, 4) and landmarks (N, 5, 2) in source pixels.

    ``labels`` are N by each task of faces.
    """
    points = tuples(rounded(landmarks, 1).reshape(-1, 2))
    columns = (
        tracks,
        (person or None for person in owners),
        rounded(scores, 3).tolist(),
        tuples(rounded(boxes, 1)),
        zip(*[points] * landmarks.shape[1], strict=True),  # so many at a time
        map(_identity, identities),
    )
    faces = tuple(map(FaceMessage, *columns))
    for task, said in labels.items():
        faces = tuple(
            with_labels(face, {} if label is None else {task: label}) for face, label in zip(faces, said, strict=True)
        )
    return faces


def with_labels(face: FaceMessage, labels: Mapping[str, FaceLabel]) -> FaceMessage:
    """The face with what tasks of faces say of it, each in the field of its name."""
    said = {task: FaceLabelMessage(label.label, round(label.score, 3)) for task, label in labels.items()}
    return msgspec.structs.replace(face, **said) if said else face


def _identity(identity: Identity | None) -> IdentityMessage | None:
    return None if identity is None else IdentityMessage(identity.name, round(float(identity.score), 3))
