from pathlib import Path

import pytest

from engines.backends.ort import OnnxRuntimeEngine
from engines.compiling.export import export
from engines.errors import BackendUnavailable
from engines.network.cost import cost
from engines.spec import Model, Thresholds, load_model
from tests.engines.compiling.made_network import FRAME_SIZE, trained
from tools import gpu_roofline
from tools.gpu_roofline import NetworkWork, Peaks, work_of

PEAKS = Peaks({"f32": 1e12, "f16": 4e12}, memory=1e11, upload=1e10)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("export") / "model"
    export(trained(), folder, FRAME_SIZE, Thresholds())
    return load_model(folder)


@pytest.mark.parametrize(
    ("case", "work", "precision", "batch", "most", "bound"),
    [
        ("much arithmetic", NetworkWork(10**9, 10**3, 10**3, 10), "f16", 8, 4e3, "arithmetic"),
        ("it takes four times as long in f32", NetworkWork(10**9, 10**3, 10**3, 10), "f32", 8, 1e3, "arithmetic"),
        ("large activations", NetworkWork(10**3, 10**7, 0, 10), "f16", 8, 5e3, "memory"),
        ("of twice the size in f32", NetworkWork(10**3, 10**7, 0, 10), "f32", 8, 2.5e3, "memory"),
        ("weights for one image", NetworkWork(10**3, 0, 10**7, 10), "f16", 1, 5e3, "memory"),
        ("weights shared by a batch", NetworkWork(10**3, 0, 10**7, 10), "f16", 8, 4e4, "memory"),
        ("large pictures", NetworkWork(10**3, 10, 10, 10**7), "f16", 8, 1e3, "upload"),
    ],
)
def test_the_roof_is_what_is_slowest(
    case: str, work: NetworkWork, precision: str, batch: int, most: float, bound: str
) -> None:
    found, by = work.images_per_s(PEAKS, precision, batch)
    assert (found, by) == (pytest.approx(most), bound), case


@pytest.mark.parametrize("entry", ["frame", "face"])
def test_work_is_that_of_the_network(model: Model, entry: str) -> None:
    work = work_of(model, entry)  # type: ignore[arg-type]
    parts = cost(model.spec.network, len(model.spec.objects), len(model.spec.scenes), FRAME_SIZE).entries[entry]  # type: ignore[index]
    spec = model.spec.entry(entry)  # type: ignore[arg-type]
    assert work.macs == sum(part.macs for part in parts.values())
    assert work.picture == spec.height * spec.width * 3
    assert work.weights < sum(part.parameters for part in parts.values()) < 1.3 * work.weights
    assert work.values > spec.height * spec.width


def test_the_report_has_a_row_for_every_batch_and_for_what_cannot_run(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_made(model: Model, entry: str, backend: str, precision: str) -> OnnxRuntimeEngine:
        if backend == "torch":
            raise BackendUnavailable("no such engine")
        return OnnxRuntimeEngine(model, entry, "f32")  # type: ignore[arg-type]

    for name, value in (("MEASURED_S", 0.001), ("BATCHES", (1, 2)), ("open_engine", open_made)):
        monkeypatch.setattr(gpu_roofline, name, value)
    monkeypatch.setattr(gpu_roofline, "ENGINES", (("tensorrt", "f32"), ("torch", "f32")))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "A GPU")
    head, _, *rows = gpu_roofline._report(model, PEAKS).split("\n\n", 1)[1].splitlines()
    assert head == "A GPU, measured: 2 TFLOP/s in f32, 8 TFLOP/s in f16; memory 100 GB/s, upload 10.0 GB/s."
    cells = [row.split(" | ") for row in rows[2:]]
    assert [row[:4] for row in cells[:3]] == [
        ["| frame", "tensorrt", "f32", "1"],
        ["| frame", "tensorrt", "f32", "2"],
        ["| frame", "torch", "f32", ""],
    ]
    assert [row[4] == "no such engine" or int(row[4]) > 1 for row in cells] == [True] * 6


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="error: no GPU: PyTorch finds none"):
        gpu_roofline.main()
