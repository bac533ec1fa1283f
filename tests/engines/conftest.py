"""For all tests with a network."""

from collections.abc import Iterator

import pytest
import torch

from engines.compiling.export import Trained, export
from engines.spec import Model, Thresholds, load_model
from tests.engines.compiling.made_network import FRAME_SIZE, trained


@pytest.fixture(scope="session", autouse=True)  # so that fixtures of modules that train have it, too
def _one_thread() -> Iterator[None]:
    """Networks this small lose more to waiting for threads than they win."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def single_requests() -> Iterator[None]:
    """OpenVINO compiles a network for requests of one picture alone, a third of its work.

    For modules that judge a model and not how batches are cut, which tests/engines/test_backends.py does.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engines.backends.ov.SIZES", (1,))
        yield


@pytest.fixture(scope="session")
def network() -> Trained:
    return trained()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, network: Trained) -> Model:
    """The tiny network with all usual tasks as a model folder, exported once; no test changes it."""
    folder = tmp_path_factory.mktemp("export") / "model"
    export(network, folder, FRAME_SIZE, Thresholds(object_score=0.4))
    return load_model(folder)
