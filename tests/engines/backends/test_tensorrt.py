"""The TensorRT backend on doubles of TensorRT and CUDA; tests/gpu does the same with the real ones."""

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto

from engines.boxes import letterbox
from engines.engine import choose_backend, open_engine
from engines.errors import BackendUnavailable, EngineError, ModelError
from engines.hardware import Gpu as Listed
from engines.planes import Planes, PlanesEngine
from engines.spec import Model, Precision
from pipeline.frames.picture import Picture
from tests.engines.made_models import OUTPUTS, expected, pictures, write_model, write_onnx, write_spec
from tests.fakes.cuda_double import Gpu
from tests.fakes.tensorrt_double import BuilderFlag, Machine, MemoryPoolType

Open = Callable[..., Any]
CPU = torch.device("cpu")


@pytest.mark.parametrize("machine", ["10.16.1.11", "11.4.0.106"], indirect=True)
@pytest.mark.parametrize("count", [1, 3, 8])
def test_it_computes_what_the_graph_says_for_any_batch_of_its_range(opened: Open, count: int) -> None:
    batch = pictures(count, 32, 48)
    with opened() as engine:
        for _ in range(3):  # as it is, while its graph is captured, and from the graph
            outputs = engine.infer(batch)
            for name, values in expected(batch).items():
                np.testing.assert_allclose(outputs[name], values, atol=1e-5)
                assert outputs[name].shape == (count, *OUTPUTS[name])


def test_it_says_what_it_is(opened: Open) -> None:
    with opened() as engine:
        said = engine.backend, engine.precision, engine.device, engine.depth
    assert said == ("tensorrt", "f16", "Made GPU (GPU 0)", 2)


def test_everything_that_was_taken_from_the_gpu_is_given_back(opened: Open, gpu: Gpu) -> None:
    with opened() as engine:
        for count in (1, 1, 2, 2, 3):
            engine.infer(pictures(count, 32, 48))
        assert gpu.used > 0
    engine.close()  # twice
    assert gpu.leaks == 0


def test_two_batches_are_under_way_at_once_and_come_back_in_any_order(opened: Open) -> None:
    first, second = pictures(2, 32, 48), pictures(3, 32, 48)
    with opened() as engine:
        running = engine.start(first), engine.start(second)
        outputs = [each.outputs() for each in reversed(running)]
    for batch, found in zip((second, first), outputs, strict=True):
        np.testing.assert_allclose(found["scene"], expected(batch)["scene"], atol=1e-5)


def test_more_batches_than_are_worth_it_may_be_under_way(opened: Open, gpu: Gpu) -> None:
    batches = [pictures(count, 32, 48) for count in (1, 2, 3, 4, 5)]
    with opened() as engine:
        for running, batch in zip([engine.start(batch) for batch in batches], batches, strict=True):
            np.testing.assert_allclose(running.outputs()["scene"], expected(batch)["scene"], atol=1e-5)
    assert gpu.leaks == 0


def test_outputs_stay_when_the_engine_runs_again(opened: Open) -> None:
    with opened() as engine:
        dark = engine.infer(np.zeros((2, 32, 48, 3), np.uint8))
        engine.infer(np.full((2, 32, 48, 3), 255, np.uint8))
    assert dark["quality"].tolist() == [0.0, 0.0]


def test_pictures_need_not_lie_together_in_memory(opened: Open) -> None:
    view = pictures(4, 32, 96)[::2, :, ::-2]
    with opened() as engine:
        np.testing.assert_allclose(engine.infer(view)["scene"], expected(view)["scene"], atol=1e-5)


def test_each_batch_may_be_waited_for_in_a_thread_of_its_own(opened: Open) -> None:
    batches = [pictures(count, 32, 48) for count in (1, 2)]
    found: dict[int, Any] = {}
    with opened() as engine:
        running = [engine.start(batch) for batch in batches]
        waiting = [
            threading.Thread(target=lambda at=at, each=each: found.update({at: each.outputs()}))
            for at, each in enumerate(running)
        ]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join(10)
    for at, batch in enumerate(batches):
        np.testing.assert_allclose(found[at]["scene"], expected(batch)["scene"], atol=1e-5)


def test_a_batch_that_is_dropped_gives_its_memory_back(opened: Open, gpu: Gpu) -> None:
    with opened() as engine:
        for _ in range(10):
            engine.start(pictures(1, 32, 48))
        held = len(gpu.device)
    assert held == 2 * (1 + 1 + len(OUTPUTS)), "two slots, with activations, an input and outputs each"
    assert gpu.leaks == 0


def test_a_batch_under_way_is_finished_when_the_engine_is_closed(opened: Open, gpu: Gpu) -> None:
    batch = pictures(2, 32, 48)
    engine = opened()
    running = engine.start(batch)
    engine.close()
    np.testing.assert_allclose(running.outputs()["scene"], expected(batch)["scene"], atol=1e-5)
    assert gpu.leaks == 0


@pytest.fixture
def torch_on(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PyTorch that finds the GPU, and whose work there is done at once."""

    def borrowed(memory: Any, device: object) -> torch.Tensor:
        told = memory.__cuda_array_interface__
        assert (told["typestr"], told["data"][1], told["version"]) == ("|u1", False, 3)
        held = gpu.view(told["data"][0], int(np.prod(told["shape"])), [gpu.device])
        return torch.frombuffer(held, dtype=torch.uint8).view(told["shape"])

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpu.count)
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda stream, device: gpu.stream(stream))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch, "device", lambda kind, index=0: CPU)
    monkeypatch.setattr(torch, "as_tensor", borrowed)


def decoded(count: int) -> tuple[list[Planes], np.ndarray]:
    """Pictures of the network's own size as they were decoded, and as a batch."""
    batch = pictures(count, 32, 48)
    return [Picture.from_rgb(pixels).placed(letterbox((48, 32), (48, 32))) for pixels in batch], batch


def test_decoded_pictures_are_letterboxed_in_the_engines_own_memory(opened: Open, gpu: Gpu, torch_on: None) -> None:
    with opened() as engine:
        assert isinstance(engine, PlanesEngine)
        for count in (2, 2, 3, 2):
            placed, batch = decoded(count)
            found = engine.start_planes(placed).outputs()
            np.testing.assert_allclose(found["scene"], expected(batch)["scene"], atol=1e-5)
            np.testing.assert_allclose(engine.infer(255 - batch)["scene"], expected(255 - batch)["scene"], atol=1e-5)
    assert gpu.launched == 6, "pixels and planes share a size's graph, which all but its first batch have"
    assert gpu.leaks == 0


def test_decoded_pictures_need_a_pytorch_that_finds_the_gpu(
    opened: Open, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed, batch = decoded(1)
    with opened() as engine:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        with pytest.raises(BackendUnavailable, match="letterboxing on GPU 0 needs a PyTorch that finds it"):
            engine.start_planes(placed)
        monkeypatch.setitem(sys.modules, "engines.backends.torch_letterbox", None)
        with pytest.raises(BackendUnavailable, match=r"letterboxing on the GPU needs PyTorch, .* pip install torch"):
            engine.start_planes(placed)
        np.testing.assert_allclose(engine.infer(batch)["scene"], expected(batch)["scene"], atol=1e-5)
    assert gpu.leaks == 0


def test_memory_that_pytorch_does_not_get_fails_the_batch_alone(
    opened: Open, gpu: Gpu, torch_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed, batch = decoded(1)

    def full(memory: object, device: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried")

    with opened() as engine:
        with monkeypatch.context() as patched:
            patched.setattr(torch, "as_tensor", full)
            with pytest.raises(EngineError, match=r"letterboxing on the GPU failed: CUDA out of memory\. Tried"):
                engine.start_planes(placed)
        found = engine.start_planes(placed).outputs()
        np.testing.assert_allclose(found["scene"], expected(batch)["scene"], atol=1e-5)
    assert gpu.leaks == 0


def test_outputs_are_taken_once(opened: Open) -> None:
    with opened() as engine:
        running = engine.start(pictures(1, 32, 48))
        running.outputs()
        with pytest.raises(EngineError, match="were taken already"):
            running.outputs()


def test_a_closed_engine_says_so(opened: Open) -> None:
    engine = opened()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(pictures(1, 32, 48))


@pytest.mark.parametrize(
    ("case", "batch", "sentence"),
    [
        ("another size", pictures(1, 48, 32), "batch must have shape"),
        ("another type", np.zeros((1, 32, 48, 3), np.float32), "batch must be uint8"),
        ("more than it was built for", pictures(9, 32, 48), "batch has 9 pictures, the engine was built for 8 at most"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(opened: Open, case: str, batch: Any, sentence: str) -> None:
    with opened() as engine, pytest.raises(EngineError, match=sentence):
        engine.infer(batch)


def test_a_size_that_came_before_is_one_launch_of_a_graph(opened: Open, gpu: Gpu) -> None:
    with opened() as engine:
        for _ in range(5):
            engine.infer(pictures(2, 32, 48))
    assert gpu.launched == 4, "all but the first"


def test_a_gpu_that_cannot_capture_runs_without_graphs(opened: Open, gpu: Gpu) -> None:
    gpu.refuse_capture = True
    batch = pictures(2, 32, 48)
    with opened() as engine:
        for _ in range(4):
            np.testing.assert_allclose(engine.infer(batch)["scene"], expected(batch)["scene"], atol=1e-5)
    assert gpu.launched == 0
    assert gpu.leaks == 0


def test_sizes_beyond_the_number_of_graphs_run_without_one(
    opened: Open, gpu: Gpu, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened()
    monkeypatch.setattr("engines.backends.trt_slot.GRAPHS", 2)
    for count in (1, 2, 3, 4, 3, 4, 1):
        batch = pictures(count, 32, 48)
        np.testing.assert_allclose(engine.infer(batch)["scene"], expected(batch)["scene"], atol=1e-5)
    engine.close()
    assert gpu.launched == 1, "that of the second batch of 1"
    assert machine.calls["contexts"] - 1 == 2 + 2, "one for other sizes in each slot, and those of 1 and 2"


def test_another_gpu_is_used_by_every_thread_that_needs_it(opened: Open, gpu: Gpu) -> None:
    gpu.count = 2
    with opened(gpu=1) as engine:
        gpu.chosen.clear()
        engine.infer(pictures(1, 32, 48))
        assert engine.device == "Made GPU (GPU 1)"
    assert gpu.chosen and set(gpu.chosen) == {1}


def test_a_gpu_that_is_not_there(opened: Open) -> None:
    with pytest.raises(BackendUnavailable, match=r"gpu is 3, but this machine has 1, counted from 0"):
        opened(gpu=3)


def test_no_driver(opened: Open, gpu: Gpu) -> None:
    gpu.driver = False
    with pytest.raises(BackendUnavailable, match=r"no GPU can be used: CUDA failed .* insufficient .*\(error 35\)"):
        opened()


def test_tensorrt_without_a_gpu_says_what_it_said(machine: Machine, gpu: Gpu) -> None:
    from engines.backends.trt import _Runtime
    from engines.backends.trt_build import new_builder
    from engines.backends.trt_log import Log

    gpu.driver = False
    for refused in (_Runtime, lambda: new_builder(Log())):
        with pytest.raises(BackendUnavailable, match="CUDA initialization failure with error: 35"):
            refused()


@pytest.mark.parametrize("precision", ["bf16"])
def test_a_precision_it_does_not_have(opened: Open, precision: Precision) -> None:
    with pytest.raises(BackendUnavailable, match=r"'tensorrt' has precision 'f32', 'f16' or 'int8', not 'bf16'"):
        opened(precision)


def test_int8_needs_the_file_that_was_made_for_tensorrt(opened: Open) -> None:
    with pytest.raises(ModelError, match=r"no int8 file .* for TensorRT; make it with: .* --backend tensorrt"):
        opened("int8")


def test_the_gpus_memory_is_full_before_it_runs(opened: Open, gpu: Gpu, machine: Machine) -> None:
    machine.scratch = 2**24
    gpu.memory = 2**23
    with pytest.raises(EngineError, match=r"has no 16 MiB left for activations of frame\.onnx: 8 of its 8 MiB"):
        opened()
    assert gpu.leaks == 0


def test_the_gpus_memory_has_room_for_one_batch_alone(opened: Open, gpu: Gpu, machine: Machine) -> None:
    machine.scratch = 2**24
    gpu.memory = 2**24 + 2**20
    with pytest.raises(EngineError, match=r"has no 16 MiB left for activations of frame\.onnx: 1 of its 17 MiB"):
        opened()
    assert gpu.leaks == 0, "what was taken before it failed is given back"


def test_the_gpus_memory_is_full_while_it_builds(opened: Open, machine: Machine, tmp_path: Path) -> None:
    machine.no_memory_to_build = True
    with pytest.raises(EngineError, match=r"TensorRT could not build frame\.onnx: .*out of memory"):
        opened()
    assert not list(tmp_path.glob("cache/**/*.engine"))


def test_no_room_to_prepare_a_run(opened: Open, machine: Machine, gpu: Gpu) -> None:
    machine.no_context = True
    with pytest.raises(EngineError, match=r"TensorRT cannot prepare to run an engine: .*out of memory"):
        opened()
    assert gpu.leaks == 0


def test_a_run_that_tensorrt_refuses(opened: Open, machine: Machine, gpu: Gpu) -> None:
    with opened() as engine:
        machine.run_fails = True
        with pytest.raises(EngineError, match=r"frame\.onnx failed in TensorRT: enqueueV3: Error Code 1"):
            engine.infer(pictures(1, 32, 48))
        machine.run_fails = False
        assert engine.infer(pictures(1, 32, 48)).keys() == OUTPUTS.keys(), "the next batch runs"
    assert gpu.leaks == 0


def test_a_run_that_fails_on_the_gpu(opened: Open, machine: Machine, gpu: Gpu) -> None:
    with opened() as engine:
        running = engine.start(pictures(1, 32, 48))
        machine.gpu_fails = True
        with pytest.raises(EngineError, match=r"frame\.onnx failed in TensorRT: CUDA failed in cudaEventSynchron"):
            running.outputs()
    assert gpu.leaks == 0


def test_a_node_that_the_parser_refuses_is_named(tmp_path: Path, opened: Open, machine: Machine) -> None:
    machine.refused = {"ReduceMean": "Unsupported axes attribute", "Sub": "broadcast is not supported"}
    with pytest.raises(ModelError, match=r"cannot be run by TensorRT: node '.*' \(Sub\): broadcast") as info:
        import onnx

        model = write_model(tmp_path / "named")
        network = onnx.load(model.file("frame"))
        for node in network.graph.node:
            node.name = f"{node.op_type}_of_{node.output[0]}"
        onnx.save(network, model.file("frame"))
        opened(model=write_spec(tmp_path / "named", (32, 48)))
    assert "node 'ReduceMean_of_scene' (ReduceMean): Unsupported axes attribute" in str(info.value)


def test_a_file_that_is_no_network(tmp_path: Path, opened: Open) -> None:
    folder = tmp_path / "damaged"
    write_model(folder).file("frame").write_bytes(b"not an onnx file")
    with pytest.raises(ModelError, match=r"frame\.onnx: is not an ONNX network"):
        opened(model=write_spec(folder, (32, 48)))


def test_an_input_of_another_type_is_refused(tmp_path: Path, opened: Open) -> None:
    folder = tmp_path / "floats"
    write_model(folder)
    write_onnx(folder / "frame.onnx", 32, 48, kind=TensorProto.FLOAT)
    with pytest.raises(ModelError, match=r"must take one input 'images' of uint8, it takes \{'images': 'float32'\}"):
        opened(model=write_spec(folder, (32, 48)))


def test_f32_is_computed_without_tf32(opened: Open, machine: Machine) -> None:
    for precision in ("f32", "f16"):
        opened(precision).close()
    assert [BuilderFlag.TF32 in config._flags for config in machine.configs] == [False, True]


def test_the_workspace_is_limited_on_request(opened: Open, machine: Machine) -> None:
    opened(workspace=2**28).close()
    assert machine.configs[0]._limits == {MemoryPoolType.WORKSPACE: 2**28}


@pytest.fixture
def listed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver lists the GPU."""
    monkeypatch.setattr("engines.hardware.nvidia_gpus", lambda: (Listed("Made GPU", 4096, "580.1"),))


@pytest.mark.usefixtures("listed")
def test_auto_takes_it_where_its_libraries_load(made: Model) -> None:
    choice = choose_backend()
    assert (choice.backend, choice.warning) == ("tensorrt", None)
    assert choice.reason == "tensorrt 11.4.0.106: the fastest on the Made GPU"
    batch = pictures(2, 32, 48)
    with open_engine(made, "frame") as engine:
        np.testing.assert_allclose(engine.infer(batch)["scene"], expected(batch)["scene"], atol=1e-5)


@pytest.mark.usefixtures("listed")
def test_outputs_that_are_not_those_of_the_spec(tmp_path: Path, gpu: Gpu) -> None:
    model = write_model(tmp_path / "other", {**OUTPUTS, "scene": (4,)})
    with pytest.raises(ModelError, match=r"frame\.onnx does not match spec\.json: .*\(2, 3\), expected \(2, 4\)"):
        open_engine(model, "frame", "tensorrt")
    assert gpu.leaks == 0


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("package", ["tensorrt", "cuda.bindings.runtime", "onnx"])
def test_a_missing_library_is_named_with_what_installs_it(
    made: Model, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == package:
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(
        BackendUnavailable, match=rf"{package} cannot be imported .* pip install 'trunkline\[tensorrt\]'"
    ):
        open_engine(made, "frame", "tensorrt")


def test_ctrl_c_ends_a_build_through_tensorrt_and_not_inside_of_it(machine: Machine) -> None:
    from engines.backends.trt_build import Shown

    steps: list[int] = []

    def build() -> None:
        shown.monitor.phase_start("Tactic Selection", "Building Engine", 1000)
        os.kill(os.getpid(), signal.SIGINT)
        while shown.monitor.step_complete("Tactic Selection", len(steps)) and len(steps) < 1000:
            steps.append(len(steps))
            time.sleep(0.01)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
    try:
        with Shown("a build") as shown, pytest.raises(KeyboardInterrupt):
            shown.run(build)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 0 < len(steps) < 1000, "it went on until TensorRT asked, and no longer"


def test_what_a_build_raises_is_raised(machine: Machine) -> None:
    from engines.backends.trt_build import Shown

    def build() -> None:
        raise MemoryError("no room")

    with Shown("a build") as shown, pytest.raises(MemoryError, match="no room"):
        shown.run(build)
