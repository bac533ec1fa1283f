"""Contact sheets: the worst pictures of a task with truth and prediction drawn in, as one figure."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from engines.evaluation.detection import BoxEvidence, WorstPicture
from engines.evaluation.identity import WorstPair
from engines.evaluation.landmarks import LandmarkEvidence, worst_rows
from engines.evaluation.scene import WorstScene
from engines.pictures import read_rgb

COLUMNS = 5
TILE_INCHES = 2.8
TITLE_INCHES = 0.4
TRUE, IGNORED, FOUND = "lime", "silver", "red"


def sheet_of_boxes(evidence: BoxEvidence, worst: Sequence[WorstPicture]) -> Figure:
    """True boxes, ignored boxes, and detections from the model's own score on with label and score."""
    title = f"lowest F1 at score {evidence.score:g}: true {TRUE}, ignored {IGNORED}, found {FOUND}"
    figure, tiles = _sheet(len(worst), title)
    boxes, found = defaultdict(list), defaultdict(list)
    for box in evidence.truth.boxes:
        boxes[box.image_id].append(box)
    for detection in evidence.detections:
        if detection.score >= evidence.score:
            found[detection.image_id].append(detection)
    names = evidence.truth.categories
    for axes, row in zip(tiles, worst, strict=True):
        _show(axes, row.picture, f"F1 {row.f1:.2f}, {row.missed} missed, {row.mistaken} mistaken")
        for box in boxes[row.picture_id]:
            _rectangle(axes, box.bbox, IGNORED if box.ignored else TRUE, names[box.category_id], at_top=False)
        for detection in found[row.picture_id]:
            _rectangle(axes, detection.bbox, FOUND, f"{names[detection.category_id]} {detection.score:.2f}")
    return figure


def sheet_of_landmarks(evidence: LandmarkEvidence) -> Figure:
    """True points and those that were found, around the true box, of the worst faces."""
    worst = worst_rows(evidence)
    figure, tiles = _sheet(len(worst), f"largest error of the landmarks: true {TRUE}, found {FOUND}")
    for axes, row in zip(tiles, worst, strict=True):
        face, nme, nme_box = evidence.faces[row], evidence.errors[row], evidence.box_errors[row]
        _show(axes, str(face.picture), f"NME {nme:.3f} of the eyes, {nme_box:.3f} of the box")
        left, top, right, bottom = face.box.tolist()
        _rectangle(axes, (left, top, right - left, bottom - top), TRUE, "")
        for points, colour in ((face.points, TRUE), (face.found, FOUND)):
            if points is not None:
                axes.scatter(points[:, 0], points[:, 1], s=14, c=colour, edgecolors="black", linewidths=0.5)
    return figure


def sheet_of_scenes(worst: Sequence[WorstScene]) -> Figure:
    """What each picture was taken for."""
    figure, tiles = _sheet(len(worst), "most confident wrong answers")
    for axes, row in zip(tiles, worst, strict=True):
        _show(axes, row.picture, f"{row.label}, taken for\n{row.predicted} ({row.probability:.2f})")
    return figure


def sheet_of_pairs(worst: Sequence[WorstPair]) -> Figure:
    """Two pictures a pair, side by side."""
    figure, tiles = _sheet(2 * len(worst), "pairs that are told worst", columns=4)
    for number, row in enumerate(worst):
        kind = "one person" if row.genuine else "two people"
        _show(tiles[2 * number], row.first, f"{kind}, similarity {row.similarity:.3f}")
        _show(tiles[2 * number + 1], row.second, "")
    return figure


def _sheet(tiles: int, title: str, columns: int = COLUMNS) -> tuple[Figure, list[Axes]]:
    rows = max(1, -(-tiles // columns))
    height = rows * TILE_INCHES + TITLE_INCHES
    figure = Figure(figsize=(columns * TILE_INCHES, height))
    # Placed by hand: matplotlib's own layouts draw every picture several times.
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 2 * TITLE_INCHES / height, wspace=0.04, hspace=0.2)
    figure.suptitle(title if tiles else f"{title}: there are none", fontsize=11, y=1 - TITLE_INCHES / 3 / height)
    return figure, [figure.add_subplot(rows, columns, number) for number in range(1, tiles + 1)]


def _show(axes: Axes, picture: str, title: str) -> None:
    axes.imshow(read_rgb(picture))
    axes.set_axis_off()
    axes.set_title(f"{title}\n{Path(picture).parent.name}/{Path(picture).name}", fontsize=7)


def _rectangle(
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
