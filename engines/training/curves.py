"""The curves of a run: a CSV log in long form, and a picture of it."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from engines.training.loop import Progress

LOG, PICTURE = "log.csv", "curves.png"
COLUMNS = ("step", "seconds", "learning_rate", "name", "value")

Series = dict[str, tuple[list[int], list[float]]]  # by name: steps and values


class CurveLog:
    """Appends a run's progress to its log; a log that is there already is gone on with."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._writer = csv.writer(file)
        if not file.tell():
            self._writer.writerow(COLUMNS)

    def write(self, now: Progress, values: Mapping[str, float]) -> None:
        """One row for each named value."""
        for name, value in values.items():
            row = (now.step, f"{now.seconds:.0f}", f"{now.learning_rate:.6f}", name, f"{value:.5f}")
            self._writer.writerow(row)
        self._file.flush()


def read_log(file: Path) -> Series:
    """All series of a log. Rows that a resumed run wrote again replace the older ones."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    with file.open(newline="") as opened:
        for row in csv.DictReader(opened):
            found[row["name"]][int(row["step"])] = float(row["value"])
            found["learning rate"][int(row["step"])] = float(row["learning_rate"])
    ordered = {name: sorted(points.items()) for name, points in found.items()}
    return {name: ([step for step, _ in rows], [value for _, value in rows]) for name, rows in ordered.items()}


def plot_log(file: Path, picture: Path) -> None:
    """Draw the losses by task and part, the validation scores, the tasks' gradients and the learning rate."""
    series = read_log(file)
    tasks = sorted({name.split(".")[0] for name in series if name.endswith(".total")})
    chosen = {task: [name for name in series if name.startswith(f"{task}.")] for task in tasks}
    chosen["validation score"] = [name for name in series if name.startswith("score.")]
    gradients = [name for name in series if name.startswith("gradient.")]
    chosen["norm of the gradient on the trunk"] = [name for name in gradients if name.count(".") == 1]
    chosen["cosine of two tasks' gradients"] = [name for name in gradients if name.count(".") == 2]
    chosen["learning rate"] = ["learning rate"]
    panels = {title: names for title, names in chosen.items() if names}
    rows = -(-len(panels) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(12, 3.2 * rows), squeeze=False, layout="constrained")
    for axis, (title, names) in zip(axes.flat, panels.items(), strict=False):
        _panel(axis, title, {name: series[name] for name in sorted(names) if name in series})
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _panel(axis: Axes, title: str, series: Series) -> None:
    for name, (steps, values) in series.items():
        axis.plot(steps, values, linewidth=1.2, label=name.split(".", 1)[-1])
    axis.set_title(title)
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)
    if series:
        axis.legend(fontsize="small")
