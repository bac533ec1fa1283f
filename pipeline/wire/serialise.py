"""Faces as messages have them."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pipeline.frames.events import Box
from pipeline.frames.types import FaceLabel, Identity
from pipeline.wire.messages import FaceLabelMessage, FaceMessage, IdentityMessage


def face_messages(
    tracks: Iterable[int],
    owners: Iterable[int | None],
    scores: Iterable[float],
    boxes: Iterable[Box],
    landmarks: Iterable[tuple[tuple[float, float], ...]],
    identities: Iterable[Identity | None],
    labels: Mapping[str, Sequence[FaceLabel | None]],
) -> tuple[FaceMessage, ...]:
    """Faces, the persons' tracks, boxes and landmarks in source pixels, all rounded; ``labels`` by task of faces."""
    columns = tracks, owners, scores, boxes, landmarks, map(_identity, identities)
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
