"""Curves of faces and landmarks, and sheets of the worst pictures, as PNG files."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from engines.evaluation.plots import precision_recall_curves, save, square
from engines.evaluation.sheets import FOUND, TRUE, rectangle, sheet, sheet_of_boxes, show
from engines.tasks.faces.landmarks import FAILURE, LandmarkEvidence, worst_rows
from engines.tasks.faces.metrics import FaceEvidence, FaceScores


def draw(evidence: FaceEvidence, scores: FaceScores, folder: Path) -> None:
    """Write ``faces_pr.png``, ``faces_worst.png``, ``landmarks_nme.png`` and ``landmarks_worst.png``."""
    save(precision_recall_curves(evidence.boxes, scores.ap50_by_label), folder / "faces_pr.png")
    save(sheet_of_boxes(evidence.boxes, scores.worst), folder / "faces_worst.png")
    save(_cumulative_error(evidence.landmarks), folder / "landmarks_nme.png")
    save(sheet_of_landmarks(evidence.landmarks), folder / "landmarks_worst.png")


def sheet_of_landmarks(evidence: LandmarkEvidence) -> Figure:
    """True points and those that were found, around the true box, of the worst faces."""
    worst = worst_rows(evidence)
    figure, tiles = sheet(len(worst), f"largest error of the landmarks: true {TRUE}, found {FOUND}")
    for axes, row in zip(tiles, worst, strict=True):
        face, nme, nme_box = evidence.faces[row], evidence.errors[row], evidence.box_errors[row]
        show(axes, str(face.picture), f"NME {nme:.3f} of the eyes, {nme_box:.3f} of the box")
        left, top, right, bottom = face.box.tolist()
        rectangle(axes, (left, top, right - left, bottom - top), TRUE, "")
        for points, colour in ((face.points, TRUE), (face.found, FOUND)):
            if points is not None:
                axes.scatter(points[:, 0], points[:, 1], s=14, c=colour, edgecolors="black", linewidths=0.5)
    return figure


def _cumulative_error(evidence: LandmarkEvidence) -> Figure:
    """Share of all faces, missed ones too, that have at most an error."""
    figure, axes = square()
    share = np.arange(1, int(evidence.found.sum()) + 1) / len(evidence.faces)
    for label, errors in (("inter-ocular", evidence.errors), ("box size", evidence.box_errors)):
        axes.step(np.sort(errors[evidence.found]), share, where="post", label=label)
    axes.axvline(FAILURE, color="grey", linestyle=":", label=f"failure: above {FAILURE:g}, inter-ocular")
    axes.set(xlim=(0, 0.5), ylim=(0, 1), xlabel="normalised mean error", ylabel="share of all faces")
    axes.set_title(f"landmarks of {len(evidence.faces)} faces, {int((~evidence.found).sum())} not found", fontsize=10)
    axes.legend()
    axes.grid(alpha=0.3)
    return figure
