"""Engines that fail in a run: it costs the frames that they had, is told in words, and nothing wrong is published."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from structlog.typing import EventDict

from engines.engine import Engine
from engines.errors import EngineError, StageError
from engines.spec import EntryName, Model
from pipeline.gallery.gallery import Gallery
from tests.pipeline.made_runs import EMBEDDING, Run, SlowEngine, check_books, make_config
from tests.pipeline.service.made_faults import FRAMES, wrapped

pytestmark = pytest.mark.usefixtures("logs", "no_thread_is_left")

Outputs = dict[str, npt.NDArray[np.generic]]
Spoil = Callable[[Outputs], Outputs]


class _Spoilt:
    """A batch whose outputs are not as they should be."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def outputs(self) -> Outputs:
        return self._outputs


class SpoilingEngine(SlowEngine):
    """Spoils the outputs of the batches whose numbers, from 1, are given."""

    def __init__(self, engine: Engine, spoil: Spoil, batches: tuple[int, ...]) -> None:
        super().__init__(engine, 0.0)
        self._spoil, self._spoilt = spoil, batches

    def start(self, batch: npt.NDArray[np.uint8]) -> _Spoilt:
        outputs = super().start(batch).outputs()
        return _Spoilt(self._spoil(dict(outputs)) if self._batches in self._spoilt else outputs)


def put(monkeypatch: pytest.MonkeyPatch, entry: EntryName, spoil: Spoil, *batches: int) -> None:
    """Let runs have a spoiling engine for an entry."""
    wrapped(monkeypatch, entry, lambda engine: SpoilingEngine(engine, spoil, batches))


def with_nan(name: str) -> Spoil:
    return lambda outputs: outputs | {name: np.full_like(outputs[name], np.nan)}


def raising(outputs: Outputs) -> Outputs:
    raise EngineError("made to fail")


def late(outputs: Outputs) -> Outputs:
    time.sleep(0.3)
    return outputs


WRONG = [
    pytest.param(raising, "made to fail", id="raises"),
    pytest.param(with_nan("object_scores"), "'object_scores' of frame.onnx has values that are no numbers", id="NaN"),
    pytest.param(with_nan("scene"), "'scene' of frame.onnx has values that are no numbers", id="NaN for a scene"),
    pytest.param(
        lambda outputs: outputs | {"face_boxes": outputs["face_boxes"][:, :, :3]}, "must be (1, 1, 4)", id="shape"
    ),
    pytest.param(lambda outputs: {name: rows[:0] for name, rows in outputs.items()}, "is (0, 1, 4)", id="no rows"),
    pytest.param(
        lambda outputs: {name: rows for name, rows in outputs.items() if name != "scene"}, "is missing", id="missing"
    ),
]


@pytest.mark.parametrize(("spoil", "words"), WRONG)
def test_a_batch_that_goes_wrong_costs_its_frame_and_is_told(
    model: Model,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    logs: list[EventDict],
    spoil: Spoil,
    words: str,
) -> None:
    put(monkeypatch, "frame", spoil, 5, 11)
    run = Run(make_config(model, {"door": clip}, inference={"max_batch": 1}))
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].dropped == {"crash": 2}
    assert [words in line["error"] for line in logs if line["event"] == "stage crashed"] == [True, True]
    last = run.frames("door")[-1]
    assert last.seq == FRAMES - 1 and len(last.objects) == 1
    assert last.scene, "what was wrong in one frame is still there in the last one"


def test_an_engine_that_is_always_wrong_ends_the_run_with_its_sentence(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, "frame", with_nan("object_boxes"), *range(1, FRAMES + 1))
    run = Run(make_config(model, {"door": clip}, inference={"max_batch": 1}))
    with pytest.raises(
        StageError, match=r"crashed more than 5 times in a minute: output 'object_boxes' of frame\.onnx"
    ):
        run.end()
    assert run.frames("door") == []


def test_an_engine_that_is_late_costs_nothing_of_a_file(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, "frame", late, 3, 7)
    run = Run(make_config(model, {"door": clip}, inference={"max_batch": 4}))
    summary = run.end()
    check_books(run, summary)
    assert Counter(summary.streams["door"].dropped) == Counter()


def test_a_face_entry_that_gives_no_numbers_names_nobody_by_them(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Gallery(tmp_path / "people.sqlite", model.fingerprint) as gallery:
        gallery.enroll("Ada", EMBEDDING, ["a.jpg"])
    put(monkeypatch, "face", with_nan("embedding"), 1)
    identity = {"gallery": str(tmp_path / "people.sqlite"), "min_face_px": 4}
    run = Run(make_config(model, {"door": clip}, inference={"max_batch": 1}, identity=identity))
    summary = run.end()
    check_books(run, summary)
    named = [frame.faces[0].identity for frame in run.frames("door") if frame.faces and frame.faces[0].identity]
    assert named and all(identity.name == "Ada" for identity in named), "the next look at the face must name it"
