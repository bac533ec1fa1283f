import importlib
import importlib.metadata
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from engines.engine import Backend, available, choose_backend, open_engine
from engines.errors import BackendUnavailable, ModelError
from engines.hardware import Gpu, cpu, memory_bytes, nvidia_gpus, usable_cores
from engines.spec import load_model
from tests.engines.made_models import OUTPUTS, pictures, write_model


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make packages fail to import, as on a machine that lacks them."""

    def hide(*packages: str) -> None:
        real = importlib.import_module

        def import_module(name: str, package: str | None = None) -> types.ModuleType:
            if name in packages:
                raise ImportError(f"No module named {name!r}")
            return real(name, package)

        monkeypatch.setattr(importlib, "import_module", import_module)

    return hide


def test_auto_takes_openvino_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.hardware.nvidia_gpus", tuple)
    choice = choose_backend()
    assert choice.backend == "openvino"
    assert choice.reason.startswith("not tensorrt: this machine has no NVIDIA GPU")
    assert "openvino 20" in choice.reason, "the version is named"


def test_auto_says_why_a_gpu_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.hardware.nvidia_gpus", lambda: (Gpu("NVIDIA L4", 23034, "580.1"),))
    choice = choose_backend()
    assert choice.backend == "openvino"
    assert choice.warning is not None and choice.warning.startswith("the GPU (NVIDIA L4) is not used: not tensorrt: ")
    assert "install it with: pip install 'trunkline[tensorrt]'" in choice.warning
    assert "not torch: this PyTorch finds no GPU" in choice.warning


def test_a_gpu_that_is_not_used_is_said_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.hardware.nvidia_gpus", lambda: (Gpu("NVIDIA L4", 23034, "580.1"),))
    with structlog.testing.capture_logs() as logs, open_engine(write_model(tmp_path), "frame"):
        pass
    assert [line["log_level"] for line in logs] == ["warning", "info"]
    assert "the GPU (NVIDIA L4) is not used" in logs[0]["event"]


def test_auto_takes_pytorch_on_a_gpu_without_tensorrt(
    monkeypatch: pytest.MonkeyPatch, without: Callable[..., None]
) -> None:
    monkeypatch.setattr("engines.hardware.nvidia_gpus", lambda: (Gpu("NVIDIA L4", 23034, "580.1"),))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    without("tensorrt")
    choice = choose_backend()
    assert (choice.backend, choice.warning) == ("torch", None)
    assert choice.reason.startswith("not tensorrt: the package tensorrt cannot be imported")


def test_auto_takes_onnx_runtime_where_openvino_is_missing(without: Callable[..., None]) -> None:
    without("openvino")
    choice = choose_backend()
    assert choice.backend == "onnxruntime"
    assert "not openvino: the package openvino cannot be imported" in choice.reason


def test_auto_never_takes_the_reference_and_says_what_is_missing(without: Callable[..., None]) -> None:
    without("openvino", "onnxruntime")
    with pytest.raises(BackendUnavailable, match=r"no backend can run .* pip install openvino.* pip install onnxrunt"):
        choose_backend()


@pytest.mark.parametrize(
    ("backend", "command"),
    [
        ("openvino", "pip install openvino"),
        ("onnxruntime", "pip install onnxruntime"),
        ("torch", r"pip install 'trunkline\[train\]'"),
    ],
)
def test_a_named_backend_that_is_missing_is_an_error_never_another_backend(
    tmp_path: Path, without: Callable[..., None], backend: Backend, command: str
) -> None:
    without(backend)
    with pytest.raises(BackendUnavailable, match=f"backend '{backend}' cannot run: .*install it with: {command}"):
        open_engine(write_model(tmp_path), "frame", backend)


def test_tensorrt_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.hardware.nvidia_gpus", tuple)
    with pytest.raises(BackendUnavailable, match=r"backend 'tensorrt' cannot run: this machine has no NVIDIA GPU"):
        open_engine(write_model(tmp_path), "frame", "tensorrt")


def test_every_backend_is_listed_with_its_state(without: Callable[..., None]) -> None:
    without("onnxruntime")
    states = {status.name: status for status in available()}
    assert states.keys() == {"onnxruntime", "openvino", "tensorrt", "torch"}
    assert (states["openvino"].available, states["onnxruntime"].available) == (True, False)
    assert states["openvino"].version == importlib.metadata.version("openvino")


def test_opening_says_what_was_opened_and_why(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs, open_engine(write_model(tmp_path), "frame") as engine:
        assert engine.infer(pictures(1, 32, 48)).keys() == OUTPUTS.keys()
    [line] = logs
    assert (line["event"], line["entry"], line["backend"]) == ("engine opened", "frame", engine.backend)
    assert line["why"] == choose_backend().reason


def test_an_engine_that_does_not_match_its_spec_is_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.backends.ort import OnnxRuntimeEngine

    closed: list[object] = []
    monkeypatch.setattr(OnnxRuntimeEngine, "close", lambda self: closed.append(self))
    with pytest.raises(ModelError):
        open_engine(write_model(tmp_path, {**OUTPUTS, "other": (1,)}), "frame", "onnxruntime")
    assert len(closed) == 1


def test_the_processor_is_read_from_what_linux_says(tmp_path: Path) -> None:
    text = (
        "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx2 avx512f amx_bf16\n\nprocessor\t: 1\nflags\t: bf16\n"
    )
    (tmp_path / "cpuinfo").write_text(text)
    found = cpu(tmp_path / "cpuinfo")
    assert (found.name, found.instructions) == ("A CPU", ("AVX2", "AVX-512", "AMX-BF16"))
    assert 1 <= found.usable_cores == usable_cores() <= found.cores


def test_a_system_without_cpuinfo_still_has_a_processor(tmp_path: Path) -> None:
    found = cpu(tmp_path / "nothing")
    assert found.name
    assert found.instructions == ()
    assert memory_bytes() > 2**20


@pytest.mark.parametrize(
    ("case", "script", "gpus"),
    [
        (
            "two GPUs, one that does not tell its memory",
            "printf 'NVIDIA L4, 23034, 580.1\\nNVIDIA GB10, [N/A], 580.1\\n'",
            (Gpu("NVIDIA L4", 23034, "580.1"), Gpu("NVIDIA GB10", 0, "580.1")),
        ),
        ("a driver that does not run", "echo 'NVIDIA-SMI has failed'; exit 9", ()),
        ("a sentence where rows were expected", "echo 'No devices were found'", ()),
    ],
)
def test_gpus_are_those_that_nvidia_smi_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, script: str, gpus: tuple[Gpu, ...]
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert nvidia_gpus() == gpus, case


def test_no_nvidia_smi_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_gpus() == ()


def test_a_model_that_was_read_can_be_opened_more_than_once(tmp_path: Path) -> None:
    write_model(tmp_path)
    model = load_model(tmp_path)
    with open_engine(model, "frame") as first, open_engine(model, "face") as second:
        assert len(first.infer(pictures(2, 32, 48))["quality"]) == 2
        assert len(second.infer(pictures(3, 16, 16))["quality"]) == 3
