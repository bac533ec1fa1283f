"""A real GPU, or a reason to skip."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engines.backends.trt_cache import cache_folder
from engines.compiling.export import export
from engines.engine import require_backend
from engines.errors import BackendUnavailable
from engines.hardware import nvidia_gpus
from engines.spec import Model, Thresholds, load_model
from tests.engines.compiling.made_network import trained

FRAME_SIZE = (64, 96)  # height, width
ZOO = Path(__file__).resolve().parents[2] / "engines" / "zoo" / "n"


@pytest.fixture(scope="session")
def cuda() -> None:
    """PyTorch runs on a GPU."""
    if not torch.cuda.is_available():
        why = "this PyTorch finds no GPU" if nvidia_gpus() else "this machine has no NVIDIA GPU"
        pytest.skip(f"needs PyTorch on a GPU: {why}")


@pytest.fixture(scope="session")
def tensorrt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """TensorRT runs on a GPU; the folder of its engines, which starts empty."""
    try:
        require_backend("tensorrt")
    except BackendUnavailable as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cache_folder()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small network that finds something in any picture."""
    folder = tmp_path_factory.mktemp("export") / "model"
    export(trained(), folder, FRAME_SIZE, Thresholds())
    return load_model(folder)


@pytest.fixture(scope="session")
def released() -> Model:
    """The released model."""
    if not (ZOO / "spec.json").is_file():
        pytest.skip("the released model is not in this checkout")
    return load_model(ZOO)
