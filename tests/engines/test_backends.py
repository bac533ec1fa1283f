import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from engines.backends import ort, ov
from engines.backends.untold_openvino import openvino
from engines.engine import Backend, Engine, Precision, Running, open_engine
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


@pytest.fixture(scope="module", params=COMPILED)
def shared(request: pytest.FixtureRequest, model: Model) -> Iterator[Engine]:
    """For tests that leave no batch under way and do not close it."""
    with open_engine(model, "frame", request.param, "f32") as engine:
        yield engine


@pytest.fixture(params=COMPILED)
def engine(request: pytest.FixtureRequest, model: Model) -> Engine:
    return open_engine(model, "frame", request.param, "f32")


@pytest.mark.parametrize("count", [1, 3, 8, 2, 5, 9])
def test_a_compiled_engine_computes_what_the_graph_says_for_any_batch(shared: Engine, count: int) -> None:
    batch = pictures(count, 32, 48)
    outputs = shared.infer(batch)
    wanted = expected(batch)
    assert outputs.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(outputs[name], values, atol=1e-5)


def test_results_stay_when_the_engine_runs_again(shared: Engine) -> None:
    dark = shared.infer(np.zeros((2, 32, 48, 3), np.uint8))
    shared.infer(np.full((2, 32, 48, 3), 255, np.uint8))
    assert dark["quality"].tolist() == [0.0, 0.0]


def test_pictures_need_not_lie_together_in_memory(shared: Engine) -> None:
    wide = pictures(4, 32, 96)
    view = wide[::2, :, ::-2]
    np.testing.assert_allclose(shared.infer(view)["scene"], expected(view)["scene"], atol=1e-5)


def test_a_batch_that_does_not_fit_is_refused(shared: Engine) -> None:
    with pytest.raises(EngineError, match="batch must have shape"):
        shared.infer(pictures(1, 48, 32))
    with pytest.raises(EngineError, match="batch must be uint8"):
        shared.infer(np.zeros((1, 32, 48, 3), np.float32))  # type: ignore[arg-type]


def test_pictures_that_may_not_be_written_are_read_all_the_same(shared: Engine) -> None:
    batch = pictures(2, 32, 48)
    batch.flags.writeable = False
    np.testing.assert_allclose(shared.infer(batch)["scene"], expected(batch)["scene"], atol=1e-5)


def levels(engine: Engine) -> list[npt.NDArray[np.uint8]]:
    """More batches than the engine has use for at once, of sizes 1 to 9, each of one grey."""
    counts = [1, 4, 2, 9, 3, 8, 1, 5] * engine.depth
    return [np.full((count, 32, 48, 3), 3 * index % 255, np.uint8) for index, count in enumerate(counts)]


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
def test_batches_that_overlap_keep_apart(shared: Engine, backwards: bool) -> None:
    batches = levels(shared)
    under_way = [(batch, shared.start(batch)) for batch in batches]
    done = [(batch, running.outputs()) for batch, running in (reversed(under_way) if backwards else under_way)]
    for batch, outputs in done:  # only now, so that an output that shares memory with a later one shows
        for name, values in expected(batch).items():
            np.testing.assert_allclose(outputs[name], values, atol=1e-5)


def test_batches_may_be_started_and_waited_for_in_two_threads(shared: Engine) -> None:
    batches, started = levels(shared) * 8, SimpleQueue[Running]()

    def start() -> None:
        for batch in batches:
            started.put(shared.start(batch))

    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(start)
        for batch in batches:
            outputs = started.get(timeout=60).outputs()
            np.testing.assert_allclose(outputs["scene"], expected(batch)["scene"], atol=1e-5)
        starting.result()


def test_starting_and_waiting_gives_what_infer_gives(shared: Engine) -> None:
    batch = pictures(7, 32, 48)
    waited, inferred = shared.start(batch).outputs(), shared.infer(batch)
    assert waited.keys() == inferred.keys()
    for name, values in inferred.items():
        np.testing.assert_array_equal(waited[name], values, err_msg=name)
        assert waited[name].dtype == values.dtype


def test_outputs_are_taken_once(engine: Engine) -> None:
    running = engine.start(pictures(2, 32, 48))
    running.outputs()
    with pytest.raises(EngineError, match="taken already"):
        running.outputs()


def test_a_batch_under_way_is_finished_though_the_engine_is_closed(engine: Engine) -> None:
    batch = pictures(6, 32, 48)
    running = engine.start(batch)
    engine.close()
    np.testing.assert_allclose(running.outputs()["scene"], expected(batch)["scene"], atol=1e-5)
    with pytest.raises(EngineError, match="closed"):
        engine.start(batch)


def test_batches_that_nobody_waits_for_are_in_nobodys_way(engine: Engine) -> None:
    for batch in levels(engine):
        engine.start(batch)
    batch = pictures(3, 32, 48)
    np.testing.assert_allclose(engine.infer(batch)["scene"], expected(batch)["scene"], atol=1e-5)


def test_a_batch_lives_until_nothing_reads_it(engine: Engine) -> None:
    batch = pictures(8, 32, 48)
    wanted = engine.infer(batch.copy())
    running = engine.start(batch)
    shape = batch.shape
    del batch
    written_over = [np.full(shape, 255, np.uint8) for _ in range(16)]  # the memory that was given up, if it was
    found = running.outputs()
    del written_over
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_openvino_reads_the_pictures_where_they_lie(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[npt.NDArray[np.uint8]] = []

    def tensor(pictures: npt.NDArray[np.uint8], shared_memory: bool) -> object:
        read.append(pictures)
        return made(pictures, shared_memory=shared_memory)

    made = openvino.Tensor
    monkeypatch.setattr(ov, "usable_cores", lambda: 1)
    with open_engine(model, "frame", "openvino", "f32") as engine:
        monkeypatch.setattr(openvino, "Tensor", tensor)
        batch = pictures(6, 32, 48)
        engine.infer(batch)
    assert [len(part) for part in read] == [4, 2]
    assert all(np.shares_memory(part, batch) for part in read)


@pytest.mark.parametrize(
    ("pictures_in", "idle_cores", "requests"),
    [
        pytest.param(3, 3, [1, 1, 1], id="a core for each: soonest"),
        pytest.param(3, 2, [2, 1], id="not for each: least work"),
        pytest.param(3, 0, [2, 1], id="decoding keeps all cores busy"),
        pytest.param(7, 4, [4, 2, 1], id="a large batch"),
        pytest.param(8, 4, [4, 4], id="no more than that gains anything"),
    ],
)
def test_openvino_cuts_a_batch_by_the_cores_that_are_idle(
    model: Model, pictures_in: int, idle_cores: int, requests: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []
    add = ov.OpenVinoRun.add

    def counted(run: ov.OpenVinoRun, graph: object, part: npt.NDArray[np.uint8]) -> None:
        cut.append(len(part))
        add(run, graph, part)  # type: ignore[arg-type]

    monkeypatch.setattr(ov.CpuLoad, "idle_cores", lambda self, now_ns: idle_cores)
    with open_engine(model, "frame", "openvino", "f32") as engine:
        monkeypatch.setattr(engine, "_streams", 4)  # as on a machine with so many cores
        monkeypatch.setattr(ov.OpenVinoRun, "add", counted)
        batch = pictures(pictures_in, 32, 48)
        outputs = engine.infer(batch)
    assert cut == requests
    np.testing.assert_allclose(outputs["scene"], expected(batch)["scene"], atol=1e-5)


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize(("cores", "depth"), [(1, 2), (2, 2)])
def test_batches_under_way_follow_the_cores(
    model: Model, backend: Backend, cores: int, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ov, ort):
        monkeypatch.setattr(module, "usable_cores", lambda: cores)
    with open_engine(model, "frame", backend) as engine:
        assert engine.depth == depth


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that computes the same, but fails while it runs where every picture of a request is white."""
    folder = tmp_path_factory.mktemp("fragile")
    write_model(folder)
    frame = onnx.load(folder / "frame.onnx")
    (mean,) = [node for node in frame.graph.node if node.output == ["scene"]]
    mean.output[0] = "mean"
    frame.graph.node.extend(
        [
            helper.make_node("ReduceMin", ["pixels"], ["least"], keepdims=0),
            helper.make_node("Cast", ["least"], ["wider"], to=TensorProto.INT64),
            helper.make_node("Add", ["wider", "row"], ["shape"]),
            helper.make_node("Reshape", ["mean", "shape"], ["scene"]),  # no row is 258 wide
        ]
    )
    # Behind what it needs: the nodes of a graph are in order.
    last = next(node for node in frame.graph.node if node.output == ["embedding"])
    frame.graph.node.remove(last)
    frame.graph.node.append(last)
    frame.graph.initializer.append(helper.make_tensor("row", TensorProto.INT64, [2], [-1, 3]))
    onnx.save(frame, folder / "frame.onnx")
    return write_spec(folder, (32, 48))


class FragileSlot(ov._Slot):
    """A request that fails while it runs where a picture is white.

    With the model above, OpenVINO does not always tell: a shape that could not be had once confuses its later runs.
    """

    def __init__(self, graph: ov._Graph) -> None:
        super().__init__(graph)
        self.running = FragileRequest(self.running)


class FragileRequest:
    def __init__(self, request: Any) -> None:
        self._request = request
        self._white = False

    def set_input_tensor(self, tensor: Any) -> None:
        self._white = tensor.data.min() == 255
        self._request.set_input_tensor(tensor)

    def wait(self) -> None:
        self._request.wait()
        if self._white:
            raise RuntimeError("a white picture")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


@pytest.mark.parametrize("backend", COMPILED)
def test_a_run_that_fails_costs_its_own_batch_alone(
    model: Model, fragile: Model, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ov, "_Slot", FragileSlot)
    black, white = np.zeros((6, 32, 48, 3), np.uint8), np.full((6, 32, 48, 3), 255, np.uint8)
    with open_engine(model if backend == "openvino" else fragile, "frame", backend, "f32") as engine:
        for _ in range(3):
            under_way = [engine.start(batch) for batch in (black, white, black, white)]
            assert not under_way[0].outputs()["scene"].any()
            with pytest.raises(EngineError, match=r"frame\.onnx failed in "):
                under_way[1].outputs()
            assert not under_way[2].outputs()["scene"].any()
            with pytest.raises(EngineError, match=r"frame\.onnx failed in "):
                under_way[3].outputs()


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
        (model.path / model.spec.weights).write_bytes(damage)
    with pytest.raises(ModelError, match=rf"weights\.pt {sentence}"):
        open_engine(model, "frame", "torch")


def test_weights_of_another_network(trained: Model, tmp_path: Path) -> None:
    model = write_model(tmp_path)
    (model.path / model.spec.weights).write_bytes(trained.weights.read_bytes())
    with pytest.raises(ModelError, match=r"weights\.pt cannot be loaded: .*Unexpected key"):
        open_engine(model, "frame", "torch")


def test_no_sdk_is_imported_before_it_is_asked_for() -> None:
    program = (
        "import sys, engines.engine; "
        "print([name for name in ('torch', 'openvino', 'onnxruntime', 'tensorrt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
