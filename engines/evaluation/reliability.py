"""How far a probability can be believed: expected calibration error."""

from typing import Final

import numpy as np

from engines.arrays import Double, Flags, Rows

ECE_BINS: Final = 15


def bin_of(confidence: Double) -> Rows:
    """The bin (N,) of each confidence: bin m of M, counted from 0, covers (m / M, (m + 1) / M]."""
    return np.asarray(np.clip(np.ceil(confidence * ECE_BINS) - 1, 0, ECE_BINS - 1), np.int64)


def calibration_errors(confidence: Double, correct: Flags, weights: Double) -> Double:
    """Expected calibration error: mean distance of accuracy from confidence, in bins of equal width.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        confidence: (N,) probability of the predicted class, in [0, 1].
        correct: (N,) whether the prediction is right.
        weights: (R, N) how often each prediction counts, in each of R resamples.

    Returns:
        (R,) in [0, 1].
    """
    gaps = np.zeros((len(confidence), ECE_BINS))
    # Bin by bin |accuracy - confidence| weighted by its share; a sum of differences, divided once.
    gaps[np.arange(len(confidence)), bin_of(confidence)] = correct - confidence
    return np.asarray(np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1))
