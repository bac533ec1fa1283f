"""Runs whose frame entry has the shape of their streams."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from engines.any_size import free_size
from engines.boxes import Letterboxes, letterbox
from engines.spec import Model, load_model, sha256_of, write_spec
from tests.pipeline.made_runs import (
    DARK_BOX,
    HEIGHT,
    WIDTH,
    Run,
    check_books,
    dark_then_bright,
    make_config,
    write_model,
)

pytestmark = pytest.mark.integration

FRAMES, PICTURE, INPUT = 12, (128, 72), (384, 224)  # width, height


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Of 288x288, for any size."""
    folder = tmp_path_factory.mktemp("model")
    spec = write_model(folder).spec
    file = folder / "frame.onnx"
    onnx.save(free_size(onnx.load(file), HEIGHT, WIDTH), file)
    frame = msgspec.structs.replace(spec.entry("frame"), width=288, height=288, multiple_of=32, sha256=sha256_of(file))
    write_spec(msgspec.structs.replace(spec, frame=frame), folder)
    return load_model(folder)


@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_boxes_are_where_the_picture_lies_in_the_input(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path, links: str
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", FRAMES, PICTURE, 25, dark_then_bright(2 * FRAMES, PICTURE))
    sections: dict[str, Any] = {"inference": {"size": "auto"}, "links": links}
    run = Run(make_config(model, {"clip": clip}, **sections))
    summary = run.end()
    check_books(run, summary)
    seen = [one.objects[0].box for one in run.frames("clip") if one.objects]
    assert seen
    where = Letterboxes.of((letterbox(PICTURE, INPUT),))
    wanted = where.clip(where.to_source(np.array([DARK_BOX], np.float32), np.array([0])), np.array([0]))[0]
    np.testing.assert_allclose(seen[-1], wanted, atol=0.2)
