"""The mean of the weights of two networks, one of which began with the other's, or both with a third's."""

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
from engines.spec import EntryName, Model, ModelSpec
from engines.training.adopting import adopt_model
from engines.training.checkpoint import Checkpoint

FRAMES: Final = 400  # pictures that the normalisations are measured on
FACES: Final = 1024
BATCH: Final[dict[EntryName, int]] = {"frame": 16, "face": 64}


def average(trained: Checkpoint, other: Checkpoint | Model, share: float) -> Checkpoint:
    """Return ``share`` of a run's averaged weights and the rest of those of another run or of a model.

    What a run forgets comes back in part, at the cost of part of what it learnt; see "Robust fine-tuning of zero-shot
    models" (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903). Classes that a model does not know keep the run's
    weights. The statistics of batch normalisation are averaged as well, which serves networks that are near to each
    other; for others see :func:`normalised`.

    Args:
        trained: the run's checkpoint or milestone.
        other: of the same network; one that the run began with, or that began with what the run began with.
        share: in [0, 1].

    Raises:
        DataError: the networks differ, or what two runs call their classes.
    """
    settings, labels = trained.settings.network, (trained.objects, trained.scenes)
    new = {name: value.float() if value.is_floating_point() else value for name, value in trained.ema.items()}
    if isinstance(other, Checkpoint):
        if other.settings.network != settings or (other.objects, other.scenes) != labels:
            raise DataError("the networks or the classes of both runs differ, so they have no mean")
        old = other.ema
    else:
        if msgspec.structs.replace(other.spec.network, tasks=settings.tasks) != settings:
            raise DataError(f"model {other.path}: its network is not that of the run, so they have no mean")
        old = adopt_model(other, new, labels)
    return _with_weights(trained, {name: _mean(new[name], old[name], share) for name in new})


def normalised(checkpoint: Checkpoint, spec: ModelSpec, data: Path) -> Checkpoint:
    """Return a checkpoint whose statistics of batch normalisation are measured anew on training pictures.

    Args:
        checkpoint: of any weights.
        spec: of a model with the sizes of its pictures.
        data: folder with the training data.

    Raises:
        DataError: there are too few pictures.
    """
    network = build_network(checkpoint.settings.network, len(checkpoint.objects), len(checkpoint.scenes))
    network.load_state_dict(checkpoint.ema)
    sets = checkpoint.settings.datasets
    pictures: dict[EntryName, list[Pixels]] = {}
    if spec.frame is not None:
        pictures["frame"] = frame_calibration(data, spec.frame, FRAMES, sets).pictures
    if spec.face is not None:
        pictures["face"] = face_calibration(data, FACES, sets).pictures
    measure_normalisation(network, pictures)
    return _with_weights(checkpoint, {name: value.detach().clone() for name, value in network.state_dict().items()})


def _with_weights(checkpoint: Checkpoint, weights: dict[str, Tensor]) -> Checkpoint:
    return replace(checkpoint, network=weights, ema=weights)


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
