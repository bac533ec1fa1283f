"""The figures by which networks are compared, and how much better one is than others on all tasks together."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from engines.evaluation.bootstrap import Interval
from engines.evaluation.report import HEADLINES, EvaluationReport
from engines.tasks import REGISTRY

# By their names in a report (docs/evaluation.md). A task without any here is compared by its headlines.
SHOWN: Final = {
    "objects": ("ap50", "ap", "ap75", "ar100", "person_ap50"),
    "faces": ("ap50", "ap", "ap75", "ar100", "nme_box", "nme", "nme_failure_rate"),
    "scene": ("top1", "top5", "ece"),
    "identity": (
        "accuracy", "tar_at_far_1e-1", "tar_at_far_1e-2", "tar_at_far_1e-3", "dir_at_far_1e-1", "dir_at_far_1e-2",
        "accuracy_end_to_end",  # needs faces, too, so that the joint network alone has it
    ),
}  # fmt: skip
LOWER_IS_BETTER: Final = {
    *(f"{line.task}.{line.figure}" for line in HEADLINES if line.lower_is_better),
    "faces.nme_box",
    "faces.nme_failure_rate",
    "scene.ece",
}
DELTA_M: Final = tuple(f"{each.name}.{each.headlines[0].name}" for each in REGISTRY)  # one figure of each task
WITH_LANDMARKS: Final = (*DELTA_M, "faces.nme_box")


class ScoredFigure(msgspec.Struct, frozen=True):
    """A figure's value in one run; both None where the data, or the run, has none."""

    value: float | None
    interval: Interval | None


Figures = dict[str, ScoredFigure]  # by task and name, as in objects.ap50


def figures_of(report: EvaluationReport) -> Figures:
    """All figures of the tasks that a report has."""
    found: Figures = {}
    for task in REGISTRY:
        scores = report.of(task.name)
        if scores is not None:
            values = msgspec.to_builtins(scores)
            for name in SHOWN.get(task.name, [line.name for line in task.headlines]):
                value = None if values[name] is None else float(values[name])
                found[f"{task.name}.{name}"] = ScoredFigure(value, scores.intervals.get(name))
    return found


def gain(figure: str, single: float | None, joint: float | None) -> float | None:
    """What ``joint`` is better by, as a share of ``single``; None where that is 0 or one is missing."""
    if not single or joint is None:
        return None
    change = (joint - single) / abs(single)
    return -change if figure in LOWER_IS_BETTER else change


def delta_m(
    joint: Mapping[str, ScoredFigure], single: Mapping[str, ScoredFigure], figures: Sequence[str]
) -> float | None:
    """Mean over the figures of what the joint network is better by than the task's own, as a share of that.

    Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019: (1/T) Σ (-1)^l (M_joint - M_single) /
    M_single, with l = 1 where lower is better. Figures of tasks that are not compared are left out.

    Args:
        joint: figures of the joint network.
        single: figures of the single-task networks, all together.
        figures: of which the mean is taken.

    Returns:
        The mean; None where a figure is missing or a single-task one is 0.
    """
    both = [name for name in figures if name in joint and name in single]
    gains = [gain(name, single[name].value, joint[name].value) for name in both]
    known = [value for value in gains if value is not None]
    return statistics.fmean(known) if known and len(known) == len(gains) else None
