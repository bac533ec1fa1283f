from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from engines.compiling import averaging
from engines.compiling.averaging import average, measure_normalisation, normalised
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
def test_weights_are_between_both(milestone: Checkpoint, share: float) -> None:
    model = load_model("engines/zoo/s")
    mean = average(milestone, model, share)
    stored = torch.load(model.weights, weights_only=True)["model"]
    for name in ("trunk.stem.conv.weight", "trunk.stem.norms.frame.running_mean"):
        wanted = share * milestone.ema[name].float() + (1 - share) * stored[name].float()
        torch.testing.assert_close(mean.ema[name], wanted)
    assert mean.objects == milestone.objects and mean.ema.keys() == milestone.ema.keys()


def test_of_two_runs_the_statistics_are_between_both_too(milestone: Checkpoint) -> None:
    other = replace(milestone, ema={name: value + 1 for name, value in milestone.ema.items()})
    mean = average(milestone, other, 0.75)
    for name, value in milestone.ema.items():
        wanted = value.float() + 0.25 if value.is_floating_point() else value
        torch.testing.assert_close(mean.ema[name], wanted, rtol=0, atol=0.02)  # the file has half precision


def test_only_the_statistics_are_measured_anew(milestone: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for entry, side in (("frame", 64), ("face", 112)):
        made = [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(64)]
        monkeypatch.setattr(averaging, f"{entry}_calibration", lambda *_, made=made: Calibration(made, {}))
    model = load_model("engines/zoo/s")
    whole = average(milestone, model, 1.0)
    measured = normalised(whole, model.spec, Path())
    moved = {name for name in whole.ema if not torch.equal(whole.ema[name], measured.ema[name])}
    assert "trunk.stem.norms.frame.running_mean" in moved
    assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var", "num_batches_tracked"}


def test_networks_of_other_shapes_have_no_mean(milestone: Checkpoint) -> None:
    other = replace(milestone, settings=msgspec.structs.replace(milestone.settings, network=TINY))
    with pytest.raises(DataError, match="its network is not that of the run"):
        average(other, load_model("engines/zoo/s"), 0.5)
    for unlike in (other, replace(milestone, objects=milestone.objects[::-1])):
        with pytest.raises(DataError, match="the networks or the classes of both runs differ"):
            average(milestone, unlike, 0.5)
