"""A batch under way on a GPU, whoever runs it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import structlog

from engines.errors import EngineError

log = structlog.get_logger()

Outputs = dict[str, npt.NDArray[np.generic]]


class Underway:
    """A batch whose memory is its own until it has been waited for.

    Args:
        finish: waits for it, gives its memory back and returns the entry's outputs; called once, whatever happens.
    """

    def __init__(self, finish: Callable[[], Outputs]) -> None:
        self._finish: Callable[[], Outputs] | None = finish

    def outputs(self) -> Outputs:
        """Wait for the batch and return the entry's outputs, batch first; to be called once.

        Raises:
            EngineError: the run failed.
        """
        if self._finish is None:
            raise EngineError("the outputs of this batch were taken already")
        finish, self._finish = self._finish, None
        return finish()

    def __del__(self) -> None:
        # The GPU still reads and writes the memory of a batch that nobody waits for.
        if self._finish is not None:
            try:
                self.outputs()
            except EngineError as error:
                log.warning("a batch that nobody waited for failed", error=str(error))
