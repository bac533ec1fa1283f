"""All tasks of a model, scored through its exported entries."""

import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from rich.console import Console
from rich.progress import Progress

from engines.arrays import Float
from engines.data.reading import SkippedRows
from engines.engine import Backend, Precision, open_engine
from engines.evaluation.bootstrap import Bootstrap
from engines.evaluation.calibration import TINY, best_cut, best_none_logit, best_temperature, calibrate_thresholds
from engines.evaluation.parts import Calibrated, Evidence, Scores, metrics_part, render_part
from engines.evaluation.runner import ModelRunner
from engines.evaluation.sets import sets_in
from engines.evaluation.truth import Truth, labelled_truth, standard_truth
from engines.scenes import grouped
from engines.spec import NONE_OF_THESE, USUAL_TASKS, Model, ModelSpec, TaskName, Thresholds
from engines.tasks import REGISTRY, task
from engines.tasks.faces.metrics import FaceScores
from engines.tasks.identity.metrics import IdentityScores
from engines.tasks.identity.thresholds import calibrate_identity
from engines.tasks.objects.metrics import ObjectScores
from engines.tasks.scene.metrics import SceneScores


class ScoredTasks(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of the tasks that were asked for, on one set of data."""

    objects: ObjectScores | UnsetType = UNSET
    faces: FaceScores | UnsetType = UNSET
    scene: SceneScores | UnsetType = UNSET
    identity: IdentityScores | UnsetType = UNSET
    others: dict[TaskName, Any] | UnsetType = UNSET  # the scores of tasks that have no field of their own

    def of(self, name: TaskName) -> Scores | None:
        """The scores of a task; None where it was not scored."""
        if name in USUAL_TASKS:
            found = getattr(self, name)
            return None if found is UNSET else found
        return None if self.others is UNSET else self.others.get(name)


class EvaluationReport(ScoredTasks, frozen=True, kw_only=True):
    """What was scored, the scores, and those on further sets of the data."""

    model: str
    fingerprint: str
    backend: str
    precision: str
    device: str
    data: str
    limit: int | None  # pictures, or pairs, of each set that were looked at; None: all
    thresholds: Thresholds  # the model's own
    bootstrap: Bootstrap = Bootstrap()  # how the intervals were made
    sets: dict[str, ScoredTasks] = {}  # by name, see engines.evaluation.sets
    seconds: float


@dataclass(frozen=True, slots=True)
class Headline:
    """A figure that stands for a task: an attribute of the task's scores in a :class:`Report`."""

    task: TaskName
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


HEADLINES = tuple(
    Headline(each.name, figure.name, figure.lower_is_better) for each in REGISTRY for figure in each.headlines
)


def headlines(report: EvaluationReport) -> dict[Headline, float]:
    """The headline figures that a report has."""
    found = {}
    for each in HEADLINES:
        scores = report.of(each.task)
        value = None if scores is None else getattr(scores, each.figure)
        if value is not None:
            found[each] = float(value)
    return found


def evaluate_model(
    model: Model,
    data: Path | Truth,
    *,
    backend: Literal["auto"] | Backend = "auto",
    precision: Precision = "f32",
    tasks: Sequence[TaskName] | None = None,
    limit: int | None = None,
    plots: Path | None = None,
    sets: Mapping[str, Truth] = {},
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
        sets: what else to score the model on, each by itself, see :func:`further_truths`.

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
        found = _fields({name: _scored(name, runner, truth, plots) for name in scored})
        further = {
            name: ScoredTasks(**_fields({each: _scored(each, runner, other, None) for each in other.scored(known)}))
            for name, other in sets.items()
        }
        return EvaluationReport(
            model=model.spec.name,
            fingerprint=model.fingerprint,
            backend=engine.backend,
            precision=engine.precision,
            device=engine.device,
            data=truth.name,
            limit=truth.limit,
            thresholds=model.spec.thresholds,
            **found,
            sets=further,
            seconds=round(time.monotonic() - started, 1),
        )


def further_truths(model: Model, data: Path, tasks: Collection[TaskName], limit: int | None = None) -> dict[str, Truth]:
    """The named sets that a folder has beside the standard ones, of these tasks, where the model knows their labels.

    Raises:
        DataError: a file of one is missing or of another kind, or too many rows are broken.
    """
    found = sets_in(data, model.spec, tasks)
    return {name: labelled_truth([entry], data, limit) for name, entry in found.items()}


def _fields(found: Mapping[TaskName, Scores]) -> dict[str, Any]:
    """The scores as the fields of :class:`ScoredTasks`."""
    usual = {name: scores for name, scores in found.items() if name in USUAL_TASKS}
    others = {name: scores for name, scores in found.items() if name not in USUAL_TASKS}
    return {**usual, "others": others or UNSET}


def _scored(name: TaskName, runner: ModelRunner, truth: Truth, plots: Path | None) -> Scores:
    """The three steps of a task: what the model finds, what that is worth, and pictures of it."""
    part = metrics_part(task(name))
    evidence: Evidence = part.gather(runner, truth)
    scores = part.score(evidence)
    if plots is not None:
        render_part(task(name)).draw(evidence, scores, plots)
    return scores


def calibrate(model: Model, data: Path | Truth) -> Calibrated:
    """Choose the model's thresholds on ``data``, with an f32 engine (see :func:`calibrate_thresholds`).

    ``data`` is as in :func:`evaluate_model`.

    Raises:
        DataError: the data is missing or too broken, or the model finds nothing in it.
    """
    truth = data if isinstance(data, Truth) else standard_truth(data, model.spec.network.tasks)
    with open_runner(model, "auto", "f32") as runner:
        return calibrate_thresholds(runner, truth)


def calibrate_scores(model: Model, data: Path | Truth) -> Calibrated:
    """Choose what the scores of boxes mean and their thresholds on ``data``; that of identities stays.

    Raises:
        DataError: the data is missing or too broken, tells no boxes, or the model finds nothing in it.
    """
    tasks = [each.name for each in REGISTRY if not each.per_picture and each.name in model.spec.network.tasks]
    truth = data if isinstance(data, Truth) else standard_truth(data, tasks)
    truth.scored(tasks)
    with open_runner(model, "auto", "f32") as runner:
        return calibrate_thresholds(runner, truth, tasks)


def temperature_of(model: Model, name: TaskName, truth: Truth) -> float:
    """The temperature of the logits of a task with probabilities that fits ``truth`` best, with an f32 engine.

    See :func:`engines.evaluation.calibration.best_temperature`.

    Raises:
        DataError: too many pictures cannot be read, or one shows what the model does not know.
        BackendUnavailable: no f32 engine runs here.
    """
    with open_runner(model, "auto", "f32") as runner:
        evidence = metrics_part(task(name)).gather(runner, truth)
    return best_temperature(evidence.probabilities, evidence.target)


def none_logit_of(model: Model, known: Sequence[Path], unknown: Sequence[Path]) -> float:
    """The logit of "none of these" that best tells pictures of places from those that show none.

    See :func:`engines.evaluation.calibration.best_none_logit`.

    Args:
        model: whose last scene is "none of these", with a logit of 0.
        known: pictures of places.
        unknown: whole pictures of none.

    Raises:
        DataError: too many pictures cannot be read.
        BackendUnavailable: no f32 engine runs here.
    """
    groups, scenes = model.spec.scene_groups, model.spec.scenes
    places, nothing = (grouped(each, groups, scenes)[:, -1] for each in _scenes_seen(model, known, unknown))
    return best_none_logit(places, nothing)


def thing_shift_of(model: Model, places: Sequence[Path], things: Sequence[Path]) -> float:
    """By how much the logits of scenes that are no places are too high beside those of places.

    Sets that tell either apart never say which of both a picture shows, so that training leaves it open.

    Args:
        model: its probabilities are looked at.
        places: pictures of scenes that are places.
        things: pictures of other scenes.

    Raises:
        DataError: too many pictures cannot be read.
        BackendUnavailable: no f32 engine runs here.
    """
    in_places = np.isin(model.spec.scenes, list(place_scenes(model.spec)))
    said = (np.log(each.astype(np.float64) + TINY) for each in _scenes_seen(model, places, things))
    return best_cut(*(each[:, ~in_places].max(1) - each[:, in_places].max(1) for each in said))


def _scenes_seen(model: Model, *pictures: Sequence[Path]) -> list[Float]:
    """The probabilities (N, C) of scenes of each of these lots of pictures, with an f32 engine."""
    skipped = SkippedRows()
    with open_runner(model, "auto", "f32") as runner:
        return [
            np.stack([each.detections.scene for each in runner.see("scene", paths, model.spec.thresholds, skipped)])
            for paths in pictures
        ]


def place_scenes(spec: ModelSpec) -> set[str]:
    """The scenes of the model's kinds of place."""
    return {scene for group in spec.scene_groups if group.name != NONE_OF_THESE for scene in group.scenes}


def of_scenes(scenes: Collection[str], truths: Iterable[Truth]) -> list[Path]:
    """The pictures of ``truths`` whose label is one of these scenes."""
    return [path for truth in truths for label, path in truth.scene or () if label in scenes]


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
