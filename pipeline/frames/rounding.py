"""Numbers as events and messages have them."""

import numpy as np
import numpy.typing as npt


def rounded(array: npt.ArrayLike, decimals: int) -> npt.NDArray[np.float64]:
    """The nearest numbers with so many decimals."""
    # In float64, or 0.91 would be sent as 0.9100000262260437; and not np.round, which does the same in twice the time.
    power = 10.0**decimals
    numbers = np.array(array, np.float64)
    numbers *= power
    np.rint(numbers, out=numbers)
    numbers /= power
    return numbers
