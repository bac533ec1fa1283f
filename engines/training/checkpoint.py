"""Checkpoints: everything a run needs to go on, in one file written atomically."""

import io
import pickle
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from engines.errors import DataError
from engines.files import replacing
from engines.training.settings import TrainingSettings
from engines.undecodable import UNDECODABLE

DENSE = "dense"  # among the criteria: what a detector's maps were read with, which no other run begins with

# What a file that is no checkpoint, or half of one, makes torch and msgspec raise.
DAMAGED = (
    EOFError,
    OSError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    *UNDECODABLE,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A run between two steps."""

    settings: TrainingSettings
    objects: tuple[str, ...]
    scenes: tuple[str, ...]
    step: int
    network: dict[str, Tensor]
    ema: dict[str, Tensor]
    criteria: dict[str, Tensor]
    optimiser: dict[str, Any]
    balance: dict[str, Any]
    random: Tensor
    credit: Tensor
    queues: list[Tensor]
    means: dict[str, float]
    seconds: float  # that the run has taken
    best: tuple[float, int]  # best validation score, and validations since
    began: int = 0  # the step at which the learning rate began to rise


def milestone(checkpoint: Checkpoint) -> Checkpoint:
    """Return what another run can begin with (``--init``): half precision, without what this run alone goes on from.

    About an eighth of the checkpoint, small enough to be kept with a project's sources. The averaged weights and what
    the losses have learnt stay; optimiser, order of pictures and the weights themselves do not.
    """
    return replace(
        checkpoint,
        network={},
        ema=_halved(checkpoint.ema),
        criteria=_halved({name: v for name, v in checkpoint.criteria.items() if not name.startswith(f"{DENSE}.")}),
        optimiser={},
        queues=[queue.new_empty(0) for queue in checkpoint.queues],
    )


def _halved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}


def save_checkpoint(checkpoint: Checkpoint, file: Path, previous: Path | None = None) -> None:
    """Write a checkpoint; the old one stays whole until the new one is, and then as the file ``previous`` if named."""
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    fields["settings"] = msgspec.json.encode(checkpoint.settings)
    with replacing(file) as new:
        torch.save(fields, new)
        if previous is not None and file.is_file():
            with file.open("rb") as last, replacing(previous) as kept:
                shutil.copyfileobj(last, kept)  # not moved: at no time may there be no checkpoint


def load_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        DataError: the file is missing or not a checkpoint.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"checkpoint {file}: cannot be read: {error.strerror}") from error
    try:
        fields = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        fields["settings"] = msgspec.json.decode(fields["settings"], type=TrainingSettings)
        return Checkpoint(**_renamed(fields))
    except DAMAGED as error:
        raise DataError(f"checkpoint {file}: is damaged or no checkpoint of a training run") from error


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """The same where a run of earlier versions wrote it, which kept the identities' centres alone."""
    centres = fields.pop("cosface", None)
    if centres is not None:
        known = "identity" in fields["settings"].network.tasks
        fields["criteria"] = {f"identity.cosface.{name}": value for name, value in centres.items() if known}
    return fields
