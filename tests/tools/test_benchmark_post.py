"""The made scenes after the engine: what is measured is what was meant."""

import threading

import numpy as np
import pytest

from engines.boxes import letterbox
from engines.decode import decode
from engines.spec import Thresholds
from tools.benchmarking.post import CASES, CYCLE, INPUT, SOURCE, BandEngine, embeddings, make_crowd, measure_post

STEPS = ["detect", "track", "identify", "smooth", "publish"]


@pytest.mark.parametrize(("objects", "faces"), [(50, 10), (5, 1), (0, 0)])
def test_a_crowd_has_the_objects_and_faces_that_were_asked_for(objects: int, faces: int) -> None:
    crowd = make_crowd(objects, faces)
    seen = [decode(outputs, [letterbox(SOURCE, INPUT)], Thresholds())[0] for outputs in crowd.outputs]
    assert len(seen) == CYCLE
    assert np.mean([len(one.objects.boxes) for one in seen]) == pytest.approx(objects, rel=0.15)
    assert np.mean([len(one.faces.boxes) for one in seen]) == pytest.approx(faces, rel=0.15)


def test_a_crowd_is_the_same_every_time() -> None:
    first, second = make_crowd(3, 1), make_crowd(3, 1)
    for one, other in zip(first.outputs, second.outputs, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_made_face_entry_tells_faces_by_their_band() -> None:
    crops = np.zeros((2, 112, 112, 3), np.uint8)
    crops[1] = 50
    assert BandEngine().infer(crops)["embedding"].tolist() == embeddings()[[0, 2]].tolist()


@pytest.mark.integration
def test_everything_after_the_engine_is_measured() -> None:
    threads = threading.active_count()
    figures = measure_post(0.3)
    assert [(case.objects, case.faces, case.named, case.streams) for case in figures.cases] == list(CASES)
    for case in figures.cases:
        steps = case.steps_cpu_ms_per_frame
        assert list(steps) == STEPS
        assert 0.0 < sum(step.median for step in steps.values()) <= 1.5 * case.cpu_ms_per_frame.max
        assert case.frames_per_s_per_core.median == pytest.approx(1e3 / case.cpu_ms_per_frame.median, rel=0.01)
        assert (case.face_crops > 0) == case.named
    assert threading.active_count() == threads


def test_streams_share_batches_and_show_what_one_shows() -> None:
    crowd = make_crowd(3, 1)
    alone, together = next(crowd.batches(1)), next(crowd.batches(4))
    assert len({frame.stream for frame in together.frames}) == len(together.prepared.letterboxes) == 4
    for name, array in alone.outputs.items():
        assert np.array_equal(together.outputs[name][0], array[0])
        assert np.array_equal(together.outputs[name][1], crowd.outputs[CYCLE // 4][name][0])
