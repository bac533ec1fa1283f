"""Video frames of people, embedded once."""

import os
from collections.abc import Iterator
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
PRIVATE: Final = 0o600  # embeddings of people


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


def read_crops(model: Model, data: Path, split: Split, work: Path) -> Crops:
    """Embed the video frames of a split, or read what an earlier run has kept in ``work``.

    Raises:
        DataError: the data is missing, or too many pictures cannot be read.
    """
    folder = data / PEOPLE
    points = read_points(folder / f"ytf_landmarks5_{split}.json", folder / split)
    paths = sorted((path for path in points if path.name.startswith(PREFIX)), key=_order)
    kept = work / f"{split}-{model.fingerprint}-{len(paths)}.npz"
    if not kept.is_file():
        work.mkdir(parents=True, exist_ok=True)
        _keep(kept, *_embed(model, paths, IdentityTruth({}, {}, (), points)))
    with np.load(kept) as stored:
        embeddings, qualities = stored["embeddings"], stored["qualities"]
    return Crops(
        embeddings,
        qualities,
        frontality(np.array([points[path] for path in paths], np.float32)),
        np.array([path.parent.name for path in paths]),
        np.array([_video(path) for path in paths]),
    )


def _video(path: Path) -> str:
    return path.stem.removeprefix(PREFIX).removeprefix("t")[0]


def _order(path: Path) -> tuple[str, str, str]:
    return path.parent.name, _video(path), path.name


def _embed(model: Model, paths: list[Path], truth: IdentityTruth) -> tuple[Float, Float]:
    with open_runner(model, "auto", "f32") as runner:
        # Strict: rows must stay those of the paths.
        faces = runner.view_crops("video frames", paths, SkippedRows(0.0), lambda path: read_face(path, truth))
    found = [faces[path] for path in paths]
    return np.stack([face.embedding for face in found]), np.array([face.quality for face in found], np.float32)


def _keep(file: Path, embeddings: Float, qualities: Float) -> None:
    part = file.with_suffix(".part.npz")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "wb") as opened:
        np.savez(opened, embeddings=embeddings, qualities=qualities)
    os.replace(part, file)


def shuffled(rows: Rows, generator: np.random.Generator) -> Iterator[int]:
    """The rows again and again, each time in another order."""
    while True:
        yield from generator.permutation(rows).tolist()
