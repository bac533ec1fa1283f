"""TensorRT's log, which has the causes of failures: its calls do not return them."""

from collections import deque
from typing import Final

import structlog
import tensorrt as trt

log = structlog.get_logger()

KEPT: Final = 3  # the first errors are the cause, what follows is where it was noticed


class Log(trt.ILogger):
    """Keep errors until they are reported, and pass warnings to our own log."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: deque[str] = deque()

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, from any of its threads."""
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            if len(self._errors) < KEPT:
                self._errors.append(" ".join(msg.split()))
        elif severity == trt.ILogger.Severity.WARNING:
            log.debug("TensorRT warns", said=msg)

    def failure(self) -> str:
        """Return the errors since the last call, as one sentence."""
        said = "; ".join(self._errors) or "it does not say why"
        self._errors.clear()
        return said
