"""Checkpoint -> released model: export, thresholds from data, parity, figures and the card."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engines.compiling.card import model_card
from engines.compiling.export import Trained, export, write_spec
from engines.compiling.parity import Parity, check_parity
from engines.errors import DataError
from engines.evaluation.data import PICTURE_SUFFIXES, pictures_below
from engines.evaluation.report import Report, calibrate, evaluate_model
from engines.spec import Backend, Model, Thresholds, load_model
from engines.training.checkpoint import load_checkpoint

PARITY_BACKENDS: tuple[Backend, ...] = ("onnxruntime", "openvino")
PARITY_PICTURES = 64  # of each kind


@dataclass(frozen=True, slots=True)
class Released:
    """What came of it."""

    model: Model
    parity: list[Parity]
    report: Report


def release(
    checkpoint: Path,
    data: Path,
    out: Path,
    *,
    frame_size: tuple[int, int],
    name: str | None = None,
    note: str = "",
    told: Callable[[str], None] = lambda text: None,
) -> Released:
    """Make a model folder from a checkpoint; ``out`` is changed only when everything holds.

    Args:
        checkpoint: a training run's ``checkpoint.pt``; its averaged weights are taken.
        data: folder with the validation data, for thresholds, parity and figures.
        out: the model folder.
        frame_size: height and width of the frame entry, multiples of 32.
        name: of the model; by default the training configuration's.
        note: for the card: what else a reader must know of the training.
        told: called with a line at each step.

    Raises:
        DataError: checkpoint or data cannot be used.
        EngineError: a compiled form differs from PyTorch.
    """
    saved = load_checkpoint(checkpoint)
    pictures, faces = _parity_pictures(data)
    trained = Trained(name or saved.settings.name, saved.settings.network, saved.ema, saved.objects, saved.scenes)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        part = Path(folder)
        told("exporting")
        spec = export(trained, part, frame_size, Thresholds())
        told("checking parity")
        parity = check_parity(load_model(part), PARITY_BACKENDS, pictures, faces)
        told("choosing thresholds")
        thresholds = calibrate(load_model(part), data)
        write_spec(msgspec.structs.replace(spec, thresholds=thresholds), part)
        told("measuring")
        model = load_model(part)
        report = evaluate_model(model, data)
        parameters = sum(parameter.numel() for parameter in trained.network().parameters())
        (part / "MODEL_CARD.md").write_text(
            model_card(model, saved.settings, saved.step, parameters, report, parity, note), encoding="utf-8"
        )
        out.mkdir(exist_ok=True)
        for file in sorted(part.iterdir()):
            os.replace(file, out / file.name)
    return Released(load_model(out), parity, report)


def _parity_pictures(data: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    folder = data / "detection/images/val"
    pictures = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        raise DataError(f"{folder}: has no pictures")
    return pictures[:PARITY_PICTURES], pictures_below(data / "face_recognition/val")[:PARITY_PICTURES]
