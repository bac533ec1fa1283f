import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from engines.engine import Backend, Engine, Precision, open_engine
from engines.errors import BackendUnavailable, EngineError, ModelError
from engines.network.entries import FrameEntry
from engines.network.network import build_network
from engines.spec import Model, NetworkSettings, Quantised, QuantisedFile, output_names, sha256_of
from tests.engines.made_models import OUTPUTS, expected, pictures, write_model, write_onnx, write_spec

COMPILED: tuple[Backend, ...] = ("openvino", "onnxruntime")
SMALL = NetworkSettings(channels=(8, 8, 8, 8, 8), depths=(1, 1, 1, 1), neck=8, towers=1, embedding=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(params=COMPILED)
def engine(request: pytest.FixtureRequest, model: Model) -> Engine:
    return open_engine(model, "frame", request.param, "f32")


@pytest.mark.parametrize("count", [1, 3, 8, 2])
def test_a_compiled_engine_computes_what_the_graph_says_for_any_batch(engine: Engine, count: int) -> None:
    batch = pictures(count, 32, 48)
    outputs = engine.infer(batch)
    wanted = expected(batch)
    assert outputs.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(outputs[name], values, atol=1e-5)


def test_results_stay_when_the_engine_runs_again(engine: Engine) -> None:
    dark = engine.infer(np.zeros((2, 32, 48, 3), np.uint8))
    engine.infer(np.full((2, 32, 48, 3), 255, np.uint8))
    assert dark["quality"].tolist() == [0.0, 0.0]


def test_pictures_need_not_lie_together_in_memory(engine: Engine) -> None:
    wide = pictures(4, 32, 96)
    view = wide[::2, :, ::-2]
    np.testing.assert_allclose(engine.infer(view)["scene"], expected(view)["scene"], atol=1e-5)


def test_a_batch_that_does_not_fit_is_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match="batch must have shape"):
        engine.infer(pictures(1, 48, 32))
    with pytest.raises(EngineError, match="batch must be uint8"):
        engine.infer(np.zeros((1, 32, 48, 3), np.float32))  # type: ignore[arg-type]


def test_a_closed_engine_says_so_and_closes_twice(engine: Engine) -> None:
    with engine:
        engine.infer(pictures(1, 32, 48))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(pictures(1, 32, 48))


@pytest.mark.parametrize("backend", COMPILED)
def test_the_precision_is_the_one_that_was_asked_for(model: Model, backend: Backend) -> None:
    with open_engine(model, "face", backend, "f32") as engine:
        assert (engine.backend, engine.precision, engine.device) == (backend, "f32", "CPU")


def test_openvino_says_which_precision_auto_became(model: Model) -> None:
    with open_engine(model, "face", "openvino") as engine:
        assert engine.precision in ("f32", "bf16", "f16")


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_onnx_runtime_runs_the_precision_of_the_file(model: Model, precision: Precision) -> None:
    with pytest.raises(BackendUnavailable, match=f"'onnxruntime' has precision 'f32' or 'int8', not '{precision}'"):
        open_engine(model, "face", "onnxruntime", precision)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_openvino_runs_the_precision_or_refuses_it(model: Model, precision: Precision) -> None:
    try:
        with open_engine(model, "face", "openvino", precision) as engine:
            assert engine.precision == precision
    except BackendUnavailable as error:
        assert f"no precision '{precision}' on this CPU" in str(error)


@pytest.mark.parametrize("backend", COMPILED)
def test_int8_runs_the_file_that_was_made_for_it(tmp_path: Path, backend: Backend) -> None:
    model = write_model(tmp_path)
    brighter = onnx.load(model.file("face"))
    (white,) = [each for each in brighter.graph.initializer if each.name == "white"]
    white.CopyFrom(numpy_helper.from_array(np.array(255 / 2, np.float32), white.name))
    onnx.save(brighter, tmp_path / "face.int8.onnx")
    made = QuantisedFile("face.int8.onnx", sha256_of(tmp_path / "face.int8.onnx"), 1, (), {})
    model = Model(tmp_path, msgspec.structs.replace(model.spec, int8=Quantised({"face": made}, 0.01, ())))
    batch = pictures(2, 16, 16)
    with open_engine(model, "face", backend, "int8") as engine, open_engine(model, "face", backend, "f32") as f32:
        assert engine.precision == "int8"
        np.testing.assert_allclose(engine.infer(batch)["scene"], 2 * f32.infer(batch)["scene"], atol=1e-5)


@pytest.mark.parametrize("backend", COMPILED)
def test_int8_is_refused_where_the_model_has_none(model: Model, backend: Backend) -> None:
    with pytest.raises(ModelError, match=r"no int8 file of the frame entry; make it with: trunkline compile"):
        open_engine(model, "frame", backend, "int8")


def test_the_reference_has_no_int8(model: Model) -> None:
    with pytest.raises(BackendUnavailable, match=r"backend 'torch' has precision .*, not 'int8'"):
        open_engine(model, "frame", "torch", "int8")


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("content", [b"", b"not an onnx file", None], ids=["empty", "text", "cut off"])
def test_a_file_that_is_what_the_spec_says_but_no_network(
    tmp_path: Path, backend: Backend, content: bytes | None
) -> None:
    file = write_model(tmp_path).file("frame")
    file.write_bytes(file.read_bytes()[:200] if content is None else content)
    with pytest.raises(ModelError, match=r"frame\.onnx"):
        open_engine(write_spec(tmp_path, (32, 48)), "frame", backend)


@pytest.mark.parametrize("backend", COMPILED)
def test_an_input_of_another_name_is_refused(tmp_path: Path, backend: Backend) -> None:
    write_model(tmp_path)
    write_onnx(tmp_path / "frame.onnx", 32, 48, source="x")
    with pytest.raises(ModelError, match=r"frame\.onnx must take one input 'images'"):
        open_engine(write_spec(tmp_path, (32, 48)), "frame", backend)


@pytest.mark.parametrize("backend", COMPILED)
def test_an_input_of_another_type_is_refused(tmp_path: Path, backend: Backend) -> None:
    write_model(tmp_path)
    write_onnx(tmp_path / "frame.onnx", 32, 48, kind=TensorProto.FLOAT)
    with pytest.raises(ModelError, match=r"frame\.onnx must take one input 'images' of u"):
        open_engine(write_spec(tmp_path, (32, 48)), "frame", backend)


@pytest.mark.parametrize("backend", COMPILED)
def test_an_input_of_another_size_than_the_spec_says_is_refused(tmp_path: Path, backend: Backend) -> None:
    write_model(tmp_path)
    with pytest.raises(ModelError, match=r"frame\.onnx does not run as spec\.json says"):
        open_engine(write_spec(tmp_path, (64, 96)), "frame", backend)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize(
    ("case", "outputs", "sentence"),
    [
        ("a shape of the spec's own", {**OUTPUTS, "scene": (4,)}, r"'scene' .* \(2, 3\), expected \(2, 4\)"),
        ("an output the file lacks", {**OUTPUTS, "x": (1,)}, r"'x' .* missing, expected \(2, 1\)"),
        ("outputs the spec lacks", {"scene": (3,)}, r"'embedding' .* \(2, 3\), expected no such output"),
    ],
)
def test_outputs_that_are_not_those_of_the_spec(
    tmp_path: Path, backend: Backend, case: str, outputs: dict[str, tuple[int, ...]], sentence: str
) -> None:
    with pytest.raises(ModelError, match=rf"frame\.onnx does not match spec\.json: .*{sentence}"):
        open_engine(write_model(tmp_path, outputs), "frame", backend)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small real network's weights; its ONNX files are not looked into by the PyTorch engine."""
    folder = tmp_path_factory.mktemp("trained")
    write_model(folder)
    torch.manual_seed(0)
    network = build_network(SMALL, objects=2, scenes=2)
    torch.save({"model": network.state_dict()}, folder / "weights.pt")
    rows = 8 * 8 + 4 * 4 + 2 * 2  # cells of the three pyramid levels at 64x64
    shapes = [(rows, 4), (rows,), (rows,), (rows, 4), (rows,), (rows, 5, 2), (2,)]
    return write_spec(folder, (64, 64), dict(zip(output_names("frame"), shapes, strict=True)), SMALL, 112)


def test_the_pytorch_engine_runs_the_network_of_the_weights(trained: Model) -> None:
    batch = pictures(3, 64, 64)
    with open_engine(trained, "frame", "torch") as engine:
        outputs = engine.infer(batch)
        assert (engine.backend, engine.precision) == ("torch", "f32")
    network = build_network(SMALL, objects=2, scenes=2)
    network.load_state_dict(torch.load(trained.weights)["model"])
    with torch.inference_mode():
        wanted = FrameEntry(network, (64, 64)).eval()(torch.from_numpy(batch))
    for name, values in zip(output_names("frame"), wanted, strict=True):
        np.testing.assert_allclose(outputs[name], values.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_pytorch_engine_refuses_and_closes_like_the_others(trained: Model) -> None:
    with open_engine(trained, "frame", "torch") as engine, pytest.raises(EngineError, match="batch must have shape"):
        engine.infer(pictures(1, 32, 48))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(pictures(1, 64, 64))


def test_the_pytorch_engine_in_bf16_stays_close_and_gives_numpy_types(trained: Model) -> None:
    batch = pictures(1, 64, 64)
    with open_engine(trained, "frame", "torch", "bf16") as low, open_engine(trained, "frame", "torch") as full:
        assert low.precision == "bf16"
        np.testing.assert_allclose(low.infer(batch)["scene"], full.infer(batch)["scene"], atol=0.02)


def test_the_pytorch_engine_compares_its_outputs_with_the_spec_too(trained: Model) -> None:
    # The face entry of this folder is described with the outputs of the made graph.
    with pytest.raises(ModelError, match=r"weights\.pt does not run as spec\.json says: .* 2 outputs, expected 3"):
        open_engine(trained, "face", "torch")


@pytest.mark.parametrize(
    ("case", "damage", "sentence"),
    [
        ("no weights", None, "is missing"),
        ("an empty file", b"", "cannot be loaded"),
        ("text", b"weights", "cannot be loaded"),
    ],
)
def test_weights_that_cannot_be_read(tmp_path: Path, case: str, damage: bytes | None, sentence: str) -> None:
    model = write_model(tmp_path)
    if damage is not None:
        model.weights.write_bytes(damage)
    with pytest.raises(ModelError, match=rf"weights\.pt {sentence}"):
        open_engine(model, "frame", "torch")


def test_weights_of_another_network(trained: Model, tmp_path: Path) -> None:
    model = write_model(tmp_path)
    model.weights.write_bytes(trained.weights.read_bytes())
    with pytest.raises(ModelError, match=r"weights\.pt cannot be loaded: .*Unexpected key"):
        open_engine(model, "frame", "torch")


def test_no_sdk_is_imported_before_it_is_asked_for() -> None:
    program = (
        "import sys, engines.engine; "
        "print([name for name in ('torch', 'openvino', 'onnxruntime', 'tensorrt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
