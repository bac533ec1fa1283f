"""Frames of several streams in one batch give what each stream gives alone."""

from dataclasses import replace

import numpy as np
import pytest

from engines.nms import nms
from engines.spec import Thresholds
from pipeline.frames.turns import turns
from pipeline.frames.types import Identified, Observed, Result, Skipped, Tracked, Tracks
from pipeline.settings.schema import SmoothingSettings, TrackingSettings
from pipeline.smoothing.stage import Smoothers
from pipeline.tracking.stage import Trackers
from tests.pipeline.made_tracks import make_observed


class Shard:
    """Trackers and smoothers of some streams."""

    def __init__(self) -> None:
        self._trackers = Trackers(TrackingSettings(confirm_frames=1), Thresholds(), person=0)
        self.smoothers = Smoothers(SmoothingSettings(), 3, 2)

    def results(self, batch: list[Observed | Skipped]) -> list[Result]:
        return self.smoothers.update([_unnamed(tracked) for tracked in self._trackers.update(batch)])


def _unnamed(tracked: Tracked) -> Identified:
    return Identified.with_names(tracked, (None,) * len(tracked.faces.ids))


def walk(stream: str, seed: int, frames: int = 40) -> list[Observed | Skipped]:
    """People and things that come, go, shake with the camera and are left out, and one cut."""
    rng, items = np.random.default_rng(seed), list[Observed | Skipped]()
    places, speeds = rng.uniform(20, 200, (12, 2)), rng.normal(0, 3, (12, 2))
    for number in range(frames):
        places = places + speeds + (rng.normal(0, 30, 2) if rng.random() < 0.1 else 0.0)
        seen = places[rng.random(12) < 0.9].clip(0, 290)
        boxes = [(x, y, x + 40.0, y + 60.0) for x, y in seen.tolist()]
        faces = [(x + 10.0, y, x + 30.0, y + 20.0) for x, y in seen[:3].tolist()]
        labels, share = rng.integers(0, 3, len(boxes)).tolist(), rng.uniform(0, 1)
        observed = make_observed(number / 25, boxes, faces, labels=labels, scene=(share, 1 - share), stream=stream)
        frame = replace(observed.frame, seq=number, between=rng.random() < 0.3, cut_seq=20 if number >= 20 else -1)
        items.append(Skipped(frame, observed.timestamps) if rng.random() < 0.3 else replace(observed, frame=frame))
    return items


def same(one: Tracks, other: Tracks) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Tracks.__slots__)


@pytest.mark.parametrize("seed", range(3))
def test_streams_of_a_batch_do_not_see_each_other(seed: int) -> None:
    streams = {name: walk(name, 10 * seed + number) for number, name in enumerate("abcd")}
    together, rng, left = Shard(), np.random.default_rng(seed), {name: list(items) for name, items in streams.items()}
    found: dict[str, list[Result]] = {name: [] for name in streams}
    while any(left.values()):  # some streams at a time, and of some of them two frames
        batch = [left[name].pop(0) for name in "abcdab" if left[name] and rng.random() < 0.7]
        for item, result in zip(batch, together.results(batch), strict=True):
            assert result.frame is item.frame
            found[item.frame.stream].append(result)
    for name, items in streams.items():
        alone = Shard()
        for expected, result in zip(
            [each for item in items for each in alone.results([item])], found[name], strict=True
        ):
            assert same(expected.objects, result.objects) and same(expected.faces, result.faces)
            assert expected.face_objects.tolist() == result.face_objects.tolist()
            assert expected.labels.tolist() == result.labels.tolist()
            np.testing.assert_allclose(expected.label_scores, result.label_scores, rtol=1e-6)
            np.testing.assert_allclose(expected.scene, result.scene, rtol=1e-6)
            assert (expected.scene_label, expected.cut) == (result.scene_label, result.cut)


def test_a_stream_that_is_forgotten_gives_its_labels_back() -> None:
    shard = Shard()
    for name in "ab":
        for item in walk(name, 1, 10):
            shard.results([item])
    labels = shard.smoothers._labels
    known = len(labels._ids)
    shard.smoothers.forget("a")
    assert 1 < len(labels._ids) < known
    shard.smoothers.forget("b")
    assert labels._ids.tolist() == labels._ids[-1:].tolist()
    assert sorted(labels._free) == list(range(1, len(labels._weight)))


def test_frames_of_a_stream_take_turns() -> None:
    items = [make_observed(number / 10, stream=name) for number, name in enumerate("abaacb")]
    assert turns(items) == [[0, 1, 4], [2, 5], [3]]
    assert turns([]) == []


@pytest.mark.parametrize("classes", [1, 4])
def test_boxes_of_other_pictures_are_never_suppressed(classes: int) -> None:
    rng = np.random.default_rng(classes)
    corners = rng.uniform(0, 60, (90, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 40, (90, 2))], axis=1).astype(np.float32)
    scores, labels = rng.random(90).astype(np.float32), rng.integers(0, classes, 90)
    pictures = np.sort(rng.choice([0, 1, 3], 90))  # one has nothing
    found = nms(boxes, scores, 0.4, labels, pictures)
    alone = [
        (own := np.flatnonzero(pictures == each))[nms(boxes[own], scores[own], 0.4, labels[own])] for each in range(4)
    ]
    assert found.tolist() == np.concatenate(alone).tolist()
