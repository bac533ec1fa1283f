"""What evaluation asks of a task's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from engines.data.reading import SkippedRows
from engines.evaluation.bootstrap import Interval
from engines.evaluation.runner import ModelRunner
from engines.spec import IdentityCalibration, Thresholds
from engines.tasks import Task

if TYPE_CHECKING:
    from engines.evaluation.truth import Truth

Evidence = Any  # what a model found, in the task's own terms
Scores = Any  # a msgspec struct of the figures, with ``intervals`` by figure and ``skipped`` rows
CardRow = tuple[str, float | None, Interval | None]  # what a figure is called, its value, and its interval


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Thresholds, and what that of identities stands for; None where the data says nothing of it."""

    thresholds: Thresholds
    identity: IdentityCalibration | None


class MetricsPart(Protocol):
    """``metrics.py``."""

    def gather(self, runner: ModelRunner, truth: "Truth") -> Evidence:
        """Run the model over the task's validation data."""

    def score(self, evidence: Evidence) -> Scores:
        """The figures of what it found."""

    def rows(self, scores: Scores) -> Sequence[CardRow]:
        """The figures of the model card."""

    def worst(self, scores: Scores) -> Mapping[str, Sequence[tuple[str, ...]]]:
        """What was told worst, the worst first, by what it is of: the paths of each picture, or pair of them."""


class RenderPart(Protocol):
    """``render.py``."""

    def draw(self, evidence: Evidence, scores: Scores, folder: Path) -> None:
        """Write curves and sheets as PNG into a folder."""


class ThresholdsPart(Protocol):
    """``thresholds.py``."""

    def choose(self, runner: ModelRunner, truth: "Truth", chosen: Calibrated, skipped: SkippedRows) -> Calibrated:
        """What was chosen for the tasks before, with this task's own thresholds."""


def metrics_part(task: Task) -> MetricsPart:
    """The task's metrics."""
    return cast("MetricsPart", task.part("metrics"))


def render_part(task: Task) -> RenderPart:
    """How the task's results are drawn; matplotlib is needed for it."""
    return cast("RenderPart", task.part("render"))


def thresholds_part(task: Task) -> ThresholdsPart:
    """How the task's thresholds are chosen."""
    return cast("ThresholdsPart", task.part("thresholds"))
