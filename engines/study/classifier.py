"""Training a plain classifier: whole pictures, resized to a square whatever their shape, and one label each."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.data.reading import SkippedRows
from engines.data.sources import Folders, labelled_pictures
from engines.errors import DataError
from engines.network.plain import PlainNetwork
from engines.pictures import read_rgb, resize
from engines.study.classifier_settings import ClassifierSettings
from engines.tasks.scene.metrics import SceneEvidence
from engines.training.augmentation import Augmenter
from engines.training.datasets import PictureSet

CHECKPOINT, SCORES = "checkpoint.pt", "scores.json"
LOOK = 250  # pictures of one forward pass where nothing is learnt


@dataclass(frozen=True, slots=True)
class ClassifierData:
    """Both splits in memory, labelled by place in ``labels``."""

    train: PictureSet
    validation: PictureSet
    labels: tuple[str, ...]  # sorted


@dataclass(frozen=True, slots=True)
class Epoch:
    """Where a run is: after ``number`` epochs."""

    number: int
    seconds: float  # of training so far, without the validations
    cpu_seconds: float  # the same, as the processor counts them, of all threads together
    loss: float  # mean over the epoch
    train_top1: float  # of the varied pictures while they were learnt: says what is memorised, is no result
    validation_top1: float


def load_classifier_data(settings: ClassifierSettings, data: Path) -> ClassifierData:
    """Read both splits of a configuration into memory.

    Raises:
        DataError: a folder is missing or has no pictures, too many pictures are broken, or the validation split has
            a label that training has not.
    """
    if not data.is_dir():
        raise DataError(f"--data {data}: no such folder")
    train, names = _load("training", settings.train, data, settings.canvas)
    validation, asked = _load("validation", settings.validation, data, settings.network.size)
    labels = tuple(sorted(set(names)))
    for name in asked:
        if name not in labels:
            raise DataError(f"validation set: has pictures of {name!r}, which training has not: {', '.join(labels)}")
    return ClassifierData(_labelled(train, names, labels), _labelled(validation, asked, labels), labels)


def _load(name: str, source: Folders, data: Path, side: int) -> tuple[PictureSet, list[str]]:
    """Every picture of a split at ``side`` pixels, and its label's name."""
    found = list(labelled_pictures(source, data))
    skipped = SkippedRows()
    kept, names, pictures = [], [], []
    for label, file in found:
        try:
            pictures.append(resize(read_rgb(file), (side, side)))
        except DataError as error:
            skipped.add(f"{name} set, pictures", len(found), str(error))
        else:
            names.append(label)
            kept.append(file)
    if not kept:
        raise DataError(f"{name} set: there are no pictures in {', '.join(source.folders)}")
    return PictureSet(
        name,
        "scene",
        torch.from_numpy(np.stack(pictures)),
        torch.full((len(kept), 2), float(side)),
        files=tuple(kept),
        broken=tuple(skipped.rows),
    ), names


def _labelled(pictures: PictureSet, names: list[str], labels: tuple[str, ...]) -> PictureSet:
    numbers = {label: number for number, label in enumerate(labels)}
    return replace(pictures, labels=torch.tensor([numbers[name] for name in names]), classes=len(labels))


class ClassifierTrainer:
    """A plain network that learns; two of the same settings and data go the same way on the same machine."""

    def __init__(self, settings: ClassifierSettings, data: ClassifierData, device: torch.device) -> None:
        torch.manual_seed(settings.seed)  # the first weights, and dropout
        self.settings = settings
        self.data = ClassifierData(data.train.to(device), data.validation.to(device), data.labels)
        self.device = device
        self.network = PlainNetwork(settings.network, len(data.labels)).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._generator = torch.Generator().manual_seed(settings.seed)  # order and augmentation
        vary = settings.augmentation
        self._augmenter = None if vary is None else Augmenter(vary, self._generator)

    def run(self) -> Iterator[Epoch]:
        """Train, an epoch at a time."""
        seconds = cpu_seconds = 0.0
        for number in range(1, self.settings.epochs + 1):
            started, busy = time.monotonic(), time.process_time()
            loss, train_top1 = self._epoch()
            seconds += time.monotonic() - started
            cpu_seconds += time.process_time() - busy
            yield Epoch(number, seconds, cpu_seconds, loss, train_top1, float(self.evidence().hit.mean()))

    def evidence(self) -> SceneEvidence:
        """What the network says of the validation pictures."""
        pictures = self.data.validation
        assert pictures.labels is not None
        self.network.eval()
        with torch.inference_mode():
            rows = [self._logits(part).softmax(1) for part in torch.split(pictures.pictures, LOOK)]
        return SceneEvidence(
            list(pictures.files),
            torch.cat(rows).cpu().numpy(),
            pictures.labels.cpu().numpy(),
            self.data.labels,
            list(pictures.broken),
        )

    def _epoch(self) -> tuple[float, float]:
        """Mean loss and accuracy of one pass over the training pictures, in a new order."""
        train = self.data.train
        assert train.labels is not None
        self.network.train()
        losses, hits = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        order = torch.randperm(len(train), generator=self._generator)
        for rows in torch.split(order.to(self.device), self.settings.batch):
            labels = train.labels[rows]
            logits = self._logits(self._pictures(rows))
            loss = F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            losses += loss.detach() * len(rows)
            hits += (logits.argmax(1) == labels).sum()
        return float(losses) / len(train), float(hits) / len(train)

    def _pictures(self, rows: Tensor) -> Tensor:
        if self._augmenter is None:
            return self.data.train.pictures[rows]
        return self._augmenter(self.data.train, rows, (self.settings.network.size,) * 2).pictures

    def _logits(self, pictures: Tensor) -> Tensor:
        enabled = self.settings.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            return self.network(pictures).float()  # type: ignore[no-any-return]


def save_classifier(trainer: ClassifierTrainer, file: Path) -> None:
    """Write the network, its settings and its labels; a file that is there stays whole until the new one is."""
    part = file.with_suffix(".part")
    fields = {
        "settings": msgspec.json.encode(trainer.settings),
        "labels": trainer.data.labels,
        "network": trainer.network.state_dict(),
    }
    torch.save(fields, part)
    os.replace(part, file)
