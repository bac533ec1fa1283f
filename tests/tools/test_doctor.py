import importlib
import types
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog
import typer
from typer.testing import CliRunner

from engines.errors import BackendUnavailable
from engines.hardware import Gpu, nvidia_on_bus
from tests.engines.made_models import write_model, write_partial_model
from tests.fakes.cuda_double import Gpu as FakeGpu
from tests.fakes.nvidia import acted_out
from tests.fakes.tensorrt_double import Machine
from tools import doctor as doctor_module
from tools.doctor import DoctorReport, doctor

app = typer.Typer()
app.command()(doctor)
runner = CliRunner()


@pytest.fixture(autouse=True)
def _logs_beside_stdout() -> Iterator[None]:
    """The command line sends logs to stderr; without it they would stand before the JSON."""
    with structlog.testing.capture_logs():
        yield


def report(*arguments: str) -> tuple[int, DoctorReport]:
    result = runner.invoke(app, ["--json", *arguments])
    return result.exit_code, msgspec.json.decode(result.stdout, type=DoctorReport)


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> types.ModuleType:
        if name in packages:
            raise ImportError(f"No module named {name!r}")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_with_a_good_model_a_pipeline_can_run(tmp_path: Path) -> None:
    write_model(tmp_path)
    status, found = report("--model", str(tmp_path))
    assert status == 0
    assert found.ok
    assert found.problems == ()
    assert found.choice is not None
    assert found.choice.backend == "openvino"
    assert "frame 48x32 runs in" in found.model.detail
    assert "face 16x16 runs in" in found.model.detail
    assert {library.name for library in found.libraries} == {"PyAV", "OpenCV"}
    assert found.libraries[0].detail.startswith("FFmpeg ")
    assert found.memory_bytes > 2**20


def test_without_a_model_it_cannot_and_the_exit_status_says_so(tmp_path: Path) -> None:
    status, found = report("--model", str(tmp_path / "nowhere"))
    assert status == 1
    assert not found.ok
    assert not found.model.ok
    assert "spec.json" in found.problems[0]


def test_a_damaged_model_is_a_problem(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    model.file("face").write_bytes(b"damaged")
    status, found = report("--model", str(tmp_path))
    assert status == 1
    assert "face.onnx does not match spec.json" in found.problems[0]


def test_a_model_without_a_frame_entry_is_a_problem(tmp_path: Path) -> None:
    write_partial_model(tmp_path, "identity")
    status, found = report("--model", str(tmp_path))
    assert status == 1
    assert found.problems == ("model 'made' has no frame entry: it knows identity alone",)


def test_a_model_without_a_face_entry_is_none(tmp_path: Path) -> None:
    write_partial_model(tmp_path, "scene")
    status, found = report("--model", str(tmp_path))
    assert status == 0
    assert "frame 48x32 runs in" in found.model.detail
    assert "face" not in found.model.detail


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path)
    hide(monkeypatch, "av")
    status, found = report("--model", str(tmp_path))
    assert status == 1
    assert "install it with: pip install av" in found.problems[0]
    assert found.libraries[0].version is None


def test_without_any_backend_there_is_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    hide(monkeypatch, "openvino", "onnxruntime")
    status, found = report("--model", str(tmp_path))
    assert status == 1
    assert found.choice is None
    assert "no backend can run on this machine" in found.problems[0]


def test_a_slower_backend_comes_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    hide(monkeypatch, "openvino")
    status, found = report("--model", str(tmp_path))
    assert status == 0
    assert found.choice is not None
    assert found.choice.backend == "onnxruntime"
    assert "install it with: pip install openvino" in found.advice[0]


def test_a_gpu_that_is_not_used_is_mentioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    gpu = Gpu("NVIDIA L4", 23034, "580.1")
    monkeypatch.setattr(doctor_module, "nvidia_gpus", lambda: (gpu,))
    monkeypatch.setattr("engines.hardware.nvidia_gpus", lambda: (gpu,))
    status, found = report("--model", str(tmp_path))
    assert status == 0
    assert found.gpus == (gpu,)
    assert "TensorRT would be fastest on the NVIDIA L4" in found.advice[0]


def test_the_table_says_it_to_a_person(tmp_path: Path) -> None:
    write_model(tmp_path)
    result = runner.invoke(app, ["--model", str(tmp_path)])
    assert result.exit_code == 0
    for word in ("Python", "CPU", "openvino", "auto takes", "A pipeline can run."):
        assert word in result.stdout


def test_the_table_of_a_machine_that_cannot_run_says_why(tmp_path: Path) -> None:
    result = runner.invoke(app, ["--model", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert "A pipeline cannot run: model" in result.stdout


def test_cuda_and_its_versions_are_shown_beside_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    monkeypatch.setattr(doctor_module, "nvidia_gpus", lambda: (Gpu("NVIDIA L4", 23034, "580.1"),))
    monkeypatch.setattr(doctor_module, "_cuda", lambda: doctor_module.Cuda("13.0", "13.5", None))
    rows = dict(doctor_module._rows(doctor_module.examine(tmp_path)))
    assert rows["CUDA"] == "driver 13.0, cuda-bindings 13.5, PyTorch none"


def test_what_decodes_videos_is_shown_beside_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    monkeypatch.setattr(doctor_module, "nvidia_gpus", lambda: (Gpu("NVIDIA L4", 23034, "580.1"),))
    monkeypatch.setattr(doctor_module, "check_hardware", lambda decode, gpu: None)
    assert dict(doctor_module._rows(doctor_module.examine(tmp_path)))["NVDEC"] == "decodes videos on GPU 0"

    def refuse(decode: str, gpu: int) -> None:
        raise BackendUnavailable(f"{decode} finds no GPU {gpu}")

    monkeypatch.setattr(doctor_module, "check_hardware", refuse)
    missing = dict(doctor_module._rows(doctor_module.examine(tmp_path)))["NVDEC"]
    assert missing == "cannot be used: nvdec finds no GPU 0"


def test_without_a_gpu_there_are_no_cuda_versions_to_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    monkeypatch.setattr(doctor_module, "nvidia_gpus", tuple)
    assert "CUDA" not in dict(doctor_module._rows(doctor_module.examine(tmp_path)))


def test_versions_come_from_the_libraries_themselves() -> None:
    with acted_out(Machine(FakeGpu())):
        found = doctor_module._cuda()
    assert (found.driver, found.runtime) == ("13.0", "13.5")
    with acted_out(Machine(FakeGpu(driver=False))):
        assert doctor_module._cuda().driver is None


@pytest.mark.parametrize(
    ("case", "vendor", "kind", "said"),
    [
        ("a GPU", "0x10de", "0x030200", True),
        ("its sound device", "0x10de", "0x040300", False),
        ("another maker's", "0x1002", "0x030000", False),
    ],
)
def test_a_gpu_that_no_driver_runs_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, vendor: str, kind: str, said: bool
) -> None:
    device = tmp_path / "bus" / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")
    monkeypatch.setattr(doctor_module, "nvidia_gpus", tuple)
    monkeypatch.setattr(doctor_module, "nvidia_on_bus", lambda: nvidia_on_bus(tmp_path / "bus"))
    write_model(tmp_path / "model")
    _, found = report("--model", str(tmp_path / "model"))
    assert any("a GPU that no driver runs" in advice.replace("an NVIDIA", "a") for advice in found.advice) == said, case
