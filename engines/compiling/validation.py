"""The scores of a run that is still training: exported, and measured like a released model."""

import tempfile
from pathlib import Path

from engines.compiling.export import Trained, export
from engines.evaluation.report import EvaluationReport, evaluate_model, headlines
from engines.evaluation.truth import Truth, configured_truth
from engines.spec import Thresholds, load_model
from engines.training.checkpoint import Checkpoint
from engines.training.settings import ValidationSettings


def validation_scores(checkpoint: Checkpoint, data: Path, settings: ValidationSettings) -> dict[str, float]:
    """The headline score of each task, in [0, 1], of a checkpoint's averaged weights.

    Raises:
        DataError: the validation data cannot be used.
    """
    truth = configured_truth(checkpoint.settings, data, checkpoint.settings.network.tasks, settings.limit)
    report = evaluate_checkpoint(checkpoint, truth, settings.frame_size)
    return {line.task: value for line, value in headlines(report).items() if not line.lower_is_better}


def evaluate_checkpoint(checkpoint: Checkpoint, truth: Truth, frame_size: int) -> EvaluationReport:
    """The report of a checkpoint's averaged weights, exported with a square frame entry of so many pixels.

    Its thresholds are those that every model begins with, so that nothing is chosen on the truth.

    Raises:
        DataError: the data cannot be used.
    """
    with tempfile.TemporaryDirectory() as folder:
        export(Trained.of(checkpoint), Path(folder), (frame_size, frame_size), Thresholds())
        return evaluate_model(load_model(folder), truth)
