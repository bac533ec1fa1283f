"""Thresholds and probabilities from data: where a model's scores and similarities start to mean something."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from engines.arrays import Flags, Float, Rows
from engines.data.coco import CocoSet
from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.evaluation.coco import BoxDetection
from engines.evaluation.faces import find_faces
from engines.evaluation.identity import cut_face, read_face
from engines.evaluation.matching import match
from engines.evaluation.objects import find_objects
from engines.evaluation.runner import ModelRunner
from engines.evaluation.tracks import ENROLLED_VIEWS, TRACK_VIEWS, Strangers, strangers_of
from engines.evaluation.truth import IdentityTruth, Truth
from engines.spec import ComparedSet, IdentityCalibration, Thresholds

FALSE_ACCEPT_RATE = 0.01  # of strangers' tracks ...
PEOPLE = 10  # ... against a gallery of so many
TEMPERATURES = 0.2, 5.0  # the least and the largest that are looked at
BETA = 0.5  # whoever watches minds a thing that is not there more than one that is missed in a frame


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Thresholds, and what that of identities stands for; None where the data says nothing of it."""

    thresholds: Thresholds
    identity: IdentityCalibration | None


def calibrate_thresholds(runner: ModelRunner, truth: Truth) -> Calibrated:
    """Choose the thresholds of a model's tasks on validation data; the NMS overlaps stay as they are.

    A threshold of which the data says nothing stays as it is, too.

    Object and face scores: where F0.5 at IoU 0.5 is best, over all categories together. Identity similarity: as
    :func:`calibrate_identity` says, with the new face score.

    Raises:
        DataError: too many pictures cannot be read, or the model finds nothing in them.
    """
    skipped, tasks, chosen = SkippedRows(), runner.model.spec.network.tasks, runner.model.spec.thresholds
    if "objects" in tasks and truth.objects is not None:
        score = best_f_threshold(*matched(*find_objects(runner, truth.objects, runner.curve_thresholds, skipped)), BETA)
        chosen = msgspec.structs.replace(chosen, object_score=round(score, 3))
    if "faces" in tasks and truth.faces is not None:
        score = best_f_threshold(*matched(*find_faces(runner, truth.faces, runner.curve_thresholds, skipped)), BETA)
        chosen = msgspec.structs.replace(chosen, face_score=round(score, 3))
    if "identity" not in tasks or truth.identity is None:
        return Calibrated(chosen, runner.model.spec.identity_calibration)
    return calibrate_identity(runner, truth.identity, chosen, skipped)


def calibrate_identity(
    runner: ModelRunner,
    truth: IdentityTruth,
    thresholds: Thresholds,
    skipped: SkippedRows,
    far: float | None = None,
    people: int = PEOPLE,
) -> Calibrated:
    """Choose the cosine from which a track is someone: at most the share ``far`` of strangers' tracks is given a name.

    That is the highest threshold of any set of crops, and of the faces that the network finds and aligns itself in
    whole pictures, if it can: across sets people are told apart by colours and sizes, which makes strangers look easy.
    Sets of too few people to show such a rate are left out.

    Args:
        runner: the open model.
        truth: faces and who they are.
        thresholds: the others, which stay.
        skipped: pictures that cannot be read.
        far: None for 0.01, or the lowest rate that the data can show.
        people: enrolled in the gallery that the rate is for; without ``far`` no more than the data can show.

    Raises:
        DataError: too many pictures cannot be read, there are not two people, or too few for ``far``.
    """
    sets = _strangers(runner, truth, thresholds, skipped)
    most = max(each.people for each in sets.values())
    if far is None:
        people = min(people, most - 1)
    # Of a larger gallery than there are others, nobody knows who else would look like a stranger.
    large = {name: each for name, each in sets.items() if each.people > people}
    finest = min((each.finest(people) for each in large.values()), default=1.0)
    wanted = far if far is not None else max(FALSE_ACCEPT_RATE, math.ceil(finest * 1000) / 1000)
    if not large or finest > wanted:
        raise DataError(
            f"identity threshold: the faces of {most} people are too few to show a false-accept rate of {wanted:g} "
            f"against {people} people"
        )
    compared = tuple(
        _compared(name, each, wanted, people) for name, each in large.items() if each.finest(people) <= wanted
    )
    similarity = max(each.similarity for each in compared)
    calibration = IdentityCalibration(wanted, people, TRACK_VIEWS, ENROLLED_VIEWS, compared)
    return Calibrated(msgspec.structs.replace(thresholds, identity_similarity=similarity), calibration)


def _compared(name: str, strangers: Strangers, far: float, people: int) -> ComparedSet:
    # Rounded up, so that no more strangers pass than were asked for.
    similarity = min(1.0, math.ceil(strangers.threshold(far, people) * 1000) / 1000)
    found = strangers.similarities
    return ComparedSet(name, strangers.people, len(found), found.size, similarity)


def _strangers(
    runner: ModelRunner, truth: IdentityTruth, thresholds: Thresholds, skipped: SkippedRows
) -> dict[str, Strangers]:
    """By set of crops, and of whole pictures; sets of one person are left out."""
    paths = sorted(path for crops in truth.crops.values() for path in crops)
    crops = runner.view_crops("face crops", paths, skipped, lambda path: read_face(path, truth))
    sets = {name: {path: crops[path] for path in listed if path in crops} for name, listed in truth.crops.items()}
    if "faces" in runner.model.spec.network.tasks and truth.whole:
        sets["whole pictures"] = {
            picture.path: runner.view([face])[0]
            for picture in runner.see("whole faces", truth.whole, thresholds, skipped)
            if (face := cut_face(picture)) is not None
        }
    found = {}
    for name, faces in sets.items():
        names = np.array([truth.who(path) for path in faces])
        if len(np.unique(names)) > 1:
            embeddings = np.stack([face.embedding for face in faces.values()])
            found[name] = strangers_of(embeddings, [face.quality for face in faces.values()], names)
    if not found:
        raise DataError("identity threshold: needs faces of at least two people")
    return found


def best_temperature(probabilities: Float, target: Rows) -> float:
    """The temperature by which to divide a classifier's logits, so that its probabilities can be believed.

    The one with the smallest negative log-likelihood (Guo et al., "On Calibration of Modern Neural Networks", ICML
    2017, section 4.2). It changes no ranking: what is the most probable stays it.

    Args:
        probabilities: (P, C) softmax of the logits, of P pictures.
        target: (P,) the true class of each.

    Returns:
        Above 1 where the probabilities are surer than they are right, below 1 where they are less sure; 0.2 to 5.
    """
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny, dtype=np.float64))
    rows = np.arange(len(target))

    def loss(exponent: float) -> float:
        return -float(log_softmax(logits / math.exp(exponent), axis=1)[rows, target].mean())

    found = minimize_scalar(loss, bounds=tuple(map(math.log, TEMPERATURES)), method="bounded")
    return math.exp(float(found.x))


def best_f_threshold(scores: npt.NDArray[np.float64], correct: Flags, wanted: int, beta: float = 1.0) -> float:
    """The score threshold with the best F-beta: recall is worth ``beta`` precisions (van Rijsbergen 1979).

    Args:
        scores: (N,) of all detections that count.
        correct: (N,) whether each found something that was wanted.
        wanted: how many there were to find.
        beta: what recall is worth; 1 for the harmonic mean of both.

    Returns:
        Half-way between the lowest score to keep and the next one.

    Raises:
        DataError: nothing wanted was found, so no threshold is better than another.
    """
    if not correct.any():
        raise DataError("score threshold: the model finds nothing that the data wants found")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    f = (1 + beta**2) * np.cumsum(correct[order]) / (np.arange(1, len(ranked) + 1) + beta**2 * wanted)
    below = np.append(ranked[1:], 0.0)
    f[ranked == below] = -1.0  # a threshold cannot part equal scores
    best = int(f.argmax())
    return float(ranked[best] + below[best]) / 2


def matched(truth: CocoSet, detections: Sequence[BoxDetection]) -> tuple[npt.NDArray[np.float64], Flags, int]:
    """Match detections to boxes at IoU 0.5 (see :func:`match`).

    Returns:
        (N,) scores and (N,) whether each is right, without detections that lie on an ignored box; how many boxes count.
    """
    categories = match(truth, detections).categories.values()
    rows = [category.at(0) for category in categories]
    scores, correct = np.concatenate([row[0] for row in rows]), np.concatenate([row[2] for row in rows])
    return scores, correct, sum(int(category.wanted.sum()) for category in categories)
