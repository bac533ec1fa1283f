"""What the figures of several tasks have in common, and how one is written."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engines.evaluation.detection import BoxEvidence
from engines.evaluation.matching import precision_recall
from engines.files import replacing

COLUMNS = 6  # of small multiples
SIDE_INCHES = 5.0
MARGIN_INCHES = 0.7
DPI = 110


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; a file that is there is replaced when the new one is whole."""
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=DPI)


def square() -> tuple[Figure, Axes]:
    """A figure of one square plot."""
    figure = Figure(figsize=(SIDE_INCHES, SIDE_INCHES), layout="constrained")
    return figure, figure.add_subplot()


def precision_recall_curves(evidence: BoxEvidence, ap50: Mapping[str, float | None]) -> Figure:
    """One small curve for each category that has boxes."""
    categories = {name: category for name, category in evidence.matches.categories.items() if category.wanted.any()}
    columns = max(1, min(COLUMNS, len(categories)))
    rows = max(1, -(-len(categories) // columns))
    side = SIDE_INCHES if len(categories) < 2 else SIDE_INCHES / 2
    width, height = columns * side + MARGIN_INCHES, rows * side + MARGIN_INCHES
    figure = Figure(figsize=(width, height))
    # Placed by hand: matplotlib's own layouts take seconds for so many axes.
    left, bottom = MARGIN_INCHES / width, MARGIN_INCHES / height
    figure.subplots_adjust(left, bottom, 1 - left / 4, 1 - bottom / 2, wspace=0.2, hspace=0.2)
    for number, (name, category) in enumerate(categories.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        recall, precision = precision_recall(category)
        axes.plot(recall, precision)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        value = ap50[name]
        axes.set_title(f"{name} ({category.wanted.sum()}), AP50 {0.0 if value is None else value:.3f}", fontsize=8)
        axes.tick_params(labelsize=7)
    figure.supxlabel("recall", y=0.1 * bottom, fontsize=10)
    figure.supylabel("precision at IoU 0.5", x=0.1 * left, fontsize=10)
    return figure


def confusion_figure(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> Figure:
    """Shares of each true label, and how many pictures."""
    matrix = np.array(confusion)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = max(SIDE_INCHES, 0.55 * len(matrix) + 1.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(matrix).tolist():
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(matrix)), labels, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(matrix)), labels, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    return figure
