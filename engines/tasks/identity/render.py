"""The verification curve, and a sheet of the pairs that are told worst, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from engines.evaluation.plots import save, square
from engines.evaluation.sheets import sheet, show
from engines.tasks.identity.metrics import IdentityEvidence, IdentityScores, WorstPair


def draw(evidence: IdentityEvidence, scores: IdentityScores, folder: Path) -> None:
    """Write ``identity_roc.png`` and ``identity_worst.png``."""
    curves = {name: pairs.roc for name, pairs in scores.crops.items()}
    if scores.end_to_end:
        curves[f"{scores.headline} end to end"] = scores.end_to_end.scores.roc
    save(_roc(curves), folder / "identity_roc.png")
    save(sheet_of_pairs(scores.worst), folder / "identity_worst.png")


def sheet_of_pairs(worst: Sequence[WorstPair]) -> Figure:
    """Two pictures a pair, side by side."""
    figure, tiles = sheet(2 * len(worst), "pairs that are told worst", columns=4)
    for number, row in enumerate(worst):
        kind = "one person" if row.genuine else "two people"
        show(tiles[2 * number], row.first, f"{kind}, similarity {row.similarity:.3f}")
        show(tiles[2 * number + 1], row.second, "")
    return figure


def _roc(curves: Mapping[str, list[tuple[float, float]]]) -> Figure:
    """True-accept rate over the logarithm of the false-accept rate."""
    figure, axes = square()
    for name, points in curves.items():
        if points:
            axes.step(*np.array(points).T, where="post", label=name)
    axes.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.02), xlabel="false-accept rate", ylabel="true-accept rate")
    axes.set_title("verification", fontsize=10)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3, which="both")
    return figure
