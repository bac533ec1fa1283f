"""Ways from the frames of a track to a decision, each as similarities to the people of a gallery."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from engines.arrays import Float, Rows
from pipeline.gallery.gallery import Snapshot
from pipeline.gallery.search import Index
from pipeline.identity.stage import FaceTrack, match
from tools.recognition.crops import Crops
from tools.recognition.splits import PersonFrames

Method = Callable[[Crops, Rows, "Enrolled"], Float]  # -> (decisions, P) similarities; one a track, or one a frame

OURS: Final = "Trunkline"
SINGLE: Final = "single frames"


class Enrolled:
    """People with a few views each.

    Attributes:
        names: (P,)
        index: as the pipeline searches it.
    """

    def __init__(self, crops: Crops, people: Sequence[PersonFrames]) -> None:
        self.names = [person.name for person in people]
        self.index = Index(Snapshot(*_rows(crops, people)))
        self._views = [crops.embeddings[person.enrolled] for person in people]

    def similarities(self, embeddings: Float) -> Float:
        """Cosines (F, P) of unit embeddings (F, D) to the most similar view of each person."""
        return np.stack([(embeddings @ views.T).max(axis=1) for views in self._views], axis=1)


def _rows(crops: Crops, people: Sequence[PersonFrames]) -> tuple[tuple[str, ...], Float]:
    names = tuple(person.name for person in people for _ in person.enrolled)
    return names, crops.embeddings[np.concatenate([person.enrolled for person in people])]


def followed(crops: Crops, rows: Rows, enrolled: Enrolled) -> FaceTrack:
    """The pipeline's own face track after these frames, in their order."""
    track = FaceTrack()
    for row in rows.tolist():
        track.evidence.add(crops.embeddings[row], float(crops.qualities[row]), float(crops.frontal[row]))
        match([track], enrolled.index)
    return track


def _ours(crops: Crops, rows: Rows, enrolled: Enrolled) -> Float:
    return enrolled.similarities(followed(crops, rows, enrolled).embedding[None])


def _single(crops: Crops, rows: Rows, enrolled: Enrolled) -> Float:
    return enrolled.similarities(crops.embeddings[rows])


def _mean(crops: Crops, rows: Rows, enrolled: Enrolled) -> Float:
    mean = crops.embeddings[rows].mean(axis=0)
    return enrolled.similarities((mean / np.linalg.norm(mean))[None])


METHODS: Final[dict[str, Method]] = {
    SINGLE: _single,
    "plain mean": _mean,
    OURS: _ours,
}
