"""Arrays as messages have them: pixels with 1 decimal, scores with 3."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.arrays import Float
from pipeline.frames.rounding import rounded
from pipeline.frames.types import Identity
from pipeline.wire.messages import FaceMessage, IdentityMessage


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
) -> tuple[FaceMessage, ...]:
    """Faces (N,) with the persons' tracks, 0 for none, boxes (N, 4) and landmarks (N, 5, 2) in source pixels."""
    points = tuples(rounded(landmarks, 1).reshape(-1, 2))
    columns = (
        tracks,
        (person or None for person in owners),
        rounded(scores, 3).tolist(),
        tuples(rounded(boxes, 1)),
        zip(*[points] * landmarks.shape[1], strict=True),  # so many at a time
        map(_identity, identities),
    )
    return tuple(map(FaceMessage, *columns))


def _identity(identity: Identity | None) -> IdentityMessage | None:
    return None if identity is None else IdentityMessage(identity.name, round(float(identity.score), 3))
