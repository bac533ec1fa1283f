"""All tasks of a model, scored through its exported entries."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType
from rich.console import Console
from rich.progress import Progress

from engines.engine import Backend, Precision, open_engine
from engines.errors import DataError
from engines.evaluation.calibration import FALSE_ACCEPT_RATE, calibrate_thresholds
from engines.evaluation.data import Task
from engines.evaluation.faces import FaceScores, score_faces
from engines.evaluation.identity import IdentityScores, score_identity
from engines.evaluation.objects import ObjectScores, score_objects
from engines.evaluation.runner import Runner
from engines.evaluation.scene import SceneScores, score_scene
from engines.spec import Model, Thresholds


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was scored, and the scores of the tasks that were asked for."""

    model: str
    fingerprint: str
    backend: str
    precision: str
    device: str
    data: str
    limit: int | None  # pictures, or pairs, of each set that were looked at; None: all
    thresholds: Thresholds  # the model's own
    objects: ObjectScores | UnsetType = UNSET
    faces: FaceScores | UnsetType = UNSET
    scene: SceneScores | UnsetType = UNSET
    identity: IdentityScores | UnsetType = UNSET
    seconds: float


def evaluate_model(
    model: Model,
    data: Path,
    *,
    backend: Literal["auto"] | Backend = "auto",
    precision: Precision = "f32",
    tasks: Sequence[Task] = tuple(Task),
    limit: int | None = None,
) -> Report:
    """Score an exported model on ``data`` through the pipeline's own letterbox, decode and NMS.

    Shows its progress on stderr.

    Raises:
        DataError: the data is missing, too broken, or has labels that the model does not know.
        BackendUnavailable: the backend was asked for by name and cannot run here.
    """
    started = time.monotonic()
    with open_runner(model, data, backend, precision) as runner:
        return Report(
            model=model.spec.name,
            fingerprint=model.fingerprint,
            backend=runner.frame.backend,
            precision=runner.frame.precision,
            device=runner.frame.device,
            data=str(data),
            limit=limit,
            thresholds=model.spec.thresholds,
            objects=score_objects(runner, data, limit) if Task.OBJECTS in tasks else UNSET,
            faces=score_faces(runner, data, limit) if Task.FACES in tasks else UNSET,
            scene=score_scene(runner, data, limit) if Task.SCENE in tasks else UNSET,
            identity=score_identity(runner, data, limit) if Task.IDENTITY in tasks else UNSET,
            seconds=round(time.monotonic() - started, 1),
        )


def calibrate(
    model: Model, data: Path, *, backend: Literal["auto"] | Backend = "auto", far: float = FALSE_ACCEPT_RATE
) -> Thresholds:
    """Choose the model's thresholds on ``data``, with an f32 engine (see :func:`calibrate_thresholds`).

    Raises:
        DataError: the data is missing or too broken, or the model finds nothing in it.
        BackendUnavailable: the backend was asked for by name and cannot run here.
    """
    with open_runner(model, data, backend, "f32") as runner:
        return calibrate_thresholds(runner, data, far)


@contextmanager
def open_runner(model: Model, data: Path, backend: Literal["auto"] | Backend, precision: Precision) -> Iterator[Runner]:
    """Both entries of a model, open, with a progress bar on stderr."""
    if not data.is_dir():
        raise DataError(f"data {data}: is not a folder")
    with (
        open_engine(model, "frame", backend, precision) as frame,
        open_engine(model, "face", backend, precision) as face,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        yield Runner(model, frame, face, progress)
