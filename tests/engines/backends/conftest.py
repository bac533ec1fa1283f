"""A machine with a GPU, acted out, and engines on it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.spec import EntryName, Model, Precision
from tests.engines.made_models import write_model
from tests.fakes.cuda_double import Gpu
from tests.fakes.nvidia import acted_out
from tests.fakes.tensorrt_double import Machine


@pytest.fixture(scope="session")
def model(exported: Model) -> Model:
    return exported


@pytest.fixture
def gpu() -> Gpu:
    return Gpu()


@pytest.fixture
def machine(
    request: pytest.FixtureRequest, gpu: Gpu, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Machine]:
    """With TensorRT 11, or the version that the test is parametrised with."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with acted_out(Machine(gpu, getattr(request, "param", "11.4.0.106"))) as machine:
        yield machine


@pytest.fixture
def made(tmp_path: Path) -> Model:
    """A model that averages colours."""
    return write_model(tmp_path / "made")


@pytest.fixture
def opened(machine: Machine, made: Model) -> Callable[..., Any]:
    """``opened(precision="auto", model=made, entry="frame", **building)``: a TensorRT engine."""

    def open_it(precision: Precision = "auto", model: Model = made, entry: EntryName = "frame", **options: Any) -> Any:
        from engines.backends.trt import TensorRtEngine
        from engines.backends.trt_build import Batches, Building

        gpu = options.pop("gpu", 0)
        building = Building(batches=Batches(1, 2, 8), **options)
        return TensorRtEngine(model, entry, precision, gpu=gpu, building=building)

    return open_it
