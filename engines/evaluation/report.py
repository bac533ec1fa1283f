"""All tasks of a model, scored through its exported entries."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from rich.console import Console
from rich.progress import Progress

from engines.data.reading import SkippedRows
from engines.engine import Backend, Precision, open_engine
from engines.evaluation.bootstrap import Bootstrap
from engines.evaluation.calibration import Calibrated, best_temperature, calibrate_identity, calibrate_thresholds
from engines.evaluation.faces import FaceScores, gather_faces, score_faces
from engines.evaluation.identity import IdentityScores, gather_identity, score_identity
from engines.evaluation.objects import ObjectScores, gather_objects, score_objects
from engines.evaluation.plots import draw_faces, draw_identity, draw_objects, draw_scene
from engines.evaluation.runner import ModelRunner
from engines.evaluation.scene import SceneScores, gather_scene, score_scene
from engines.evaluation.truth import Truth, standard_truth
from engines.spec import Model, Task, Thresholds


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was scored, and the scores of the tasks that were asked for."""

    model: str
    fingerprint: str
    backend: str
    precision: str
    device: str
    data: str
    limit: int | None  # pictures, or pairs, of each set that were looked at; None: all
    thresholds: Thresholds  # the model's own
    bootstrap: Bootstrap = Bootstrap()  # how the intervals were made
    objects: ObjectScores | UnsetType = UNSET
    faces: FaceScores | UnsetType = UNSET
    scene: SceneScores | UnsetType = UNSET
    identity: IdentityScores | UnsetType = UNSET
    seconds: float


Evidence = TypeVar("Evidence")
Scores = TypeVar("Scores")


@dataclass(frozen=True, slots=True)
class Headline:
    """A figure that stands for a task: an attribute of the task's scores in a :class:`Report`."""

    task: Task
    figure: str
    lower_is_better: bool = False

    def loss(self, before: float, after: float) -> float:
        """How much worse it became, as a share of what it was; below 0 where it is better."""
        worse = after - before if self.lower_is_better else before - after
        return worse / abs(before) if before else float(worse > 0)

    @property
    def worst(self) -> float:
        """What stands for a figure of a model that finds nothing."""
        return math.inf if self.lower_is_better else 0.0


HEADLINES = (
    Headline("objects", "ap50"),
    Headline("faces", "ap50"),
    Headline("faces", "nme", lower_is_better=True),
    Headline("scene", "top1"),
    Headline("identity", "accuracy"),
)


def headlines(report: EvaluationReport) -> dict[Headline, float]:
    """The headline figures that a report has."""
    found = {}
    for each in HEADLINES:
        scores = getattr(report, each.task)
        value = None if scores is UNSET else getattr(scores, each.figure)
        if value is not None:
            found[each] = float(value)
    return found


def evaluate_model(
    model: Model,
    data: Path | Truth,
    *,
    backend: Literal["auto"] | Backend = "auto",
    precision: Precision = "f32",
    tasks: Sequence[Task] | None = None,
    limit: int | None = None,
    plots: Path | None = None,
) -> EvaluationReport:
    """Score an exported model on ``data`` through the pipeline's own letterbox, decode and NMS.

    Shows its progress on stderr.

    Args:
        model: from :func:`engines.spec.load_model`.
        data: folder with the validation data of the standard layout, or what is to be found in other data.
        backend: what runs the model.
        precision: its arithmetic.
        tasks: what to score; each by itself. None: all that the model has and the data tells.
        limit: of a folder, look at this many pictures or pairs of each set only.
        plots: an existing folder for curves and sheets of the worst pictures, as PNG; None draws nothing.

    Raises:
        DataError: the data is missing, too broken, or has labels that the model does not know.
        ModelError: a task was asked for that the model does not have.
        BackendUnavailable: the backend was asked for by name and cannot run here.
    """
    started = time.monotonic()
    known = model.spec.network.tasks
    if tasks is not None:
        model.require(tasks, "evaluation")
    truth = data if isinstance(data, Truth) else standard_truth(data, tasks or known, limit)
    scored = truth.scored(known, tasks)
    with open_runner(model, backend, precision) as runner:
        engine = runner.frame or runner.face  # both run on the same backend
        assert engine is not None
        given = runner, truth, plots
        return EvaluationReport(
            model=model.spec.name,
            fingerprint=model.fingerprint,
            backend=engine.backend,
            precision=engine.precision,
            device=engine.device,
            data=truth.name,
            limit=truth.limit,
            thresholds=model.spec.thresholds,
            objects=_scored(gather_objects, score_objects, draw_objects, *given) if "objects" in scored else UNSET,
            faces=_scored(gather_faces, score_faces, draw_faces, *given) if "faces" in scored else UNSET,
            scene=_scored(gather_scene, score_scene, draw_scene, *given) if "scene" in scored else UNSET,
            identity=_scored(gather_identity, score_identity, draw_identity, *given) if "identity" in scored else UNSET,
            seconds=round(time.monotonic() - started, 1),
        )


def _scored(
    gather: Callable[[ModelRunner, Truth], Evidence],
    score: Callable[[Evidence], Scores],
    draw: Callable[[Evidence, Scores, Path], None],
    runner: ModelRunner,
    truth: Truth,
    plots: Path | None,
) -> Scores:
    """The three steps of a task: what the model finds, what that is worth, and pictures of it."""
    evidence = gather(runner, truth)
    scores = score(evidence)
    if plots is not None:
        draw(evidence, scores, plots)
    return scores


def calibrate(model: Model, data: Path | Truth, *, backend: Literal["auto"] | Backend = "auto") -> Calibrated:
    """Choose the model's thresholds on ``data``, with an f32 engine (see :func:`calibrate_thresholds`).

    ``data`` is as in :func:`evaluate_model`.

    Raises:
        DataError: the data is missing or too broken, or the model finds nothing in it.
        BackendUnavailable: the backend was asked for by name and cannot run here.
    """
    truth = data if isinstance(data, Truth) else standard_truth(data, model.spec.network.tasks)
    with open_runner(model, backend, "f32") as runner:
        return calibrate_thresholds(runner, truth)


def scene_temperature(model: Model, truth: Truth) -> float:
    """The temperature of the model's scene logits that fits ``truth`` best, with an f32 engine.

    See :func:`engines.evaluation.calibration.best_temperature`.

    Raises:
        DataError: too many pictures cannot be read, or one shows a scene that the model does not know.
        BackendUnavailable: no f32 engine runs here.
    """
    with open_runner(model, "auto", "f32") as runner:
        evidence = gather_scene(runner, truth)
    return best_temperature(evidence.probabilities, evidence.target)


def calibrate_people(model: Model, data: Path | Truth, far: float | None, people: int) -> Calibrated:
    """Choose the identity threshold alone, on the people of ``data`` (see :func:`calibrate_identity`).

    Raises:
        DataError: the data is missing or too broken, or has too few people.
    """
    truth = data if isinstance(data, Truth) else standard_truth(data, ["identity"])
    truth.scored(["identity"], ["identity"])
    assert truth.identity is not None
    with open_runner(model, "auto", "f32") as runner:
        return calibrate_identity(runner, truth.identity, model.spec.thresholds, SkippedRows(), far, people)


@contextmanager
def open_runner(model: Model, backend: Literal["auto"] | Backend, precision: Precision) -> Iterator[ModelRunner]:
    """The entries of a model, open, with a progress bar on stderr."""
    with ExitStack() as opened:
        engines = {
            entry: opened.enter_context(open_engine(model, entry, backend, precision))
            for entry in model.spec.network.entries
        }
        progress = opened.enter_context(Progress(console=Console(stderr=True), transient=True))
        yield ModelRunner(model, engines.get("frame"), engines.get("face"), progress)
