"""Whole runs whose engine letterboxes the pictures itself, with the GPU acted out by the CPU."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from msgspec.structs import replace

from engines.backends.torch_letterbox import TorchLetterbox
from engines.engine import Engine, Running
from engines.errors import BackendUnavailable
from engines.planes import Planes
from engines.spec import EntryName, Model
from pipeline.inference import stage as inference
from pipeline.inference.stage import open_entry
from pipeline.settings.schema import ModelSettings
from tests.pipeline.made_runs import Run, SlowEngine, check_books, dark_then_bright, make_config

FRAMES = 20


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = (160, 120)
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, frames=FRAMES, size=size, draw=dark_then_bright(FRAMES, size))


@pytest.fixture(scope="module")
def other_clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = (240, 320)
    path = tmp_path_factory.mktemp("clip") / "other.mp4"
    return make_clip(path, frames=FRAMES, size=size, draw=dark_then_bright(FRAMES, size), full_range=True)


class LetterboxingEngine(SlowEngine):
    """An engine that letterboxes on the CPU, as one on a GPU does there; counts the pictures that it was given."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, 0.0)
        self.pixels = self.planes = 0
        self._letterbox = TorchLetterbox(torch.device("cpu"))

    def start(self, batch: npt.NDArray[np.uint8]) -> Running:
        self.pixels += len(batch)
        return super().start(batch)

    def start_planes(self, pictures: Sequence[Planes]) -> Running:
        self.planes += len(pictures)
        batch = torch.empty((len(pictures), self.spec.height, self.spec.width, 3), dtype=torch.uint8)
        self._letterbox.fill(pictures, batch)
        return super().start(batch.numpy())


def test_an_engine_that_letterboxes_itself_sees_the_same(
    model: Model, clip: Path, other_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: dict[str, str | Path | dict[str, object]] = {"door": clip, "yard": other_clip}
    before = Run(make_config(model, streams))
    before.end()
    engines = list[LetterboxingEngine]()

    def opened(model: Model, entry: EntryName, settings: ModelSettings) -> Engine:
        engines.append(LetterboxingEngine(open_entry(model, entry, settings)))
        return engines[-1]

    monkeypatch.setattr(inference, "open_entry", opened)
    run = Run(make_config(model, streams, inference={"preprocess": "gpu"}))
    summary = run.end()
    check_books(run, summary)
    for name in streams:
        for one, other in zip(run.frames(name), before.frames(name), strict=True):
            assert (one.seq, one.objects, one.faces, one.scene) == (other.seq, other.objects, other.faces, other.scene)
    (engine,) = engines
    assert engine.planes == 1 + sum(account.captured for account in summary.streams.values()), "one to try it with"
    assert engine.pixels == 0


@pytest.mark.parametrize("links", ["queue", pytest.param("zmq", marks=pytest.mark.integration)])
def test_an_engine_on_a_cpu_letterboxes_nothing(model: Model, clip: Path, links: str) -> None:
    sentence = "inference.preprocess is 'gpu', but backend 'onnxruntime' runs on CPU: it must be 'cpu' there, or the"
    with pytest.raises(BackendUnavailable, match=sentence):
        Run(make_config(model, {"door": clip}, inference={"preprocess": "gpu"}, links=links)).end()


def test_a_gpu_that_the_engine_does_not_run_on_is_refused(model: Model, clip: Path) -> None:
    config = make_config(model, {"door": clip})
    with pytest.raises(BackendUnavailable, match="gpu is 3, but backend 'onnxruntime' runs on the CPU"):
        Run(replace(config, model=replace(config.model, gpu=3))).end()
