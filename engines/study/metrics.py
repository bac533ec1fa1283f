"""The figures by which networks are compared, and how much better one is than others on all tasks together."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from engines.evaluation.bootstrap import Interval
from engines.evaluation.report import EvaluationReport
from engines.spec import USUAL_TASKS, TaskName


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a task's scores in a :class:`Report`, by its name there."""

    task: TaskName
    name: str
    title: str
    lower_is_better: bool = False

    @property
    def key(self) -> str:
        """``TASK.NAME``."""
        return f"{self.task}.{self.name}"

    def gain(self, single: float, joint: float) -> float | None:
        """What ``joint`` is better by, as a share of ``single``; None where that is 0."""
        if not single:
            return None
        change = (joint - single) / abs(single)
        return -change if self.lower_is_better else change


# The first of each task stands for it in delta-m.
METRICS = (
    Metric("objects", "ap50", "objects AP50"),
    Metric("objects", "ap", "objects AP"),
    Metric("objects", "ap75", "objects AP75"),
    Metric("objects", "ar100", "objects AR100"),
    Metric("objects", "person_ap50", "person AP50"),
    Metric("faces", "ap50", "faces AP50"),
    Metric("faces", "ap", "faces AP"),
    Metric("faces", "ap75", "faces AP75"),
    Metric("faces", "ar100", "faces AR100"),
    Metric("faces", "nme_box", "landmarks NME, of the box", lower_is_better=True),
    Metric("faces", "nme", "landmarks NME, of the eyes' distance", lower_is_better=True),
    Metric("faces", "nme_failure_rate", "landmarks failure rate", lower_is_better=True),
    Metric("scene", "top1", "scene top-1"),
    Metric("scene", "top5", "scene top-5"),
    Metric("scene", "ece", "scene ECE", lower_is_better=True),
    Metric("identity", "accuracy", "verification accuracy"),
    Metric("identity", "tar_at_far_1e-1", "verification TAR at FAR 1e-1"),
    Metric("identity", "tar_at_far_1e-2", "verification TAR at FAR 1e-2"),
    Metric("identity", "tar_at_far_1e-3", "verification TAR at FAR 1e-3"),
    Metric("identity", "dir_at_far_1e-1", "identification DIR at FAR 1e-1"),
    Metric("identity", "dir_at_far_1e-2", "identification DIR at FAR 1e-2"),
    # Needs faces, too, so that the joint network alone has it.
    Metric("identity", "accuracy_end_to_end", "verification accuracy, end to end"),
)
DELTA_M = tuple(next(metric for metric in METRICS if metric.task == task) for task in USUAL_TASKS)
WITH_LANDMARKS = (*DELTA_M, *(metric for metric in METRICS if metric.name == "nme_box"))
HEADLINES = tuple(metric for metric in METRICS if metric in WITH_LANDMARKS or metric.name == "person_ap50")


class ScoredFigure(msgspec.Struct, frozen=True):
    """A metric's value in one run; both None where the data, or the run, has none."""

    value: float | None
    interval: Interval | None


Figures = dict[str, ScoredFigure]  # by the metric's key


class SeedSpread(msgspec.Struct, frozen=True):
    """A figure over the seeds."""

    mean: float
    std: float | None  # sample standard deviation; None of a single seed

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "SeedSpread | None":
        """The spread of the values; None if there is none of one of the seeds.

        >>> SeedSpread.of([1.0, 3.0]), SeedSpread.of([1.0, None])
        (SeedSpread(mean=2.0, std=1.4142135623730951), None)
        """
        every = list(values)
        known = [value for value in every if value is not None]
        if not known or len(known) < len(every):
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


def figures_of(report: EvaluationReport) -> Figures:
    """All metrics of the tasks that a report has."""
    found: Figures = {}
    for metric in METRICS:
        scores = getattr(report, metric.task)
        if scores is not msgspec.UNSET:
            value = msgspec.to_builtins(scores)[metric.name]
            found[metric.key] = ScoredFigure(None if value is None else float(value), scores.intervals.get(metric.name))
    return found


def delta_m(
    joint: Mapping[str, ScoredFigure], single: Mapping[str, ScoredFigure], metrics: Sequence[Metric]
) -> float | None:
    """Mean over the metrics of what the joint network is better by than the task's own, as a share of that.

    Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019: (1/T) Σ (-1)^l (M_joint - M_single) /
    M_single, with l = 1 where lower is better. Metrics of tasks that are not compared are left out.

    Args:
        joint: figures of the joint network.
        single: figures of the single-task networks, all together.
        metrics: of which the mean is taken.

    Returns:
        The mean; None where a figure is missing or a single-task one is 0.
    """
    gains = []
    for metric in metrics:
        if metric.key in joint and metric.key in single:
            ours, theirs = joint[metric.key].value, single[metric.key].value
            gain = None if ours is None or theirs is None else metric.gain(theirs, ours)
            if gain is None:
                return None
            gains.append(gain)
    return statistics.fmean(gains) if gains else None
