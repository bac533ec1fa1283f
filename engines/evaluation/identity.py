"""Identities: verification of crops as they are, and of whole pictures found, aligned and embedded by the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from engines.alignment import align
from engines.boxes import Float
from engines.decode import Faces
from engines.errors import DataError
from engines.evaluation.data import Pair, Skipped, read_pairs, read_points
from engines.evaluation.runner import Runner, Seen, similarity_of
from engines.evaluation.verification import FOLDS, accept_rate, fold_accuracy, split_folds
from engines.pictures import Pixels, read_rgb
from engines.spec import Thresholds

FOLDER = "face_recognition"
CROP_SETS = ("lfw", "ytf", "bolly", "cross")
FOLD_RULE = "folds are dealt by identity; a fold's threshold is chosen on pairs that show none of its identities"
FACE_RULE = (
    "of the faces at or above the model's face threshold that hold the picture's centre, or of all where none does, "
    "the one with the largest score times area"
)


class PairScores(msgspec.Struct, frozen=True, kw_only=True):
    """Verification over one list of pairs."""

    accuracy: float  # mean over the folds
    std: float  # over the folds
    threshold: float  # cosine similarity, mean over the folds
    tar_at_far_2: float = msgspec.field(name="tar_at_far_1e-2")  # true-accept rate; needs 100 impostor pairs
    threshold_at_far_2: float = msgspec.field(name="threshold_at_far_1e-2")
    tar_at_far_3: float = msgspec.field(name="tar_at_far_1e-3")  # with 1,000 impostor pairs, one may pass
    threshold_at_far_3: float = msgspec.field(name="threshold_at_far_1e-3")
    pairs: int
    genuine: int
    missed_pairs: int  # pairs with a picture in which no face was found; each counts as an error
    skipped_pairs: int  # pairs with a picture that cannot be read; left out


class EndToEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Whole pictures: the network finds the face, its landmarks align it, the face entry embeds it."""

    scores: PairScores
    found_only: PairScores | None  # the same without the pairs that have a missed picture
    pictures: int
    missed: int  # pictures in which no face was found
    face_score_threshold: float
    face_rule: str = FACE_RULE


class IdentityScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well two pictures of one person are told from those of two."""

    accuracy: float  # LFW crops as they are
    accuracy_std: float
    accuracy_end_to_end: float  # whole LFW pictures; misses are errors
    accuracy_end_to_end_std: float
    crops: dict[str, PairScores]
    end_to_end: EndToEnd
    folds: int = FOLDS
    fold_rule: str = FOLD_RULE
    skipped: list[str]


def score_identity(runner: Runner, data: Path, limit: int | None = None) -> IdentityScores:
    """Score the face entry alone and behind the frame entry; ``limit`` looks at that many pairs of each list only.

    Raises:
        DataError: the data is missing or too broken, or has too few pairs.
    """
    skipped = Skipped()
    crops = _score_crops(runner, data / FOLDER, skipped, limit)
    end_to_end = _score_end_to_end(runner, data / FOLDER, skipped, limit)
    return IdentityScores(
        accuracy=crops["lfw"].accuracy,
        accuracy_std=crops["lfw"].std,
        accuracy_end_to_end=end_to_end.scores.accuracy,
        accuracy_end_to_end_std=end_to_end.scores.std,
        crops=crops,
        end_to_end=end_to_end,
        skipped=skipped.rows,
    )


def _score_crops(runner: Runner, folder: Path, skipped: Skipped, limit: int | None) -> dict[str, PairScores]:
    pairs = {name: read_pairs(folder / f"pairs_val_{name}.txt", folder / "val", skipped, limit) for name in CROP_SETS}
    embeddings = runner.embed_crops(
        "face crops", _pictures([pair for rows in pairs.values() for pair in rows]), skipped
    )
    scores = {name: score_pairs(rows, embeddings) for name, rows in pairs.items()}
    points = read_points(folder / "ytf_landmarks5_val.json", folder / "val")
    pictures = [path for path in _pictures(pairs["ytf"]) if path in points]

    def read_aligned(path: Path) -> Pixels:
        try:
            return align(read_rgb(path), np.array(points[path], np.float32))
        except ValueError as error:
            raise DataError(f"picture {path}: {error}") from error

    aligned = runner.embed_crops("aligned face crops", pictures, skipped, read_aligned)
    return scores | {"ytf_aligned": score_pairs(pairs["ytf"], aligned)}


@dataclass(frozen=True, slots=True)
class Found:
    """Faces that the network found by itself in whole pictures of one person each."""

    embeddings: dict[Path, Float]  # (D,) of each picture with a face
    missed: frozenset[Path]  # pictures without


def embed_whole(runner: Runner, pictures: Sequence[Path], thresholds: Thresholds, skipped: Skipped) -> Found:
    """Find the face of every picture, align it with its own landmarks from the full picture, and embed it.

    Raises:
        DataError: too many pictures cannot be read.
    """
    embeddings: dict[Path, Float] = {}
    missed = set()
    for picture in runner.see("whole faces", pictures, thresholds, skipped):
        face = cut_face(picture)
        if face is None:
            missed.add(picture.path)
        else:
            embeddings[picture.path] = runner.embed([face])[0]
    return Found(embeddings, frozenset(missed))


def cut_face(picture: Seen) -> Pixels | None:
    """The aligned face (112, 112, 3) of whom a picture is about; None when there is none to align."""
    faces = picture.detections.faces
    row = main_face(faces, (picture.pixels.shape[1], picture.pixels.shape[0]))
    if row is None:
        return None
    try:
        return align(picture.pixels, faces.landmarks[row])
    except ValueError:  # landmarks that are no face: the network did not find it
        return None


def main_face(faces: Faces, size: tuple[int, int]) -> int | None:
    """Row of the face that a picture of ``size`` (width, height) is about, after :data:`FACE_RULE`; None for none."""
    if not len(faces.boxes):
        return None
    boxes, centre = faces.boxes, np.array(size) / 2
    central = ((boxes[:, :2] <= centre) & (centre <= boxes[:, 2:])).all(axis=1)
    weight = faces.scores * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return int(np.argmax(np.where(central, weight, -1.0) if central.any() else weight))


def _score_end_to_end(runner: Runner, folder: Path, skipped: Skipped, limit: int | None) -> EndToEnd:
    pairs = read_pairs(folder / "pairs_lfw_loose_val.txt", folder / "lfw_loose_val", skipped, limit)
    found = embed_whole(runner, _pictures(pairs), runner.model.spec.thresholds, skipped)
    return EndToEnd(
        scores=score_pairs(pairs, found.embeddings, found.missed),
        found_only=_found_only(pairs, found),
        pictures=len(found.embeddings) + len(found.missed),
        missed=len(found.missed),
        face_score_threshold=runner.model.spec.thresholds.face_score,
    )


def _found_only(pairs: list[Pair], found: Found) -> PairScores | None:
    try:
        return score_pairs(pairs, found.embeddings)
    except DataError:  # so few were found that nothing is left to score
        return None


def score_pairs(
    pairs: Sequence[Pair], embeddings: dict[Path, Float], missed: frozenset[Path] = frozenset()
) -> PairScores:
    """Score pairs whose pictures have an embedding (D,) each.

    A pair with a picture of ``missed`` is an error, whether it is genuine or not; a pair with any other picture
    without embedding is left out.

    Raises:
        DataError: too few pairs are left.
    """
    known = embeddings.keys() | missed
    used = [pair for pair in pairs if pair.first in known and pair.second in known]
    genuine = np.array([pair.genuine for pair in used], np.bool_)
    similarities = np.array([similarity_of(embeddings, pair.first, pair.second) for pair in used], np.float64)
    folds = fold_accuracy(similarities, genuine, split_folds(used))
    tar_2, threshold_2 = accept_rate(similarities, genuine, 1e-2)
    tar_3, threshold_3 = accept_rate(similarities, genuine, 1e-3)
    return PairScores(
        accuracy=folds.accuracy,
        std=folds.std,
        threshold=folds.threshold,
        tar_at_far_2=tar_2,
        threshold_at_far_2=threshold_2,
        tar_at_far_3=tar_3,
        threshold_at_far_3=threshold_3,
        pairs=len(used),
        genuine=int(genuine.sum()),
        missed_pairs=int(np.isnan(similarities).sum()),
        skipped_pairs=len(pairs) - len(used),
    )


def _pictures(pairs: Sequence[Pair]) -> list[Path]:
    return sorted({path for pair in pairs for path in (pair.first, pair.second)})
