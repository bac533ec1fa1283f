"""The mean of the weights of two networks, of which one began with the other's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from engines.arrays import Pixels
from engines.compiling.calibrating import face_calibration, frame_calibration
from engines.errors import DataError
from engines.network.network import Network, build_network
from engines.spec import EntryName, Model
from engines.training.adopting import adopt_model
from engines.training.checkpoint import Checkpoint

FRAMES: Final = 400  # pictures that the normalisations are measured on
FACES: Final = 1024
BATCH: Final[dict[EntryName, int]] = {"frame": 16, "face": 64}


def average(trained: Checkpoint, began_with: Model, share: float, data: Path) -> Checkpoint:
    """Return ``share`` of a run's averaged weights and the rest of those of the model that it began with.

    What a run forgets comes back in part, at the cost of part of what it learnt; see "Robust fine-tuning of zero-shot
    models" (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903). Classes that the model does not know keep the
    run's weights. The statistics of batch normalisation do not average: they are measured anew on training pictures.

    Args:
        trained: the run's checkpoint or milestone.
        began_with: a model of the same network.
        share: in [0, 1].
        data: folder with the training data.

    Raises:
        DataError: the networks differ, or there are too few pictures.
    """
    settings = trained.settings.network
    if msgspec.structs.replace(began_with.spec.network, tasks=settings.tasks) != settings:
        raise DataError(f"model {began_with.path}: its network is not that of the run, so they have no mean")
    new = {name: value.float() if value.is_floating_point() else value for name, value in trained.ema.items()}
    old = adopt_model(began_with, new, (trained.objects, trained.scenes))
    network = build_network(settings, len(trained.objects), len(trained.scenes))
    network.load_state_dict({name: _mean(new[name], old[name], share) for name in new})
    sets, spec = trained.settings.datasets, began_with.spec
    pictures: dict[EntryName, list[Pixels]] = {}
    if spec.frame is not None:
        pictures["frame"] = frame_calibration(data, spec.frame, FRAMES, sets).pictures
    if spec.face is not None:
        pictures["face"] = face_calibration(data, FACES, sets).pictures
    measure_normalisation(network, pictures)
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return replace(trained, network=state, ema=state)


def measure_normalisation(network: Network, pictures: Mapping[EntryName, Sequence[Pixels]]) -> None:
    """Measure the statistics of batch normalisation anew: the mean over batches, in the order of a fixed shuffle.

    Args:
        network: is left in evaluation mode.
        pictures: uint8 RGB (H, W, 3) each, all of an entry of one size.

    Raises:
        DataError: an entry has fewer pictures than a batch.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
    with torch.no_grad():
        for entry, given in pictures.items():
            size = BATCH[entry]
            if len(given) < size:
                raise DataError(f"{len(given)} pictures of the {entry} entry: a mean needs {size} at least")
            order = np.random.default_rng(0).permutation(len(given))
            for first in range(0, len(order) - size + 1, size):
                batch = np.stack([given[each] for each in order[first : first + size]])
                getattr(network, entry)(torch.from_numpy(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _mean(new: Tensor, old: Tensor, share: float) -> Tensor:
    return share * new + (1 - share) * old if new.is_floating_point() else new
