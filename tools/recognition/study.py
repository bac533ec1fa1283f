"""Tracks of people who are enrolled and of strangers, told by our pooling, by their plain mean and by single frames."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from engines.arrays import Double, Float
from engines.spec import Model
from engines.study.metrics import SeedSpread
from engines.tasks.identity.strangers import Strangers
from pipeline.identity.naming import LEAD
from tools.recognition.crops import Crops
from tools.recognition.methods import METHODS, OURS, Enrolled, Method
from tools.recognition.splits import SETTINGS, PersonFrames, Setting, deal
from tools.recognition.swaps import Swaps, measure_swaps

SEEDS: Final = 20
VIEWS: Final = (1, 3)  # enrolled of each person
FAR: Final = 0.05  # of strangers' tracks; so few people cannot show less


class MethodRow(msgspec.Struct, frozen=True, kw_only=True):
    """One way to tell who a track is, in one setting."""

    setting: Setting
    views: int
    method: str
    rank1_error: (
        SeedSpread  # share of tracks of enrolled people whose most similar person is another, at any similarity
    )
    missed: SeedSpread  # share of them that are not given their name, at the threshold
    false_accepts: SeedSpread  # share of strangers' tracks that are given a name
    threshold: SeedSpread


class RecognitionStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the pages show."""

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


def _compare(crops: Crops, setting: Setting, views: int) -> Iterator[MethodRow]:
    deals = [deal(crops, setting, views, seed) for seed in range(SEEDS)]
    for name, method in METHODS.items():
        lead = LEAD if name == OURS else 0.0
        found = []
        for each in deals:
            threshold = _threshold(crops, each.calibrating, len(each.known), method)
            found.append((*_told(crops, each.known, each.strangers, method, threshold, lead), threshold))
        rank1, missed, accepted, thresholds = np.array(found).T
        yield MethodRow(
            setting=setting,
            views=views,
            method=name,
            rank1_error=_spread(rank1),
            missed=_spread(missed),
            false_accepts=_spread(accepted),
            threshold=_spread(thresholds),
        )


def _threshold(crops: Crops, people: Sequence[PersonFrames], gallery: int, method: Method) -> float:
    """The rule that is the same for all: a stranger's track is named at the rate FAR, by a gallery of this size."""
    rows: list[Float] = []
    for person in people:
        others = Enrolled(crops, [each for each in people if each is not person])
        rows.extend(method(crops, track, others) for track in person.tracks)
    # No lower than 0: there, a vote has no majority.
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
            found = method(crops, track, enrolled)
            best, ranked = found.argmax(axis=1), np.sort(found, axis=1)
            named = (ranked[:, -1] >= threshold) & (ranked[:, -1] - ranked[:, -2] >= lead)
            if number < len(known):
                wrong.extend((best != number).tolist())
                missed.extend((~named | (best != number)).tolist())
            else:
                accepted.extend(named.tolist())
    return float(np.mean(wrong)), float(np.mean(missed)), float(np.mean(accepted))


def _spread(values: Double) -> SeedSpread:
    return SeedSpread(round(float(values.mean()), 4), round(float(values.std()), 4))
