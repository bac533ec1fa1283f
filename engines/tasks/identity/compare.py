"""How far the identities of one form are from those of another."""

import numpy as np

from engines.arrays import Double
from engines.comparing import Gap, Outputs, floats, greatest, share


def drift(reference: Outputs, other: Outputs) -> float:
    """1 less the mean cosine of the embeddings, at most 1."""
    return share(1.0 - float(_cosines(reference, other).mean()))


def gaps(reference: Outputs, other: Outputs) -> dict[str, Gap]:
    """Differences of the qualities, and the least cosine of the embeddings."""
    return {
        "quality": Gap(greatest(reference["quality"], other["quality"]), "score"),
        "embeddings": Gap(float(_cosines(reference, other).min()), "cosine"),
    }


def _cosines(reference: Outputs, other: Outputs) -> Double:
    return np.asarray((floats(reference, "embedding") * floats(other, "embedding")).sum(axis=1))
