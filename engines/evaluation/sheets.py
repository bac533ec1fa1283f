"""Contact sheets: the worst pictures of a task with truth and prediction drawn in, as one figure."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from engines.evaluation.detection import BoxEvidence, WorstPicture
from engines.pictures import read_rgb

COLUMNS = 5
TILE_INCHES = 2.8
TITLE_INCHES = 0.4
TRUE, IGNORED, FOUND = "lime", "silver", "red"


def sheet_of_boxes(evidence: BoxEvidence, worst: Sequence[WorstPicture]) -> Figure:
    """True boxes, ignored boxes, and detections from the model's own score on with label and score."""
    title = f"lowest F1 at score {evidence.score:g}: true {TRUE}, ignored {IGNORED}, found {FOUND}"
    figure, tiles = sheet(len(worst), title)
    boxes, found = defaultdict(list), defaultdict(list)
    for box in evidence.truth.boxes:
        boxes[box.image_id].append(box)
    for detection in evidence.detections:
        if detection.score >= evidence.score:
            found[detection.image_id].append(detection)
    names = evidence.truth.categories
    for axes, row in zip(tiles, worst, strict=True):
        show(axes, row.picture, f"F1 {row.f1:.2f}, {row.missed} missed, {row.mistaken} mistaken")
        for box in boxes[row.picture_id]:
            rectangle(axes, box.bbox, IGNORED if box.ignored else TRUE, names[box.category_id], at_top=False)
        for detection in found[row.picture_id]:
            rectangle(axes, detection.bbox, FOUND, f"{names[detection.category_id]} {detection.score:.2f}")
    return figure


def sheet(tiles: int, title: str, columns: int = COLUMNS) -> tuple[Figure, list[Axes]]:
    """An empty figure with a title, and its tiles."""
    rows = max(1, -(-tiles // columns))
    height = rows * TILE_INCHES + TITLE_INCHES
    figure = Figure(figsize=(columns * TILE_INCHES, height))
    # Placed by hand: matplotlib's own layouts draw every picture several times.
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 2 * TITLE_INCHES / height, wspace=0.04, hspace=0.2)
    figure.suptitle(title if tiles else f"{title}: there are none", fontsize=11, y=1 - TITLE_INCHES / 3 / height)
    return figure, [figure.add_subplot(rows, columns, number) for number in range(1, tiles + 1)]


def show(axes: Axes, picture: str, title: str) -> None:
    """Put a picture with its title and file name into a tile."""
    axes.imshow(read_rgb(picture))
    axes.set_axis_off()
    axes.set_title(f"{title}\n{Path(picture).parent.name}/{Path(picture).name}", fontsize=7)


def rectangle(
    axes: Axes, box: tuple[float, float, float, float], colour: str, text: str, *, at_top: bool = True
) -> None:
    """A box, xywh in pixels, named at its top-left or bottom-left corner."""
    x, y, width, height = box
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=1.2))
    below = y if at_top else y + height
    axes.text(
        x, below, text, color="black", fontsize=5, va="bottom" if at_top else "top", clip_on=True,
        bbox={"facecolor": colour, "alpha": 0.7, "pad": 0.4, "linewidth": 0},
    )  # fmt: skip
