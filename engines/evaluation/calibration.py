"""Thresholds from data: where a model's scores and similarities start to mean something."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from engines.boxes import Float
from engines.data.coco import CocoSet
from engines.data.reading import Skipped
from engines.errors import DataError
from engines.evaluation.coco import BoxDetection
from engines.evaluation.faces import find_faces
from engines.evaluation.identity import embed_whole
from engines.evaluation.matching import Flags, match
from engines.evaluation.objects import find_objects
from engines.evaluation.runner import Runner
from engines.evaluation.truth import IdentityTruth, Truth
from engines.evaluation.verification import accept_threshold
from engines.spec import Thresholds

FALSE_ACCEPT_RATE = 1e-3  # of one comparison; a frame compares each face with everybody in the gallery
BETA = 0.5  # whoever watches minds a thing that is not there more than one that is missed in a frame


def calibrate_thresholds(runner: Runner, truth: Truth, far: float = FALSE_ACCEPT_RATE) -> Thresholds:
    """Choose the thresholds of a model's tasks on validation data; the NMS overlaps stay as they are.

    A threshold of which the data says nothing stays as it is, too.

    Object and face scores: where F0.5 at IoU 0.5 is best, over all categories together. Identity similarity: where the
    share ``far`` of impostor pairs is accepted, on all crops and, with the new face score, on faces that the network
    finds and aligns itself, if it can; the higher of the two.

    Raises:
        DataError: too many pictures cannot be read, or the model finds nothing in them.
    """
    skipped, tasks, chosen = Skipped(), runner.model.spec.network.tasks, runner.model.spec.thresholds
    if "objects" in tasks and truth.objects is not None:
        score = best_f_threshold(*matched(*find_objects(runner, truth.objects, runner.curve_thresholds, skipped)), BETA)
        chosen = msgspec.structs.replace(chosen, object_score=round(score, 3))
    if "faces" in tasks and truth.faces is not None:
        score = best_f_threshold(*matched(*find_faces(runner, truth.faces, runner.curve_thresholds, skipped)), BETA)
        chosen = msgspec.structs.replace(chosen, face_score=round(score, 3))
    if "identity" in tasks and truth.identity is not None:
        similarity = _crop_threshold(runner, truth.identity, skipped, far)
        if "faces" in tasks and truth.identity.whole:
            similarity = max(similarity, _whole_threshold(runner, truth.identity, chosen, skipped, far))
        # Rounded up, so that no more impostors pass than were asked for.
        similarity = min(1.0, float(np.ceil(similarity * 1000) / 1000))
        chosen = msgspec.structs.replace(chosen, identity_similarity=similarity)
    return chosen


def _crop_threshold(runner: Runner, truth: IdentityTruth, skipped: Skipped, far: float) -> float:
    set_of = {path: name for name, paths in truth.crops.items() for path in paths}
    embeddings = runner.embed_crops("face crops", sorted(set_of), skipped)
    # Pictures of different sets are told apart by their colours and sizes, which would make impostors look easy.
    sets = np.array([set_of[path] for path in embeddings])
    return identity_threshold(*_stacked(embeddings, truth), far, sets)


def _whole_threshold(
    runner: Runner, truth: IdentityTruth, thresholds: Thresholds, skipped: Skipped, far: float
) -> float:
    found = embed_whole(runner, truth.whole, thresholds, skipped)
    names = {truth.who(path) for path in found.embeddings}
    return identity_threshold(*_stacked(found.embeddings, truth), far) if len(names) > 1 else -1.0


def _stacked(embeddings: dict[Path, Float], truth: IdentityTruth) -> tuple[Float, npt.NDArray[np.str_]]:
    names = np.array([truth.who(path) for path in embeddings])
    return np.stack(list(embeddings.values())), names


def identity_threshold(
    embeddings: Float,
    identities: npt.NDArray[np.generic],
    far: float = FALSE_ACCEPT_RATE,
    sets: npt.NDArray[np.generic] | None = None,
) -> float:
    """The lowest cosine similarity that accepts at most the share ``far`` of all impostor pairs.

    Args:
        embeddings: (N, D) of unit length.
        identities: (N,) who each shows.
        far: false-accept rate of one comparison, in (0, 1).
        sets: (N,) pairs across different sets are left out; None: all pairs count.

    Raises:
        DataError: there is no impostor pair.
    """
    impostor = identities[:, None] != identities[None]
    if sets is not None:
        impostor &= sets[:, None] == sets[None]
    impostors = (embeddings @ embeddings.T)[np.triu(impostor, 1)]
    if not len(impostors):
        raise DataError("identity threshold: needs faces of at least two people")
    return accept_threshold(impostors, far)


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
