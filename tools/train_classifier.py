"""``trunkline train`` for a plain classifier."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.console import Console

from engines.errors import ConfigError
from engines.files import write_whole
from tools.progress import progress_bar

if TYPE_CHECKING:
    import torch

LOG = "log.csv"


def train_classifier(config: Path, data: Path, out: Path | None, device: "torch.device") -> None:
    """Train from a configuration with ``recipe = "classifier"``; the run is short, and begins anew each time.

    Raises:
        ConfigError: the configuration is wrong, or the folder of the run holds one already.
        DataError: the data cannot be used.
    """
    from engines.study.classifier import (
        CHECKPOINT,
        SCORES,
        ClassifierTrainer,
        Epoch,
        load_classifier_data,
        save_classifier,
    )
    from engines.study.classifier_settings import load_classifier_settings
    from engines.tasks.scene.metrics import score

    settings = load_classifier_settings(config)
    folder = out or Path("runs") / settings.name
    if (folder / CHECKPOINT).exists():
        raise ConfigError(f"--out {folder}: holds a run already; name another folder")
    trainer = ClassifierTrainer(settings, load_classifier_data(settings, data), device)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        progress_bar(Console()) as bar,
        (folder / LOG).open("w", newline="") as file,
    ):
        log = csv.writer(file)
        log.writerow(Epoch.__slots__)
        task = bar.add_task(f"training {settings.name} on {device}, epochs", total=settings.epochs, told="")
        for now in trainer.run():
            log.writerow(getattr(now, name) for name in Epoch.__slots__)
            file.flush()
            bar.update(task, completed=now.number, told=f"loss {now.loss:.3f} validation {now.validation_top1:.3f}")
    scores = score(trainer.evidence())
    write_whole(folder / SCORES, msgspec.json.format(msgspec.json.encode(scores), indent=2) + b"\n")
    save_classifier(trainer, folder / CHECKPOINT)
    right = sum(row[index] for index, row in enumerate(scores.confusion))
    typer.echo(f"validation accuracy {scores.top1:.3f}, {right} of {scores.pictures} pictures: {folder / SCORES}")
