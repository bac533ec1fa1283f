"""PyTorch's engine for GPUs with the device acted out on the CPU; tests/gpu does the same with a real one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # here: it could not be imported where the device is acted out

from engines.backends import eager_cuda
from engines.backends.eager import open_torch
from engines.backends.eager_cuda import TorchCudaEngine
from engines.backends.torch_compile import SIZES
from engines.boxes import letterbox
from engines.engine import open_engine
from engines.errors import BackendUnavailable, EngineError
from engines.planes import Planes, PlanesEngine
from engines.spec import Model
from pipeline.frames.letterboxing import letterbox_into
from pipeline.frames.picture import Picture
from tests.engines.compiling.made_network import FRAME_SIZE
from tests.engines.made_models import pictures

HEIGHT, WIDTH = FRAME_SIZE
CPU = torch.device("cpu")


class Device:
    """What the GPU was asked for."""

    def __init__(self) -> None:
        self.replayed = 0
        self.waited = 0
        self.refuse_capture = False


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A GPU whose tensors lie in this machine's memory, and whose work is done at once."""
    device = Device()

    class Stream:
        def __init__(self, device: object) -> None:
            pass

    class Event:
        def __init__(self, blocking: bool) -> None:
            assert blocking, "a waiting thread would spin"

        def record(self, stream: Stream) -> None:
            pass

        def synchronize(self) -> None:
            device.waited += 1

    class CUDAGraph:
        again: Any = None

        def replay(self) -> None:
            device.replayed += 1
            self.again()

    @contextlib.contextmanager
    def capture(graph: CUDAGraph, pool: object, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        if device.refuse_capture:
            raise RuntimeError("operation not permitted when stream is capturing")
        compute = TorchCudaEngine.__init__.__globals__["_CudaSlot"]._compute

        def recording(slot: Any, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            values = compute(slot, images)

            def again() -> None:
                for value, new in zip(values, compute(slot, images), strict=True):
                    value.copy_(new)

            graph.again = again
            return values

        with monkeypatch.context() as patched:
            patched.setattr(eager_cuda._CudaSlot, "_compute", recording)
            yield

    class Autocast(torch.autocast):
        def __init__(self, kind: str, *rest: Any, **options: Any) -> None:
            super().__init__("cpu" if kind == "cuda" else kind, *rest, **options)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Made GPU")
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", CUDAGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch, "autocast", Autocast)
    monkeypatch.setattr(torch, "device", lambda kind, index=0: CPU)
    monkeypatch.setattr(eager_cuda, "_pinned", lambda shape, dtype: torch.empty(shape, dtype=dtype))
    yield device


def reference(model: Model, batch: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: False)
        with open_torch(model, "frame", "f32") as engine:
            return engine.infer(batch)


def test_in_f32_it_gives_what_the_reference_gives_with_and_without_graphs(
    model: Model, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_torch(model, "frame", "f32") as engine:
        assert isinstance(engine, TorchCudaEngine)
        for count in (2, 2, 3, 2, 3):
            batch = pictures(count, HEIGHT, WIDTH)
            batch[0] = 255 - batch[0]
            wanted = reference(model, batch, monkeypatch)
            for name, values in engine.infer(batch).items():
                np.testing.assert_allclose(values, wanted[name], rtol=1e-4, atol=1e-3, err_msg=name)
    assert device.replayed == 3, "all but the first of each size"


def decoded(count: int) -> tuple[list[Planes], np.ndarray]:
    """Pictures as they were decoded, of two sizes in turn, and the batch that the CPU makes of them."""
    placed, batch = [], np.zeros((count, HEIGHT, WIDTH, 3), np.uint8)
    for at, (out, pixels) in enumerate(zip(batch, pictures(count, 2 * HEIGHT, 3 * WIDTH), strict=True)):
        picture = Picture.from_rgb(pixels[:, : (3 - at % 2) * WIDTH])
        box = letterbox((picture.width, picture.height), (WIDTH, HEIGHT))
        placed.append(picture.placed(box))
        letterbox_into(picture, box, out)
    return placed, batch


def test_decoded_pictures_give_what_letterboxed_ones_do(
    model: Model, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_torch(model, "frame", "f32") as engine:
        assert isinstance(engine, PlanesEngine)
        for count in (2, 2, 3, 2, 3):
            placed, batch = decoded(count)
            wanted = reference(model, batch, monkeypatch)
            found = engine.start_planes(placed).outputs()
            # A value in 255 moves a score by less than a hundredth here.
            np.testing.assert_allclose(found["scene"], wanted["scene"], atol=0.02)
            np.testing.assert_allclose(found["object_scores"], wanted["object_scores"], atol=0.02)
        pixels = engine.infer(batch)["scene"]  # of the same size, from the same graph
        np.testing.assert_allclose(pixels, wanted["scene"], atol=1e-4)
    assert device.replayed == 4, "all but the first of each size"


def test_two_batches_of_decoded_pictures_do_not_write_over_each_other(
    model: Model, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    (placed, batch), dark = decoded(2), np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    with open_torch(model, "frame", "f32") as engine:
        assert isinstance(engine, PlanesEngine)
        for _ in range(3):
            running = engine.start_planes(placed), engine.start(dark)
            for each, of in zip(running, (batch, dark), strict=True):
                wanted = reference(model, of, monkeypatch)["scene"]
                np.testing.assert_allclose(each.outputs()["scene"], wanted, atol=0.02)


def test_decoded_pictures_that_do_not_fit_are_refused(model: Model, device: Device) -> None:
    picture = Picture.from_rgb(np.zeros((32, 32, 3), np.uint8))
    with open_torch(model, "frame", "f32") as engine:
        assert isinstance(engine, PlanesEngine)
        with pytest.raises(EngineError, match=r"pictures must be letterboxed into \(\d+, \d+\), got \(8, 8\)"):
            engine.start_planes([picture.placed(letterbox((32, 32), (8, 8)))])
        with pytest.raises(EngineError, match="batch must have a picture, got none"):
            engine.start_planes([])


def test_the_reference_on_the_cpu_takes_none(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with open_torch(model, "frame") as engine:
        assert not isinstance(engine, PlanesEngine)


def test_it_is_compiled_before_the_first_batch(model: Model, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def compile_(network: Any) -> Any:
        return lambda images: sizes.append(len(images)) or network(images)

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(torch._dynamo, "mark_dynamic", lambda images, index: None)
    open_torch(model, "frame", torch_compile=True).close()
    assert sizes == list(SIZES)


def test_it_says_what_it_is(model: Model, device: Device) -> None:
    with open_engine(model, "frame", "torch") as engine:
        said = engine.backend, engine.precision, engine.device, engine.depth
    assert said == ("torch", "bf16", "Made GPU (GPU 0)", 2)


def test_two_batches_under_way_do_not_write_over_each_other(
    model: Model, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [pictures(2, HEIGHT, WIDTH), np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)]
    with open_torch(model, "frame", "f32") as engine:
        for _ in range(3):
            running = [engine.start(batch) for batch in batches]
            for batch, each in zip(batches, running, strict=True):
                wanted = reference(model, batch, monkeypatch)["scene"]
                np.testing.assert_allclose(each.outputs()["scene"], wanted, atol=1e-4)


def test_outputs_stay_when_the_engine_runs_again(model: Model, device: Device) -> None:
    with open_torch(model, "frame", "f32") as engine:
        before = engine.infer(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8))
        kept = {name: values.copy() for name, values in before.items()}
        engine.infer(pictures(1, HEIGHT, WIDTH))
    for name, values in before.items():
        np.testing.assert_array_equal(values, kept[name])


def test_sizes_beyond_the_number_of_graphs_run_without_one(
    model: Model, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager_cuda, "GRAPHS", 1)
    with open_torch(model, "frame", "f32") as engine:
        for count in (1, 2, 2, 2):
            assert len(engine.infer(pictures(count, HEIGHT, WIDTH))["scene"]) == count
    assert device.replayed == 0


def test_a_gpu_that_cannot_capture_runs_without_graphs(model: Model, device: Device) -> None:
    device.refuse_capture = True
    with open_torch(model, "frame", "f32") as engine:
        for _ in range(3):
            assert len(engine.infer(pictures(1, HEIGHT, WIDTH))["scene"]) == 1
    assert device.replayed == 0


def test_a_batch_that_is_dropped_is_waited_for_and_its_slot_used_again(model: Model, device: Device) -> None:
    with open_torch(model, "frame", "f32") as engine:
        for _ in range(3):
            engine.start(pictures(1, HEIGHT, WIDTH))
        assert device.waited == 3
        assert len(engine._free) == 1


def test_a_batch_under_way_is_finished_when_the_engine_is_closed(model: Model, device: Device) -> None:
    engine = open_torch(model, "frame", "f32")
    running = engine.start(pictures(2, HEIGHT, WIDTH))
    engine.close()
    assert len(running.outputs()["scene"]) == 2
    with pytest.raises(EngineError, match="were taken already"):
        running.outputs()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.start(pictures(1, HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "the GPU has not enough memory for this batch: CUDA out"),
        (RuntimeError("illegal\naccess"), "the PyTorch network failed: illegal access"),
    ],
)
def test_a_run_that_fails(
    model: Model, device: Device, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def fail(images: torch.Tensor) -> None:
        raise error

    with open_torch(model, "frame", "f32") as engine:
        monkeypatch.setattr(engine, "_network", fail)
        with pytest.raises(EngineError, match=sentence):
            engine.infer(pictures(1, HEIGHT, WIDTH))


def test_what_it_does_not_have(model: Model, device: Device, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"'torch' has precision 'f32', 'bf16' or 'f16', not 'int8'"):
        open_torch(model, "frame", "int8")
    with pytest.raises(BackendUnavailable, match="gpu is 1, but this machine has 1, counted from 0"):
        open_torch(model, "frame", gpu=1)
    with open_torch(model, "frame") as engine, pytest.raises(EngineError, match="batch must have shape"):
        engine.infer(pictures(1, 32, 32))
