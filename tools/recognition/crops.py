"""Video frames of people, embedded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from engines.arrays import Float, Rows
from engines.data.folders import read_points
from engines.data.reading import SkippedRows
from engines.evaluation.report import open_runner
from engines.evaluation.truth import PEOPLE, IdentityTruth
from engines.spec import Model
from engines.tasks.identity.metrics import read_face
from pipeline.identity.stage import frontality

Split = Literal["train", "val"]
Names = npt.NDArray[np.str_]

PREFIX: Final = "ytf_"  # of the crops that are video frames: ytf_VF.webp, with V the video and F the frame, or ytf_tVF


@dataclass(frozen=True, slots=True)
class Crops:
    """N aligned faces, those of a person together and in the order of the videos."""

    embeddings: Float  # (N, D) unit
    qualities: Float  # (N,)
    frontal: Float  # (N,)
    people: Names  # (N,)
    videos: Names  # (N,) unique within a person

    def of(self, person: str) -> dict[str, Rows]:
        """The rows of each video of a person."""
        rows = np.flatnonzero(self.people == person)
        return {video: rows[self.videos[rows] == video] for video in np.unique(self.videos[rows]).tolist()}


def read_crops(model: Model, data: Path, split: Split) -> Crops:
    """Embed the video frames of a split.

    Raises:
        DataError: the data is missing, or a picture cannot be read.
    """
    folder = data / PEOPLE
    points = read_points(folder / f"ytf_landmarks5_{split}.json", folder / split)
    paths = sorted((it for it in points if it.name.startswith(PREFIX)), key=lambda it: (it.parent.name, _video(it), it))
    truth = IdentityTruth({}, {}, (), points)
    with open_runner(model, "auto", "f32") as runner:
        # Strict: rows must stay those of the paths.
        found = runner.view_crops("video frames", paths, SkippedRows(0.0), lambda path: read_face(path, truth))
    faces = [found[path] for path in paths]
    return Crops(
        np.stack([face.embedding for face in faces]),
        np.array([face.quality for face in faces], np.float32),
        frontality(np.array([points[path] for path in paths], np.float32)),
        np.array([path.parent.name for path in paths]),
        np.array([_video(path) for path in paths]),
    )


def _video(path: Path) -> str:
    return path.stem.removeprefix(PREFIX).removeprefix("t")[0]
