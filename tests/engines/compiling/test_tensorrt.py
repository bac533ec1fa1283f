"""Engines built ahead of their first run and checked, with TensorRT acted out."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from engines.compiling import gate, tensorrt
from engines.compiling.gate import compile_int8
from engines.compiling.tensorrt import compile_tensorrt
from engines.engine import open_engine
from engines.errors import BackendUnavailable, EngineError, ModelError
from engines.hardware import Gpu as Listed
from engines.spec import EntryName, Model, load_model
from tests.engines.made_models import pictures
from tests.fakes.cuda_double import Gpu
from tests.fakes.nvidia import acted_out
from tests.fakes.tensorrt_double import BuilderFlag, Machine, MemoryPoolType

pytestmark = pytest.mark.usefixtures("single_requests")
ENTRIES: tuple[EntryName, ...] = ("frame", "face")
F32 = {"objects": {"ap50": 0.5}, "faces": {"ap50": 0.6}, "scene": {"top1": 0.7}, "identity": {"accuracy": 0.8}}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("engines.hardware.nvidia_gpus", lambda: (Listed("Made GPU", 4096, "580.1"),))
    with acted_out(Machine(Gpu())) as machine:
        yield machine


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    return shutil.copytree(model.path, tmp_path / "zoo/n")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for the evaluation, which has tests of its own: ``scored[backend]`` are the figures that it finds."""
    found: dict[str, Any] = {"asked": []}

    def evaluate_model(model: Model, truth: Any, *, backend: str, precision: str, tasks: Any) -> Any:
        found["asked"].append((backend, precision))
        figures = found.get(backend, F32) if precision != "f32" else F32
        return SimpleNamespace(of={task: SimpleNamespace(**{"nme": None, **figures[task]}) for task in tasks}.get)

    monkeypatch.setattr(tensorrt, "evaluate_model", evaluate_model)
    monkeypatch.setattr(gate, "evaluate_model", evaluate_model)
    return found


def test_f32_is_kept_when_it_gives_what_pytorch_gives(folder: Path, data: Path, machine: Machine) -> None:
    told: list[str] = []
    done = compile_tensorrt(folder, data, "f32", tolerance=0.01, told=told.append)
    assert told == ["building the frame entry", "building the face entry", "checking parity"]
    [parity] = done.parity
    assert (parity.backend, parity.holds, done.figures) == ("tensorrt", True, [])
    assert done.device == "Made GPU (GPU 0)"
    assert machine.calls["built"] == 2, "parity ran the engines of the cache"
    assert len(list(done.cache.glob("*.engine"))) == 2


def test_f32_that_gives_something_else_is_an_error(
    folder: Path, data: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared(file: Path, precision: str, size: tuple[int, int]) -> bytes:
        network = onnx.load(file)
        for node in network.graph.node:
            if node.op_type == "Softmax":
                node.op_type = "Sigmoid"
                del node.attribute[:]
        return before(onnx_file(network, file), precision, size)

    def onnx_file(network: onnx.ModelProto, file: Path) -> Path:
        onnx.save(network, file.with_suffix(".broken"))
        return file.with_suffix(".broken")

    from engines.backends import trt

    before = trt.tensorrt_network
    monkeypatch.setattr(trt, "tensorrt_network", prepared)
    with pytest.raises(EngineError, match="parity with PyTorch is broken"):
        compile_tensorrt(folder, data, "f32", tolerance=0.01)


def test_f16_keeps_its_figures(folder: Path, data: Path, machine: Machine, scored: dict[str, Any]) -> None:
    scored["tensorrt"] = {**F32, "scene": {"top1": 0.6951}}
    done = compile_tensorrt(folder, data, "f16", tolerance=0.01)
    assert scored["asked"] == [("onnxruntime", "f32"), ("tensorrt", "f16")]
    losses = {each.task: each.loss for each in done.figures}
    assert losses["scene"] == pytest.approx(0.007) and losses["objects"] == 0


@pytest.mark.parametrize(("case", "value"), [("too much is lost", 0.69), ("no number", float("nan"))])
def test_f16_that_loses_too_much_is_an_error(
    folder: Path, data: Path, machine: Machine, scored: dict[str, Any], case: str, value: float
) -> None:
    scored["tensorrt"] = {**F32, "scene": {"top1": value}}
    with pytest.raises(
        EngineError, match=r"f16 in TensorRT loses more than 1\.0% of these figures: scene top1 0\.7000"
    ):
        compile_tensorrt(folder, data, "f16", tolerance=0.01)


def test_options_reach_the_builder(folder: Path, data: Path, machine: Machine, scored: dict[str, Any]) -> None:
    compile_tensorrt(folder, data, "f16", tolerance=0.01, workspace=2**28, version_compatible=True)
    for config in machine.configs:
        assert BuilderFlag.VERSION_COMPATIBLE in config._flags
        assert config._limits == {MemoryPoolType.WORKSPACE: 2**28}
    with open_engine(load_model(folder), "face", "tensorrt") as engine:
        engine.infer(pictures(2, 112, 112))
    assert machine.calls["built"] == 2, "what was built is what runs"


def test_int8_files_for_tensorrt_are_made_gated_and_run(
    folder: Path, data: Path, machine: Machine, scored: dict[str, Any]
) -> None:
    compile_int8(folder, data, pictures=4)
    scored["asked"].clear()
    model = compile_int8(folder, data, pictures=4, form="tensorrt")
    assert scored["asked"] == [("onnxruntime", "f32"), ("onnxruntime", "int8"), ("tensorrt", "int8")]
    int8 = model.spec.int8_tensorrt
    assert int8 is not None and int8.files["frame"].file == "frame.int8-tensorrt.onnx"
    assert {each.backend for each in int8.figures} == {"onnxruntime", "tensorrt"}
    assert model.spec.int8 is not None, "those for CPUs stay"
    for entry in ENTRIES:
        spec = model.spec.entry(entry)
        batch = pictures(3, spec.height, spec.width)
        same = Model(model.path, msgspec.structs.replace(model.spec, int8=int8))
        with (
            open_engine(model, entry, "tensorrt", "int8") as engine,
            open_engine(same, entry, "onnxruntime", "int8") as file,
        ):
            assert engine.precision == "int8"
            name = "scene" if entry == "frame" else "quality"
            np.testing.assert_allclose(engine.infer(batch)[name], file.infer(batch)[name], atol=0.01)


def test_without_tensorrt_its_files_are_made_and_gated_in_onnx_runtime(
    folder: Path, data: Path, scored: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.hardware.nvidia_gpus", tuple)
    model = compile_int8(folder, data, pictures=4, form="tensorrt")
    assert scored["asked"] == [("onnxruntime", "f32"), ("onnxruntime", "int8")]
    assert model.spec.int8_tensorrt is not None and model.spec.int8 is None


def test_the_card_tells_of_both_forms(folder: Path, data: Path, machine: Machine, scored: dict[str, Any]) -> None:
    card = folder / "MODEL_CARD.md"
    card.write_text("# Trunkline model n\n\n## Cost\n\nNone.\n")
    for _ in range(2):  # the second time in place of the first
        compile_int8(folder, data, pictures=4)
        compile_int8(folder, data, pictures=4, form="tensorrt")
    headings = [line for line in card.read_text().splitlines() if line.startswith("## ")]
    assert headings == ["## Cost", "## int8", "## int8 for TensorRT"]


def test_without_a_gpu_nothing_is_built(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.hardware.nvidia_gpus", tuple)
    with pytest.raises(BackendUnavailable, match="backend 'tensorrt' cannot run: this machine has no NVIDIA GPU"):
        compile_tensorrt(folder, data, "f32", tolerance=0.01)


def test_int8_engines_need_their_files(folder: Path, data: Path, machine: Machine) -> None:
    with pytest.raises(ModelError, match="no int8 file of the frame entry for TensorRT"):
        compile_tensorrt(folder, data, "int8", tolerance=0.01)
