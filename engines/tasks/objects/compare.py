"""How far the objects of one form are from those of another."""

from engines.comparing import Gap, Outputs, drift_of_rows, row_differences
from engines.tasks.objects.decode import MAX_ROWS


def drift(reference: Outputs, other: Outputs) -> float:
    """See :func:`engines.comparing.drift_of_rows`."""
    return drift_of_rows(reference, other, "object")


def gaps(reference: Outputs, other: Outputs) -> dict[str, Gap]:
    """Differences of boxes and scores."""
    boxes, scores, _ = row_differences(reference, other, "object", MAX_ROWS)
    return {"boxes": Gap(boxes, "pixels"), "scores": Gap(scores, "score")}
