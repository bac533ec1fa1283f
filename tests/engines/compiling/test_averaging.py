from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from engines.compiling import averaging
from engines.compiling.averaging import average, measure_normalisation
from engines.compiling.calibrating import Calibration
from engines.errors import DataError
from engines.network.network import build_network
from engines.spec import load_model
from engines.training.checkpoint import Checkpoint, load_checkpoint
from tests.engines.training.made_data import TINY


def test_normalisation_is_that_of_the_pictures() -> None:
    torch.manual_seed(0)
    network = build_network(TINY, 3, 2)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(averaging.BATCH["frame"])]
    batch = torch.from_numpy(np.stack(pictures))
    stem = network.trunk.stem.norms["frame"]
    momentum = stem.momentum
    measure_normalisation(network, {"frame": pictures})
    assert not network.training and stem.momentum == momentum
    assert stem.num_batches_tracked == 1 and network.trunk.stem.norms["face"].num_batches_tracked == 0
    seen: list[torch.Tensor] = []
    network.trunk.stem.conv.register_forward_hook(lambda *told: seen.append(told[2]))
    with torch.no_grad():
        network.frame(batch)
    torch.testing.assert_close(stem.running_mean, seen[0].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stem.running_var, seen[0].var((0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 pictures of the frame entry: a mean needs 16 at least"):
        measure_normalisation(build_network(TINY, 3, 2), {"frame": [np.zeros((32, 32, 3), np.uint8)]})


@pytest.fixture(scope="module")
def milestone() -> Checkpoint:
    return load_checkpoint(Path("engines/zoo/s/milestone.pt"))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_are_between_both(milestone: Checkpoint, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("engines/zoo/s")
    for entry in ("frame", "face"):
        monkeypatch.setattr(averaging, f"{entry}_calibration", lambda *_: Calibration([], {}))
    monkeypatch.setattr(averaging, "measure_normalisation", lambda *_: None)
    mean = average(milestone, model, share, Path())
    name = "trunk.stem.conv.weight"
    old = torch.load(model.weights, weights_only=True)["model"][name].float()
    torch.testing.assert_close(mean.ema[name], share * milestone.ema[name].float() + (1 - share) * old)
    assert mean.objects == milestone.objects and mean.ema.keys() == milestone.ema.keys()


def test_networks_of_other_shapes_have_no_mean(milestone: Checkpoint) -> None:
    other = replace(milestone, settings=msgspec.structs.replace(milestone.settings, network=TINY))
    with pytest.raises(DataError, match="its network is not that of the run"):
        average(other, load_model("engines/zoo/s"), 0.5, Path())
