"""Checkpoint -> released model: export, thresholds from data, parity, figures and the card."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engines.compiling.card import model_card
from engines.compiling.export import Trained, export
from engines.compiling.parity import Parity, check_parity
from engines.data.reading import spread
from engines.errors import DataError
from engines.evaluation.report import (
    EvaluationReport,
    calibrate,
    evaluate_model,
    further_truths,
    none_logit_of,
    of_scenes,
    place_scenes,
    temperature_of,
    thing_shift_of,
)
from engines.evaluation.truth import Truth, configured_truth
from engines.spec import Backend, Model, NetworkSettings, Thresholds, load_model, write_spec
from engines.tasks import REGISTRY
from engines.training.checkpoint import load_checkpoint

PARITY_BACKENDS: tuple[Backend, ...] = ("onnxruntime", "openvino")
PARITY_PICTURES = 64  # of each kind
NO_PLACE_PICTURES = 200
FURTHER_PICTURES = 2000  # of each further set, for the card: an interval of two hundredths


@dataclass(frozen=True, slots=True)
class Released:
    """What came of it."""

    model: Model
    parity: list[Parity]
    report: EvaluationReport


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
        data: folder with the validation data, for thresholds, parity and figures: that of the validation sets of the
            run's configuration, or of the standard layout where it names none.
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
    truth = configured_truth(saved.settings, data, saved.settings.network.tasks)
    truth.scored(saved.settings.network.tasks)  # first: data that cannot be used is refused at once
    pictures, faces = parity_pictures(truth, saved.settings.network)
    trained = Trained.of(saved, name)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        part = Path(folder)
        told("exporting")
        spec = export(trained, part, frame_size, Thresholds())
        for task in [each for each in REGISTRY if each.softmax_layer and each.name in trained.settings.tasks]:
            if task.name in truth.tasks:
                told(f"calibrating the {task.name}'s probabilities")
                trained = trained.at_temperature(task, temperature_of(load_model(part), task.name, truth))
                spec = export(trained, part, frame_size, Thresholds())
        further = further_truths(load_model(part), data, trained.settings.tasks, FURTHER_PICTURES)
        truths, inside = (truth, *further.values()), place_scenes(spec)
        outside = set(spec.scenes) - inside
        places, things = of_scenes(inside, truths), of_scenes(outside, truths)
        if places and things:
            told("weighing places against other scenes")
            trained = trained.lowered(outside, thing_shift_of(load_model(part), places, things))
            spec = export(trained, part, frame_size, Thresholds())
        unknown = _without_place(truth)
        if places and unknown:
            told("choosing when a picture shows none of the places")
            spec = export(trained.with_none(0.0), part, frame_size, Thresholds())
            trained = trained.with_none(none_logit_of(load_model(part), places, unknown))
            spec = export(trained, part, frame_size, Thresholds())
        told("checking parity")
        parity = check_parity(load_model(part), PARITY_BACKENDS, pictures, faces)
        told("choosing thresholds")
        chosen = calibrate(load_model(part), truth)
        spec = msgspec.structs.replace(spec, thresholds=chosen.thresholds, identity_calibration=chosen.identity)
        write_spec(spec, part)
        told("measuring")
        model = load_model(part)
        report = evaluate_model(model, truth, sets=further)
        card = model_card(model, saved, report, parity, note)
        (part / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        _replace(part, out)
    return Released(load_model(out), parity, report)


def _without_place(truth: Truth) -> list[Path]:
    """Pictures that a face fills, and so show no place."""
    pictures = [] if truth.landmarks is None else list(truth.landmarks.pictures.values())
    return spread(pictures, NO_PLACE_PICTURES)


def _replace(part: Path, out: Path) -> None:
    """Move a model's files into the folder ``out``; of an older model there, no ONNX file is left."""
    out.mkdir(exist_ok=True)
    names = {file.name for file in part.iterdir()}
    for name in sorted(names):
        os.replace(part / name, out / name)
    for file in out.glob("*.onnx"):
        if file.name not in names:
            file.unlink()


def parity_pictures(truth: Truth, network: NetworkSettings) -> tuple[Sequence[Path], Sequence[Path]]:
    """Validation pictures for the frame entry and for the face entry, as far as the network has them.

    Raises:
        DataError: there are none for an entry.
    """
    frames = truth.frames if "frame" in network.entries else []
    faces = truth.crops if "face" in network.entries else []
    for entry, found in (("frame", frames), ("face", faces)):
        if entry in network.entries and not found:
            raise DataError(f"{truth.name}: has no validation pictures for the {entry} entry")
    return spread(frames, PARITY_PICTURES), faces[:PARITY_PICTURES]
