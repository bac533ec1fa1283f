"""Identities: verification of crops as they are, and of whole pictures found, aligned and embedded by the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from engines.alignment import align
from engines.arrays import Float, Pixels
from engines.data.pairs import Pair
from engines.data.reading import SkippedRows
from engines.decode import Faces
from engines.errors import DataError
from engines.evaluation.bootstrap import Interval, pair_weights, percentile_interval
from engines.evaluation.detection import WORST
from engines.evaluation.parts import CardRow
from engines.evaluation.runner import ModelRunner, SeenPicture, similarity_of
from engines.evaluation.truth import IdentityTruth, Truth
from engines.pictures import read_rgb
from engines.spec import Thresholds
from engines.tasks.identity.identification import IdentificationScores, score_identification
from engines.tasks.identity.verification import FOLDS, accept_rate, fold_accuracy, roc, split_folds

PICTURES_EACH = (1, 3)  # that are enrolled of a person
FOLD_RULE = "folds are dealt by identity; a fold's threshold is chosen on pairs that show none of its identities"
FACE_RULE = (
    "of the faces at or above the model's face threshold that hold the picture's centre, or of all where none does, "
    "the one with the largest score times area"
)


class PairScores(msgspec.Struct, frozen=True, kw_only=True):
    """Verification over one list of pairs; a rate is None where the impostor pairs are too few to allow one of them."""

    accuracy: float  # mean over the folds
    std: float  # over the folds
    threshold: float  # cosine similarity, mean over the folds
    tar_at_far_1: float | None = msgspec.field(name="tar_at_far_1e-1")  # true-accept rate; needs 10 impostor pairs
    threshold_at_far_1: float | None = msgspec.field(name="threshold_at_far_1e-1")
    tar_at_far_2: float | None = msgspec.field(name="tar_at_far_1e-2")  # needs 100
    threshold_at_far_2: float | None = msgspec.field(name="threshold_at_far_1e-2")
    tar_at_far_3: float | None = msgspec.field(name="tar_at_far_1e-3")  # needs 1,000
    threshold_at_far_3: float | None = msgspec.field(name="threshold_at_far_1e-3")
    intervals: dict[str, Interval | None]  # by figure
    roc: list[tuple[float, float]]  # false-accept rate and true-accept rate, both rising
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


class WorstPair(msgspec.Struct, frozen=True, kw_only=True):
    """One of the pairs that are told worst."""

    first: str
    second: str
    genuine: bool
    similarity: float


class IdentityScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well two pictures of one person are told from those of two, and people from a gallery."""

    headline: str  # the set of pairs of the figures below, crops as they are
    accuracy: float
    accuracy_std: float
    tar_at_far_1: float | None = msgspec.field(name="tar_at_far_1e-1")
    tar_at_far_2: float | None = msgspec.field(name="tar_at_far_1e-2")
    tar_at_far_3: float | None = msgspec.field(name="tar_at_far_1e-3")
    dir_at_far_1: float | None = msgspec.field(name="dir_at_far_1e-1")  # one picture enrolled
    dir_at_far_2: float | None = msgspec.field(name="dir_at_far_1e-2")
    accuracy_end_to_end: (
        float | None
    )  # whole pictures; misses are errors. None: no such pairs, or hardly a face was found
    accuracy_end_to_end_std: float | None
    intervals: dict[str, Interval | None]  # by figure; people are drawn, not pairs
    crops: dict[str, PairScores]
    identification: dict[str, IdentificationScores]  # by set and pictures enrolled of each person
    end_to_end: EndToEnd | None
    folds: int = FOLDS
    fold_rule: str = FOLD_RULE
    worst: list[WorstPair]  # the most similar impostor pairs, then the least similar genuine ones
    skipped: list[str]


@dataclass(frozen=True, slots=True)
class CropEvidence:
    """Face crops as they are, and those with known points also aligned by them."""

    truth: IdentityTruth
    embeddings: dict[Path, Float]  # (D,) of each crop that could be read
    aligned: dict[str, dict[Path, Float]]  # by set of pairs, where points are known for pairs of both kinds


@dataclass(frozen=True, slots=True)
class WholeEvidence:
    """Pairs of whole pictures, and the faces that the network found in them."""

    pairs: list[Pair]
    found: "FoundFaces"
    face_score: float


@dataclass(frozen=True, slots=True)
class IdentityEvidence:
    """All embeddings of which the figures are made."""

    crops: CropEvidence
    whole: WholeEvidence | None
    skipped: list[str]


def gather(runner: ModelRunner, truth: Truth) -> IdentityEvidence:
    """Embed crops and, if the model finds faces, whole pictures.

    Raises:
        DataError: too many pictures cannot be read.
    """
    assert truth.identity is not None
    skipped, faces = SkippedRows(), "faces" in runner.model.spec.network.tasks
    crops = _gather_crops(runner, truth.identity, skipped)
    whole = _gather_whole(runner, truth.identity.whole_pairs, skipped) if faces and truth.identity.whole_pairs else None
    return IdentityEvidence(crops, whole, [*truth.skipped.get("identity", ()), *skipped.rows])


def _gather_crops(runner: ModelRunner, truth: IdentityTruth, skipped: SkippedRows) -> CropEvidence:
    wanted = {path for name in truth.searched for path in truth.crops.get(name, ())}
    wanted.update(_pictures([pair for rows in truth.pairs.values() for pair in rows]))
    embeddings = runner.embed_crops("face crops", sorted(wanted), skipped)

    aligned = {}
    for name, pairs in truth.pairs.items():
        known = [pair for pair in pairs if pair.first in truth.points and pair.second in truth.points]
        if len({pair.genuine for pair in known}) == 2:
            pictures = [path for path in _pictures(pairs) if path in truth.points]
            aligned[name] = runner.embed_crops(
                "aligned face crops", pictures, skipped, lambda path: read_face(path, truth)
            )
    return CropEvidence(truth, embeddings, aligned)


def read_face(path: Path, truth: IdentityTruth) -> Pixels:
    """A face crop, aligned where its five points are known, else as it is.

    Raises:
        DataError: it cannot be read, or its points are no face's.
    """
    if path not in truth.points:
        return read_rgb(path)
    try:
        return align(read_rgb(path), np.array(truth.points[path], np.float32))
    except ValueError as error:
        raise DataError(f"picture {path}: {error}") from error


def _gather_whole(runner: ModelRunner, pairs: list[Pair], skipped: SkippedRows) -> WholeEvidence:
    thresholds = runner.model.spec.thresholds
    return WholeEvidence(pairs, embed_whole(runner, _pictures(pairs), thresholds, skipped), thresholds.face_score)


def score(evidence: IdentityEvidence) -> IdentityScores:
    """The figures of verification and identification.

    Raises:
        DataError: the pairs are too few.
    """
    pairs, headline = evidence.crops.truth.pairs, next(iter(evidence.crops.truth.pairs))
    crops = {name: score_pairs(rows, evidence.crops.embeddings) for name, rows in pairs.items()}
    crops |= {f"{name}_aligned": score_pairs(pairs[name], found) for name, found in evidence.crops.aligned.items()}
    end_to_end = _score_whole(evidence.whole) if evidence.whole else None
    identification = _identify(evidence.crops)
    first, whole = crops[headline], end_to_end.scores if end_to_end else None
    searched = identification.get(f"{headline}_1")
    return IdentityScores(
        headline=headline,
        accuracy=first.accuracy,
        accuracy_std=first.std,
        tar_at_far_1=first.tar_at_far_1,
        tar_at_far_2=first.tar_at_far_2,
        tar_at_far_3=first.tar_at_far_3,
        dir_at_far_1=searched.dir_at_far_1 if searched else None,
        dir_at_far_2=searched.dir_at_far_2 if searched else None,
        accuracy_end_to_end=whole.accuracy if whole else None,
        accuracy_end_to_end_std=whole.std if whole else None,
        intervals=first.intervals
        | ({"accuracy_end_to_end": whole.intervals["accuracy"]} if whole else {})
        | ({name: searched.intervals[name] for name in ("dir_at_far_1e-1", "dir_at_far_1e-2")} if searched else {}),
        crops=crops,
        identification=identification,
        end_to_end=end_to_end,
        worst=worst_pairs(evidence),
        skipped=evidence.skipped,
    )


def _identify(crops: CropEvidence) -> dict[str, IdentificationScores]:
    found = {}
    for name in crops.truth.searched:
        pictures = [path for path in crops.truth.crops.get(name, ()) if path in crops.embeddings]
        embeddings = {path: crops.embeddings[path] for path in pictures}
        for count in PICTURES_EACH:
            found[f"{name}_{count}"] = score_identification(embeddings, count, crops.truth.who)
    return {name: scores for name, scores in found.items() if scores is not None}


def worst_pairs(evidence: IdentityEvidence) -> list[WorstPair]:
    """The headline's pairs of two people that look most alike and those of one person that look least alike."""
    embeddings, listed = evidence.crops.embeddings, next(iter(evidence.crops.truth.pairs.values()))
    pairs = [pair for pair in listed if {pair.first, pair.second} <= embeddings.keys()]
    rows = [
        WorstPair(
            first=str(pair.first),
            second=str(pair.second),
            genuine=pair.genuine,
            similarity=similarity_of(embeddings, pair.first, pair.second),
        )
        for pair in pairs
    ]
    rows.sort(key=lambda row: row.similarity)
    genuine = [row for row in rows if row.genuine][: WORST // 2]
    impostors = [row for row in reversed(rows) if not row.genuine][: WORST // 2]
    return impostors + genuine


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """Faces that the network found by itself in whole pictures of one person each."""

    embeddings: dict[Path, Float]  # (D,) of each picture with a face
    missed: frozenset[Path]  # pictures without


def embed_whole(
    runner: ModelRunner, pictures: Sequence[Path], thresholds: Thresholds, skipped: SkippedRows
) -> FoundFaces:
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
    return FoundFaces(embeddings, frozenset(missed))


def cut_face(picture: SeenPicture) -> Pixels | None:
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


def _score_whole(whole: WholeEvidence) -> EndToEnd | None:
    found = whole.found
    try:
        scores = score_pairs(whole.pairs, found.embeddings, found.missed)
    except DataError:
        if not found.missed:
            raise
        return None  # so few faces were found that no threshold can be chosen
    return EndToEnd(
        scores=scores,
        found_only=_found_only(whole.pairs, found),
        pictures=len(found.embeddings) + len(found.missed),
        missed=len(found.missed),
        face_score_threshold=whole.face_score,
    )


def _found_only(pairs: list[Pair], found: FoundFaces) -> PairScores | None:
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
    if len({pair.genuine for pair in used}) < 2:
        raise DataError("verification: needs pairs of one person and pairs of two people that could be compared")
    genuine = np.array([pair.genuine for pair in used], np.bool_)
    similarities = np.array([similarity_of(embeddings, pair.first, pair.second) for pair in used], np.float64)
    weights = pair_weights([pair.identities for pair in used])
    dealt = split_folds(used)
    folds, resampled = fold_accuracy(similarities, genuine, dealt), fold_accuracy(similarities, genuine, dealt, weights)
    tenth, hundredth, thousandth = (accept_rate(similarities, genuine, far, weights) for far in (1e-1, 1e-2, 1e-3))
    return PairScores(
        accuracy=float(folds.mean[0]),
        std=float(folds.std[0]),
        threshold=float(folds.thresholds.mean()),
        tar_at_far_1=tenth.rate if tenth else None,
        threshold_at_far_1=tenth.threshold if tenth else None,
        tar_at_far_2=hundredth.rate if hundredth else None,
        threshold_at_far_2=hundredth.threshold if hundredth else None,
        tar_at_far_3=thousandth.rate if thousandth else None,
        threshold_at_far_3=thousandth.threshold if thousandth else None,
        intervals={
            "accuracy": percentile_interval(resampled.mean),
            "tar_at_far_1e-1": percentile_interval(tenth.resampled) if tenth else None,
            "tar_at_far_1e-2": percentile_interval(hundredth.resampled) if hundredth else None,
            "tar_at_far_1e-3": percentile_interval(thousandth.resampled) if thousandth else None,
        },
        roc=roc(similarities, genuine),
        pairs=len(used),
        genuine=int(genuine.sum()),
        missed_pairs=int(np.isnan(similarities).sum()),
        skipped_pairs=len(pairs) - len(used),
    )


def _pictures(pairs: Sequence[Pair]) -> list[Path]:
    return sorted({path for pair in pairs for path in (pair.first, pair.second)})


def rows(scores: IdentityScores) -> list[CardRow]:
    """The figures of the model card."""
    end_to_end = "the same end to end: found, aligned and embedded by the model"
    between = scores.intervals
    return [
        (f"verification accuracy on {scores.headline}", scores.accuracy, between.get("accuracy")),
        (end_to_end, scores.accuracy_end_to_end, between.get("accuracy_end_to_end")),
        ("true-accept rate at a false-accept rate of 1e-2", scores.tar_at_far_2, between.get("tar_at_far_1e-2")),
        ("rank-1 identification at a false-alarm rate of 1e-1", scores.dir_at_far_1, between.get("dir_at_far_1e-1")),
    ]


def worst(scores: IdentityScores) -> dict[str, list[tuple[str, ...]]]:
    """The pairs that are told worst."""
    return {"identity": [(each.first, each.second) for each in scores.worst]}
