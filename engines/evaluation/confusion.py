"""What was taken for what."""

import numpy as np
import numpy.typing as npt

from engines.arrays import Rows


def confusion_matrix(target: Rows, predicted: Rows, classes: int) -> npt.NDArray[np.int64]:
    """How many of the N pictures of each true class (row) were taken for each class (column)."""
    return np.bincount(target * classes + predicted, minlength=classes**2).reshape(classes, classes)
