"""What was taken for what."""

import numpy as np

from engines.arrays import Ints, Rows


def confusion_matrix(target: Rows, predicted: Rows, classes: int) -> Ints:
    """How many of the N pictures of each true class (row) were taken for each class (column)."""
    return np.bincount(target * classes + predicted, minlength=classes**2).reshape(classes, classes)
