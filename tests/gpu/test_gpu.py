"""What only a GPU can show. Skipped with its reason elsewhere; ``tools/gpu_report.sh`` runs it all."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from engines.backends.eager import TorchEngine
from engines.boxes import letterbox
from engines.compiling.quantise import Quantiser
from engines.engine import Backend, Engine, choose_backend, open_engine
from engines.errors import BackendUnavailable, EngineError, ModelError
from engines.planes import Planes, PlanesEngine
from engines.spec import EntryName, Model, Precision, Quantised, QuantisedFile, sha256_of
from pipeline.frames.letterboxing import letterbox_into
from pipeline.frames.picture import Picture
from pipeline.frames.types import Health
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture
from pipeline.sources.hwaccel import check_hardware
from tests.engines.made_models import pictures, write_model, write_spec

pytestmark = pytest.mark.gpu
ENTRIES: tuple[EntryName, ...] = ("frame", "face")
# Scores, scenes, qualities and embeddings; boxes stand in the order of the scores and are compared through parity.
TOLERANCES = {"f32": 1e-3, "bf16": 0.05, "f16": 0.01, "int8": 0.1}


@pytest.fixture(params=["torch", "tensorrt"])
def backend(request: pytest.FixtureRequest) -> Backend:
    name: Backend = request.param
    request.getfixturevalue("cuda" if name == "torch" else "tensorrt")
    return name


def batch_of(model: Model, entry: EntryName, count: int) -> np.ndarray:
    spec = model.spec.entry(entry)
    return pictures(count, spec.height, spec.width)


def close_to_the_cpu(engine: Engine, model: Model, entry: EntryName, batch: np.ndarray, tolerance: float) -> None:
    with TorchEngine(model, entry, "f32") as reference:
        wanted = reference.infer(batch)
    found = engine.infer(batch)
    assert found.keys() == wanted.keys()
    for name in {"object_scores", "face_scores", "scene", "quality", "embedding"}.intersection(wanted):
        np.testing.assert_allclose(found[name], wanted[name], atol=tolerance, err_msg=name)


@pytest.mark.parametrize("precision", ["f32", "f16"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_it_gives_what_the_cpu_gives(tiny: Model, backend: Backend, entry: EntryName, precision: Precision) -> None:
    with open_engine(tiny, entry, backend, precision) as engine:
        for count in (1, 1, 1, 3, 8, 3, 1):  # as it is, captured, from the graph, and in between
            close_to_the_cpu(engine, tiny, entry, batch_of(tiny, entry, count), TOLERANCES[precision])


@pytest.mark.parametrize("entry", ENTRIES)
def test_bf16_is_near_the_cpu(tiny: Model, cuda: None, entry: EntryName) -> None:
    with open_engine(tiny, entry, "torch", "bf16") as engine:
        close_to_the_cpu(engine, tiny, entry, batch_of(tiny, entry, 4), TOLERANCES["bf16"])


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.timeout(600)
def test_the_released_model_gives_what_the_cpu_gives(released: Model, backend: Backend, entry: EntryName) -> None:
    with open_engine(released, entry, backend, "f32") as engine:
        close_to_the_cpu(engine, released, entry, batch_of(released, entry, 8), TOLERANCES["f32"])


@pytest.mark.parametrize("entry", ENTRIES)
def test_int8_runs_the_files_that_were_made_for_tensorrt(
    tiny: Model, tensorrt: Path, tmp_path: Path, entry: EntryName
) -> None:
    batch = batch_of(tiny, entry, 4)
    file = tmp_path / f"{entry}.int8-tensorrt.onnx"
    Quantiser(tiny.file(entry), [batch], "tensorrt").write(file)
    made = Quantised({entry: QuantisedFile(file.name, sha256_of(file), 1, (), {})}, 0.01, ())
    for each in (tiny.spec.entry("frame").file, tiny.spec.entry("face").file):
        (tmp_path / each).write_bytes((tiny.path / each).read_bytes())
    model = Model(tmp_path, msgspec.structs.replace(tiny.spec, int8_tensorrt=made))
    with open_engine(model, entry, "tensorrt", "int8") as engine:
        close_to_the_cpu(engine, tiny, entry, batch, TOLERANCES["int8"])


def test_batches_under_way_do_not_write_over_each_other(tiny: Model, backend: Backend) -> None:
    batches = [batch_of(tiny, "face", count) for count in (1, 2, 3, 4)]
    with open_engine(tiny, "face", backend, "f32") as engine:
        wanted = [engine.infer(batch)["embedding"] for batch in batches]
        for _ in range(20):
            running = [engine.start(batch) for batch in batches]
            for values, each in zip(wanted, running, strict=True):
                np.testing.assert_allclose(each.outputs()["embedding"], values, atol=1e-4)


def decoded(model: Model, size: tuple[int, int], count: int) -> tuple[list[Planes], np.ndarray]:
    """Pictures (height, width) as they were decoded, and the batch that the CPU letterboxes them into."""
    spec, random = model.spec.entry("frame"), np.random.default_rng(1)
    placed, batch = [], np.zeros((count, spec.height, spec.width, 3), np.uint8)
    for at, out in enumerate(batch):
        height, width = size if at % 2 else size[::-1]
        half = (height + 1) // 2, (width + 1) // 2
        coarse = [random.integers(0, 256, (9, 16), np.uint8) for _ in range(3)]
        planes = tuple(
            np.asarray(cv2.resize(plane, shape[::-1]), np.uint8)
            for plane, shape in zip(coarse, ((height, width), half, half), strict=True)
        )
        picture = Picture(planes, width, height, full_range=at % 3 == 0, matrix="bt709")
        box = letterbox((width, height), (spec.width, spec.height))
        placed.append(picture.placed(box))
        letterbox_into(picture, box, out)
    return placed, batch


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (241, 321)])
def test_letterboxing_on_the_gpu_is_like_the_cpus(tiny: Model, cuda: None, size: tuple[int, int]) -> None:
    import torch

    from engines.backends.torch_letterbox import TorchLetterbox

    placed, wanted = decoded(tiny, size, 5)
    found = torch.empty(wanted.shape, dtype=torch.uint8, device="cuda")
    letterboxer = TorchLetterbox(torch.device("cuda"))
    for _ in range(3):
        letterboxer.fill(placed, found)
        difference = np.abs(found.cpu().numpy().astype(int) - wanted)
        assert difference.max() <= 4
        assert difference.mean() < 0.75


def test_decoded_pictures_give_what_letterboxed_ones_do(released: Model, cuda: None, backend: Backend) -> None:
    with open_engine(released, "frame", backend, "f32") as engine:
        assert isinstance(engine, PlanesEngine)
        for count in (1, 4, 4, 4, 8, 1):
            placed, batch = decoded(released, (720, 1280), count)
            wanted, found = engine.infer(batch), engine.start_planes(placed).outputs()
            np.testing.assert_allclose(found["scene"], wanted["scene"], atol=0.05)
            running = [engine.start_planes(placed), engine.start(batch), engine.start_planes(placed)]
            for each, of in zip(running, (found, wanted, found), strict=True):
                np.testing.assert_allclose(each.outputs()["scene"], of["scene"], atol=1e-3)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_what_torch_compile_makes_gives_what_the_cpu_gives(tiny: Model, cuda: None, precision: Precision) -> None:
    with open_engine(tiny, "frame", "torch", precision, torch_compile=True) as engine:
        for count in (1, 1, 3, 3, 8, 1):
            close_to_the_cpu(engine, tiny, "frame", batch_of(tiny, "frame", count), TOLERANCES[precision])


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_nvdec_decodes_what_ffmpeg_decodes(make_clip: Callable[..., Path], tmp_path: Path, matrix: str) -> None:
    try:
        check_hardware("nvdec", 0)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    clip = make_clip(tmp_path / "clip.mp4", frames=40, size=(640, 360), matrix=matrix)
    taken, told = {}, list[Health]()
    for decoder in ("ffmpeg", "nvdec"):
        settings = msgspec.convert({"name": "door", "source": str(clip), "decode": decoder}, StreamSettings)
        taken[decoder] = list(capture(settings, stop=threading.Event(), health=told.append))
    assert [report.state for report in told] == ["up", "ended"] * 2, told
    for one, other in zip(taken["nvdec"], taken["ffmpeg"], strict=True):
        assert one.time_s == pytest.approx(other.time_s)
        assert (one.picture.matrix, one.picture.full_range) == (other.picture.matrix, other.picture.full_range)
        for plane, wanted in zip(one.picture.planes, other.picture.planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)  # H.264 says what a decoder gives, to the bit


def test_threads_wait_for_their_own_batches(tiny: Model, backend: Backend) -> None:
    batches = [batch_of(tiny, "face", count) for count in (1, 2)]
    found: dict[int, Any] = {}
    with open_engine(tiny, "face", backend, "f32") as engine:
        wanted = [engine.infer(batch)["embedding"] for batch in batches]
        running = [engine.start(batch) for batch in batches]

        def wait(at: int) -> None:
            found[at] = running[at].outputs()["embedding"]

        threads = [threading.Thread(target=wait, args=(at,)) for at in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    for at, values in enumerate(wanted):
        np.testing.assert_allclose(found[at], values, atol=1e-4)


def test_memory_is_given_back(tiny: Model, backend: Backend) -> None:
    import torch

    with open_engine(tiny, "face", backend) as engine:
        engine.infer(batch_of(tiny, "face", 1))
    torch.cuda.empty_cache()
    before = torch.cuda.mem_get_info()[0]
    for _ in range(5):
        with open_engine(tiny, "face", backend) as engine:
            for _ in range(3):
                engine.infer(batch_of(tiny, "face", 8))
    torch.cuda.empty_cache()
    assert before - torch.cuda.mem_get_info()[0] < 64 * 2**20


def test_what_was_built_is_loaded_the_next_time(tiny: Model, tensorrt: Path) -> None:
    for _ in range(2):
        open_engine(tiny, "face", "tensorrt").close()
    files = sorted(tensorrt.glob("*.engine"))
    times = [file.stat().st_mtime_ns for file in files]
    open_engine(tiny, "face", "tensorrt").close()
    assert [file.stat().st_mtime_ns for file in sorted(tensorrt.glob("*.engine"))] == times
    assert list(tensorrt.glob("*.timing"))


def test_a_damaged_engine_is_built_again(tiny: Model, tensorrt: Path) -> None:
    open_engine(tiny, "face", "tensorrt").close()
    for file in tensorrt.glob("*.engine"):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    with open_engine(tiny, "face", "tensorrt", "f16") as engine:
        assert len(engine.infer(batch_of(tiny, "face", 1))["quality"]) == 1


def test_tensorrts_own_parser_names_the_node_that_it_refuses(tmp_path: Path, tensorrt: Path) -> None:
    import onnx

    model = write_model(tmp_path)
    network = onnx.load(model.file("frame"))
    for node in network.graph.node:
        node.name = f"{node.op_type}_of_{node.output[0]}"
        if node.op_type == "Sub":
            node.op_type, node.domain = "NoSuchOperator", "nowhere"
    network.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    onnx.save(network, model.file("frame"))
    with pytest.raises(ModelError, match=r"cannot be run by TensorRT: .*Sub_of_embedding"):
        open_engine(write_spec(tmp_path, (32, 48)), "frame", "tensorrt", "f32")


def test_an_engine_is_refused_what_it_was_not_built_for(tiny: Model, tensorrt: Path) -> None:
    with (
        open_engine(tiny, "face", "tensorrt") as engine,
        pytest.raises(EngineError, match="the engine was built for 128 at most"),
    ):
        engine.infer(batch_of(tiny, "face", 129))


def test_a_gpu_that_is_not_there(tiny: Model, backend: Backend) -> None:
    with pytest.raises(BackendUnavailable, match="gpu is 99, but this machine has"):
        open_engine(tiny, "face", backend, gpu=99)


def test_a_process_that_sees_no_gpu_says_so(tiny: Model, tensorrt: Path) -> None:
    program = (
        "from engines.backends.trt import TensorRtEngine; from engines.spec import load_model; import sys; "
        "TensorRtEngine(load_model(sys.argv[1]), 'face')"
    )
    done = subprocess.run(
        ["env", "CUDA_VISIBLE_DEVICES=", sys.executable, "-c", program, str(tiny.path)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert "BackendUnavailable: no GPU can be used: CUDA failed in cudaGetDeviceCount" in done.stderr


def test_auto_takes_the_gpu(backend: Backend) -> None:
    assert choose_backend().backend in ("tensorrt", "torch")
