"""torch.compile up to the kernels, which Dynamo alone is asked for: to compile them takes minutes on a busy machine."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from engines.backends.eager import TorchEngine
from engines.backends.torch_compile import SIZES
from engines.engine import open_engine
from engines.errors import BackendUnavailable
from engines.spec import EntryName, Model
from tests.engines.made_models import pictures


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs run as they were traced."""
    torch._dynamo.reset()
    counters.clear()
    real: Callable[..., Any] = torch.compile
    monkeypatch.setattr(torch, "compile", partial(real, backend="eager"))


@pytest.mark.parametrize("entry", ["frame", "face"])
def test_batches_of_any_size_run_on_what_was_made_at_the_start(model: Model, traced: None, entry: EntryName) -> None:
    spec = model.spec.entry(entry)
    with TorchEngine(model, entry) as plain, TorchEngine(model, entry, torch_compile=True) as compiled:
        made = counters["stats"]["unique_graphs"]
        for count in (3, 1, 2, 5, 8):
            batch = pictures(count, spec.height, spec.width)
            wanted = plain.infer(batch)
            for name, values in compiled.infer(batch).items():
                np.testing.assert_allclose(values, wanted[name], rtol=1e-4, atol=1e-4, err_msg=f"{name} of {count}")
    assert made == counters["stats"]["unique_graphs"] == len(SIZES)
    assert not counters["graph_break"]


def test_where_nothing_can_be_compiled_the_engine_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(network: object) -> Callable[..., object]:
        def run(images: torch.Tensor) -> object:
            raise RuntimeError("No working C++ compiler found in:\n ('g++',)")

        return run

    monkeypatch.setattr(torch, "compile", no_compiler)
    sentence = (
        r"torch_compile is true, but torch.compile fails here: .*No working C\+\+ compiler found in: \('g\+\+',\)"
    )
    with pytest.raises(BackendUnavailable, match=sentence):
        open_engine(model, "face", "torch", torch_compile=True)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_other_backends_are_not_compiled_by_it(model: Model, backend: Any) -> None:
    with pytest.raises(BackendUnavailable, match=f"torch_compile is true, but the backend is '{backend}': it must be"):
        open_engine(model, "face", backend, torch_compile=True)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "auto"])
def test_a_gpu_for_what_runs_on_the_cpu(
    model: Model, backend: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("engines.hardware.nvidia_gpus", tuple)
    with pytest.raises(BackendUnavailable, match=r"gpu is 1, but backend '\w+' runs on the CPU"):
        open_engine(model, "face", backend, gpu=1)


def test_a_gpu_for_a_pytorch_that_finds_none(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="gpu is 0, but this PyTorch finds none"):
        open_engine(model, "face", "torch", gpu=0)
