"""How far the masks of one form are from those of another."""

from engines.comparing import Gap, Outputs, distance, greatest


def drift(reference: Outputs, other: Outputs) -> float:
    """The total variation distance of the probabilities."""
    return distance(reference, other, "mask")


def gaps(reference: Outputs, other: Outputs) -> dict[str, Gap]:
    """Differences of the probabilities."""
    return {"mask": Gap(greatest(reference["mask"], other["mask"]), "score")}
