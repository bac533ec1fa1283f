"""Whole runs whose network sees crops of pictures, too."""

from pathlib import Path

import pytest

from engines.spec import Model
from tests.pipeline.made_runs import Run, check_books, make_config
from tests.pipeline.service.made_faults import FRAMES


@pytest.mark.parametrize("sections", [{"links": "queue"}, {"links": "zmq", "postprocess": {"shards": 2}}], ids=str)
def test_things_in_crops_are_told_beside_those_of_the_whole_picture(
    model: Model, clip: Path, sections: dict[str, object]
) -> None:
    streams = {"near": clip, "far": {"source": clip, "inference_crops": 2}}
    run = Run(make_config(model, streams, **sections))
    summary = run.end()
    check_books(run, summary)
    near, far = run.frames("near"), run.frames("far")
    assert len(near) == len(far) == FRAMES
    # The made model finds a person in whatever it is shown.
    assert max(len(frame.objects) for frame in near) == 1
    assert max(len(frame.objects) for frame in far) >= 2
    assert all(0 <= x <= 160 and 0 <= y <= 120 for each in far for thing in each.objects for x, y in (thing.box[:2],))
