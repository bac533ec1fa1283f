"""How far the scenes of one form are from those of another."""

from engines.comparing import Gap, Outputs, distance, greatest


def drift(reference: Outputs, other: Outputs) -> float:
    """The total variation distance of the probabilities."""
    return distance(reference, other, "scene")


def gaps(reference: Outputs, other: Outputs) -> dict[str, Gap]:
    """Differences of the probabilities."""
    return {"scene": Gap(greatest(reference["scene"], other["scene"]), "score")}
