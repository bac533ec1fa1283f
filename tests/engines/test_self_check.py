"""Saturation made to happen, and what keeps it from a pipeline."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import structlog
from onnx import TensorProto, helper, numpy_helper

from engines import self_check
from engines.compiling.checking import write_sheet
from engines.compiling.simulating import write_simulated
from engines.drift import drift
from engines.engine import open_engine
from engines.errors import EngineError
from engines.hardware import Cpu, cpu, int8_instructions
from engines.self_check import FormFinding, fastest
from engines.spec import (
    CheckPictures,
    EntrySpec,
    Model,
    ModelSpec,
    NetworkSettings,
    Precision,
    Quantised,
    QuantisedFile,
    load_model,
    sha256_of,
    write_spec,
)
from tests.engines.made_models import greatest_weight

CHANNELS = 64
SIDE = 32
SCALE = 1 / 255


def write_scenes(file: Path, weight: int, *, quantised: bool) -> None:
    """Three scenes from a layer of 1x1 convolutions over 64 equal channels whose 8-bit weights are +-``weight``.

    On a white picture every pair of products is 2 x 255 x ``weight``, in the first scene above 0 and in the second
    below.
    """
    signs = np.array([1, -1, 0.25], np.float32)
    weights = np.rint(np.tile(signs[:, None, None, None] * weight, (1, CHANNELS, 1, 1))).astype(np.int8)
    stored = {
        "white": np.array(255, np.float32),
        "spread": np.ones((CHANNELS, 3, 1, 1), np.float32) / 3,
        "weights": weights,
        "step": np.full(3, 1 / (weight * CHANNELS), np.float32),
        "zeros": np.zeros(3, np.int8),
        "scale": np.array(SCALE, np.float32),
        "zero": np.array(0, np.uint8),
        "out_scale": np.array(2 / 255, np.float32),
        "out_zero": np.array(128, np.uint8),
        "kernels": (weights / (weight * CHANNELS)).astype(np.float32),
    }
    conv = ["activations", "dequantised" if quantised else "kernels"]
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "white"], ["light"], "light"),
        helper.make_node("Conv", ["light", "spread"], ["wide"], "spread"),
    ]
    if quantised:
        nodes += [
            helper.make_node("QuantizeLinear", ["wide", "scale", "zero"], ["bytes"], "q"),
            helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["activations"], "dq"),
            helper.make_node("DequantizeLinear", ["weights", "step", "zeros"], ["dequantised"], "dw", axis=0),
            helper.make_node("Conv", conv, ["sums"], "layer"),
            helper.make_node("QuantizeLinear", ["sums", "out_scale", "out_zero"], ["sum_bytes"], "qs"),
            helper.make_node("DequantizeLinear", ["sum_bytes", "out_scale", "out_zero"], ["maps"], "dqs"),
        ]
    else:
        nodes += [
            helper.make_node("Identity", ["wide"], ["activations"], "same"),
            helper.make_node("Conv", conv, ["maps"], "layer"),
        ]
    nodes.append(helper.make_node("ReduceMean", ["maps"], ["scene"], "mean", axes=[2, 3], keepdims=0))
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "scenes",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("scene", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(values, name) for name, values in stored.items() if name in read],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)


def pair_sums(activations: npt.NDArray[np.uint8], weights: npt.NDArray[np.int8]) -> int:
    """A dot product as AVX2's VPMADDUBSW and VPADDW make it: pairs of products are cut to signed 16 bits."""
    products = activations.astype(np.int32) * weights.astype(np.int32)
    pairs = products.reshape(-1, 2).sum(axis=1)
    return int(np.clip(pairs, -(2**15), 2**15 - 1).sum())


def run(file: Path, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": batch})[0], np.float32)


WHITE = np.full((1, SIDE, SIDE, 3), 255, np.uint8)


def made_model(folder: Path, weight: int, *, checked: bool = True) -> Model:
    """A model that knows scenes alone, whose int8 file has weights of this size, with white pictures to check it on."""
    folder.mkdir(parents=True, exist_ok=True)
    write_scenes(folder / "frame.onnx", weight, quantised=False)
    write_scenes(folder / "frame.int8.onnx", weight, quantised=True)
    write_sheet([WHITE[0], np.full_like(WHITE[0], 200)], folder / "frame.check.jpg")
    check = CheckPictures("frame.check.jpg", sha256_of(folder / "frame.check.jpg"), 2, {"scene": 0.01})
    int8 = folder / "frame.int8.onnx"
    file = QuantisedFile(int8.name, sha256_of(int8), 1, (), {"made": 1}, check if checked else None)
    frame = EntrySpec("frame.onnx", sha256_of(folder / "frame.onnx"), SIDE, SIDE, {"scene": (3,)})
    scenes, network = ("street", "room", "field"), NetworkSettings(tasks=("scene",))
    write_spec(
        ModelSpec(1, "made", frame, None, (), scenes, network, int8=Quantised({"frame": file}, 0.01, ())), folder
    )
    return load_model(folder)


def saturating(model: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Make int8 files with 8-bit weights wrong here, by simulation where this processor sums them in 32 bits."""
    from engines.backends import ort

    real, opened = ort.OnnxRuntimeEngine, [0]

    class Counted(real):  # type: ignore[misc,valid-type]
        def __init__(self, model: Model, entry: str, precision: Precision = "auto") -> None:
            super().__init__(model, entry, precision)
            opened[0] += 1

        def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
            found: dict[str, npt.NDArray[np.generic]] = super().infer(batch)
            exact = int8_instructions(cpu()) != "avx2"
            if self.precision == "int8" and exact and greatest_weight(model.file("frame", "int8")) > 64:
                return {"scene": (found["scene"] / 2).astype(np.float32)}
            return found

    monkeypatch.setattr(ort, "OnnxRuntimeEngine", Counted)
    return lambda: opened[0]


def test_pairs_of_8_bit_weights_overflow_and_of_7_bit_weights_cannot() -> None:
    white = np.full(CHANNELS, 255, np.uint8)
    full, seven = (np.full(CHANNELS, weight, np.int8) for weight in (127, 64))
    assert pair_sums(white, full) == CHANNELS // 2 * (2**15 - 1) < CHANNELS * 255 * 127 * 0.51
    assert pair_sums(white, seven) == CHANNELS * 255 * 64
    assert pair_sums(white, -seven) == -CHANNELS * 255 * 64


@pytest.mark.skipif(int8_instructions(cpu()) != "avx2", reason="this processor sums 8-bit products in 32 bits")
def test_this_processor_saturates_8_bit_weights(tmp_path: Path) -> None:
    write_scenes(tmp_path / "full.onnx", 127, quantised=True)
    assert abs(run(tmp_path / "full.onnx", WHITE)[0, 0] - 1.0) > 0.3, "half of the sum is cut away"


@pytest.mark.parametrize("weight", [127, 64])
def test_the_simulation_sums_without_overflow_on_every_processor(tmp_path: Path, weight: int) -> None:
    write_scenes(tmp_path / "int8.onnx", weight, quantised=True)
    write_simulated(tmp_path / "int8.onnx", tmp_path / "simulated.onnx")
    assert greatest_weight(tmp_path / "int8.onnx") == weight
    kinds = {node.op_type for node in onnx.load(tmp_path / "simulated.onnx").graph.node}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
    found = run(tmp_path / "simulated.onnx", WHITE)
    np.testing.assert_allclose(found, [[127 * 2 / 255, -1.0, 0.25]], atol=0.01)


def test_7_bit_weights_give_here_what_the_simulation_gives(tmp_path: Path) -> None:
    write_scenes(tmp_path / "int8.onnx", 64, quantised=True)
    write_simulated(tmp_path / "int8.onnx", tmp_path / "simulated.onnx")
    for batch in (WHITE, np.random.default_rng(0).integers(0, 256, WHITE.shape, np.uint8)):
        exact = run(tmp_path / "simulated.onnx", batch)
        np.testing.assert_allclose(run(tmp_path / "int8.onnx", batch), exact, atol=2 / 255)


def test_int8_that_does_not_hold_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made_model(tmp_path / "model", 127)
    saturating(model, monkeypatch)
    with pytest.raises(EngineError, match=r"int8 of the frame entry is refused.*scene drift 0\.\d+ from f32, allowed"):
        open_engine(model, "frame", "onnxruntime", "int8")
    with structlog.testing.capture_logs() as logs, open_engine(model, "frame", "onnxruntime") as engine:
        assert engine.precision == "f32"
    assert any("int8" in str(line.get("why")) and "does not hold here" in str(line.get("why")) for line in logs)


def test_int8_that_holds_here_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made_model(tmp_path / "model", 64)
    opened = saturating(model, monkeypatch)
    for _ in range(2):
        with open_engine(model, "frame", "onnxruntime", "int8") as engine:
            assert engine.precision == "int8"
    assert opened() == 3 + 1 + 1, "the second start opens what it uses, and nothing else"
    assert [each.suffix for each in (model.path / ".checked").iterdir()] == [".json"]


def test_another_processor_library_or_file_is_checked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made_model(tmp_path / "model", 64)
    opened = saturating(model, monkeypatch)
    changes: list[Callable[[], None]] = [
        lambda: None,
        lambda: monkeypatch.setattr(self_check, "cpu", lambda: Cpu("another", 2, 2, ("AVX2",))),
        lambda: monkeypatch.setattr(self_check, "version", lambda package: "0.0"),
        lambda: next((model.path / ".checked").glob("*.json")).write_bytes(b"damaged"),
    ]
    for number, change in enumerate(changes, 1):
        change()
        before = opened()
        open_engine(model, "frame", "onnxruntime", "int8").close()
        if number < len(changes):
            assert opened() - before == 4, f"change {number}"


def test_a_read_only_model_is_remembered_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made_model(tmp_path / "model", 64)
    (model.path / ".checked").write_bytes(b"no folder can be made here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened = saturating(model, monkeypatch)
    for count in (4, 5):
        open_engine(model, "frame", "onnxruntime", "int8").close()
        assert opened() == count
    assert len(list((tmp_path / "cache/trunkline/checked").glob("*.json"))) == 1


def test_files_without_pictures_run_as_before_and_say_so(tmp_path: Path) -> None:
    model = made_model(tmp_path / "model", 64, checked=False)
    with structlog.testing.capture_logs() as logs, open_engine(model, "frame", "onnxruntime", "int8") as engine:
        assert engine.precision == "int8"
    assert any("was not checked on this processor" in line["event"] for line in logs)
    with open_engine(model, "frame", "onnxruntime") as engine:
        assert engine.precision == "f32"


def test_a_picture_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    model = made_model(tmp_path / "model", 64)
    (model.path / "frame.check.jpg").write_bytes(b"another")
    with pytest.raises(Exception, match=r"frame\.check\.jpg does not match spec\.json"):
        load_model(model.path)


def form(precision: Precision, ms: float, *, holds: bool = True) -> FormFinding:
    return FormFinding(precision=precision, drift={}, holds=holds, picture_ms=ms)


@pytest.mark.parametrize(
    ("case", "forms", "taken"),
    [
        ("int8 is faster", [form("f32", 10), form("int8", 5)], "int8"),
        ("int8 is faster and wrong", [form("f32", 10), form("int8", 5, holds=False)], "f32"),
        ("int8 is hardly faster", [form("f32", 10), form("int8", 9.5)], "f32"),
        ("bf16 is about as fast as int8", [form("f32", 10), form("bf16", 5), form("int8", 4.9)], "bf16"),
        ("bf16 is wrong", [form("f32", 10), form("bf16", 2, holds=False), form("int8", 5)], "int8"),
        ("int8 is slower", [form("f32", 10), form("int8", 20)], "f32"),
    ],
)
def test_auto_takes_the_fastest_that_holds(case: str, forms: list[FormFinding], taken: Precision) -> None:
    assert fastest(forms) == taken, case


def test_drift_is_nothing_for_the_same_and_everything_for_what_is_no_number() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (2, 5, 2)).astype(np.float32)
    same = {
        "object_boxes": np.concatenate([corners, corners + 20], axis=2),
        "object_scores": rng.uniform(0.2, 0.9, (2, 5)).astype(np.float32),
        "object_labels": rng.integers(0, 3, (2, 5)),
        "scene": np.array([[0.2, 0.8], [0.5, 0.5]], np.float32),
    }
    assert drift("frame", ["objects", "scene", "identity"], same, same) == pytest.approx({"objects": 0, "scene": 0})
    order = rng.permutation(5)
    shuffled = {**same, **{name: same[name][:, order] for name in same if name.startswith("object")}}
    assert drift("frame", ["objects"], same, shuffled)["objects"] == pytest.approx(0), "the order of rows is nothing"
    relabelled = {**same, "object_labels": same["object_labels"] + 1}
    assert drift("frame", ["objects"], same, relabelled)["objects"] > 0.5
    broken = {
        name: np.full_like(values, np.nan) if values.dtype.kind == "f" else values for name, values in same.items()
    }
    assert drift("frame", ["objects", "scene"], same, broken) == {"objects": 1.0, "scene": 1.0}


def test_the_gate_says_for_which_processors_it_held(tmp_path: Path) -> None:
    from engines.spec import GateFigure

    figures = (
        GateFigure("scene", "top1", "openvino", 0.5, 0.5, 0.0, "avx2"),
        GateFigure("scene", "top1", "onnxruntime", 0.5, 0.5, 0.0, "vnni", simulated=True),
    )
    int8 = Quantised({}, 0.01, figures)
    spec = msgspec.structs.replace(made_model(tmp_path, 64).spec, int8=int8)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=ModelSpec) == spec
