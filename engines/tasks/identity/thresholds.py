"""The similarity from which a face is someone, and how often a stranger is taken for one."""

import math

import msgspec
import numpy as np

from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.evaluation.parts import Calibrated
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import IdentityTruth, Truth
from engines.spec import ComparedSet, IdentityCalibration, Thresholds
from engines.tasks.identity.metrics import cut_face, read_face
from engines.tasks.identity.strangers import ENROLLED_VIEWS, TRACK_VIEWS, Strangers, strangers_of

FALSE_ACCEPT_RATE = 0.01  # of strangers' tracks ...
PEOPLE = 10  # ... against a gallery of so many


def choose(runner: ModelRunner, truth: Truth, chosen: Calibrated, skipped: SkippedRows) -> Calibrated:
    """Take what :func:`calibrate_identity` says, with the face score that was chosen."""
    if truth.identity is None:
        return chosen
    return calibrate_identity(runner, truth.identity, chosen.thresholds, skipped)


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
