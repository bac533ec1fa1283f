"""Who is enrolled with which views, and which frames are a track; seeded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from engines.arrays import Float, Rows
from pipeline.gallery.gallery import Snapshot
from pipeline.gallery.search import Index
from tools.recognition.crops import Crops

Setting = Literal["any frames", "other videos", "one video"]
SETTINGS: Final[dict[Setting, str]] = {
    "any frames": "enrolled with frames of any video; the track is all other frames of the person, as one",
    "other videos": "enrolled with frames of one video; the track is all frames of the person's other videos, as one",
    "one video": "enrolled with frames of one video; each other video, three or four frames, is a track of its own",
}


@dataclass(frozen=True, slots=True)
class PersonFrames:
    """Somebody's frames, dealt."""

    name: str
    enrolled: Rows
    tracks: list[Rows]


@dataclass(frozen=True, slots=True)
class Deal:
    """All people in three parts."""

    calibrating: list[PersonFrames]  # whom thresholds are chosen on
    known: list[PersonFrames]  # who are enrolled
    strangers: list[PersonFrames]


class Enrolled:
    """P people with a few views each.

    Attributes:
        index: as the pipeline searches it.
    """

    def __init__(self, crops: Crops, people: Sequence[PersonFrames]) -> None:
        self._views = [crops.embeddings[person.enrolled] for person in people]
        names = tuple(person.name for person in people for _ in person.enrolled)
        self.index = Index(Snapshot(names, np.concatenate(self._views)))

    def similarities(self, embeddings: Float) -> Float:
        """Cosines (F, P) of unit embeddings (F, D) to the most similar view of each person."""
        return np.stack([(embeddings @ views.T).max(axis=1) for views in self._views], axis=1)


def deal(crops: Crops, setting: Setting, views: int, seed: int) -> Deal:
    """Half of the people for calibration, a quarter enrolled, a quarter strangers; ``views`` enrolled of each."""
    generator = np.random.default_rng(seed)
    names = generator.permutation(np.unique(crops.people)).tolist()
    people = [_dealt(crops, name, setting, views, generator) for name in names]
    half, quarter = len(people) // 2, len(people) * 3 // 4
    return Deal(people[:half], people[half:quarter], people[quarter:])


def _dealt(crops: Crops, name: str, setting: Setting, views: int, generator: np.random.Generator) -> PersonFrames:
    videos = crops.of(name)
    if setting == "any frames":
        rows = generator.permutation(np.concatenate(list(videos.values())))
        return PersonFrames(name, rows[:views], [np.sort(rows[views:])])
    first = generator.choice(list(videos))
    enrolled = generator.permutation(videos[first])[:views]
    others = [rows for video, rows in videos.items() if video != first]
    return PersonFrames(name, enrolled, others if setting == "one video" else [np.concatenate(others)])
