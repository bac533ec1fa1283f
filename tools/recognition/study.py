"""Tracks of people who are enrolled, and of strangers, told by pooling, by a plain mean and by single frames."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from engines.arrays import Double, Float, Rows
from engines.spec import Model
from engines.study.results import RunSpread
from engines.tasks.identity.strangers import Strangers
from pipeline.identity.naming import LEAD
from pipeline.identity.stage import FaceTrack, match
from tools.recognition.crops import Crops
from tools.recognition.deals import SETTINGS, Enrolled, PersonFrames, Setting, deal
from tools.recognition.swaps import Swaps, measure_swaps

Method = Callable[[Crops, Rows, Enrolled], Float]  # embeddings of a track's rows that are compared: one, or one a frame

OURS: Final = "Trunkline"
SINGLE: Final = "single frames"
SEEDS: Final = 20
VIEWS: Final = (1, 3)  # enrolled of each person
FAR: Final = 0.05  # of strangers' tracks; so few people cannot show less


class MethodRow(msgspec.Struct, frozen=True, kw_only=True):
    """One way to tell who a track is, in one setting; shares over the seeds."""

    setting: Setting
    views: int
    method: str
    rank1_error: RunSpread  # tracks of enrolled people whose most similar person is another, at any similarity
    missed: RunSpread  # of them that are not given their name, at the threshold
    false_accepts: RunSpread  # strangers' tracks that are given a name
    threshold: RunSpread


class RecognitionStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page shows."""

    format: Literal[1] = 1
    model: str
    fingerprint: str
    split: str
    people: int
    frames: int
    enrolled: int  # people in a gallery
    strangers: int
    seeds: int
    far: float
    rows: tuple[MethodRow, ...]
    swaps: Swaps


STEPS: Final = len(SETTINGS) * len(VIEWS) + 1


def run(crops: Crops, model: Model, split: str) -> Iterator[RecognitionStudy | None]:
    """Do it; None after each step, and the study at last. Swaps are followed at the model's own threshold."""
    rows: list[MethodRow] = []
    for setting in SETTINGS:
        for views in VIEWS:
            rows.extend(_compare(crops, setting, views))
            yield None
    sizes = deal(crops, "any frames", 1, 0)
    yield RecognitionStudy(
        model=model.spec.name,
        fingerprint=model.fingerprint,
        split=split,
        people=len(np.unique(crops.people)),
        frames=len(crops.people),
        enrolled=len(sizes.known),
        strangers=len(sizes.strangers),
        seeds=SEEDS,
        far=FAR,
        rows=tuple(rows),
        swaps=measure_swaps(crops, model.spec.thresholds.identity_similarity, SEEDS),
    )


def pooled(crops: Crops, rows: Rows, enrolled: Enrolled) -> Float:
    """The embedding of the pipeline's own face track after these frames, in their order."""
    track = FaceTrack()
    for row in rows.tolist():
        track.evidence.add(crops.embeddings[row], float(crops.qualities[row]), float(crops.frontal[row]))
        match([track], enrolled.index)
    return track.embedding[None]


def _mean(crops: Crops, rows: Rows, _: Enrolled) -> Float:
    mean = crops.embeddings[rows].mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))[None]


METHODS: Final[dict[str, Method]] = {
    SINGLE: lambda crops, rows, _: crops.embeddings[rows],
    "plain mean": _mean,
    OURS: pooled,
}


def _compare(crops: Crops, setting: Setting, views: int) -> Iterator[MethodRow]:
    deals = [deal(crops, setting, views, seed) for seed in range(SEEDS)]
    for name, method in METHODS.items():
        lead = LEAD if name == OURS else 0.0
        found = []
        for each in deals:
            threshold = _threshold(crops, each.calibrating, len(each.known), method)
            found.append((*_told(crops, each.known, each.strangers, method, threshold, lead), threshold))
        spreads = zip(
            ("rank1_error", "missed", "false_accepts", "threshold"), map(_spread, np.array(found).T), strict=True
        )
        yield MethodRow(setting=setting, views=views, method=name, **dict(spreads))


def _threshold(crops: Crops, people: Sequence[PersonFrames], gallery: int, method: Method) -> float:
    """The rule that is the same for all: a stranger's track is named at the rate FAR, by a gallery of this size."""
    rows: list[Float] = []
    for person in people:
        others = Enrolled(crops, [each for each in people if each is not person])
        rows.extend(others.similarities(method(crops, track, others)) for track in person.tracks)
    return max(0.0, Strangers(np.concatenate(rows).astype(np.float64), len(people)).threshold(FAR, gallery))


def _told(
    crops: Crops,
    known: Sequence[PersonFrames],
    strangers: Sequence[PersonFrames],
    method: Method,
    threshold: float,
    lead: float,
) -> tuple[float, float, float]:
    """Rank-1 error, missed, false accepts."""
    enrolled = Enrolled(crops, known)
    wrong, missed, accepted = [], [], []
    for number, person in enumerate([*known, *strangers]):
        for track in person.tracks:
            found = enrolled.similarities(method(crops, track, enrolled))
            best, ranked = found.argmax(axis=1), np.sort(found, axis=1)
            named = (ranked[:, -1] >= threshold) & (ranked[:, -1] - ranked[:, -2] >= lead)
            if number < len(known):
                wrong.extend((best != number).tolist())
                missed.extend((~named | (best != number)).tolist())
            else:
                accepted.extend(named.tolist())
    return float(np.mean(wrong)), float(np.mean(missed)), float(np.mean(accepted))


def _spread(values: Double) -> RunSpread:
    return RunSpread(round(float(values.mean()), 4), round(float(values.std()), 4))
