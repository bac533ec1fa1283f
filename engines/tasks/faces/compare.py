"""How far the faces of one form are from those of another."""

from engines.comparing import Gap, Outputs, drift_of_rows, row_differences
from engines.tasks.faces.decode import MAX_ROWS


def drift(reference: Outputs, other: Outputs) -> float:
    """See :func:`engines.comparing.drift_of_rows`."""
    return drift_of_rows(reference, other, "face")


def gaps(reference: Outputs, other: Outputs) -> dict[str, Gap]:
    """Differences of boxes, landmarks and scores."""
    boxes, scores, points = row_differences(reference, other, "face", MAX_ROWS)
    return {"boxes": Gap(boxes, "pixels"), "landmarks": Gap(points, "pixels"), "scores": Gap(scores, "score")}
