"""A backend that is the best of this machine until it is told to fail, once, by a file.

It is found by an entry point that a soak lays on the path of the Trunkline that it watches, as any other package's is.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from engines.arrays import Array, Pictures
from engines.backends.base import BackendStatus, Engine, EngineOptions, Running, StartedEngine
from engines.engine import open_engine
from engines.errors import EngineError
from engines.spec import EntryName, Model
from tools.soaking.inside import FOLDER

FILE: Final = "engine"  # in the soak's folder: the next batch fails in the manner that stands in it
LATE_S: Final = 3.0
FOREVER_S: Final = 10_000.0


def _raises(outputs: dict[str, Array]) -> dict[str, Array]:
    raise EngineError("the soak's engine raises")


def _not_a_number(outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: np.full_like(values, np.nan, np.float32) for name, values in outputs.items()}


def _shapes(outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: values[..., :-1] for name, values in outputs.items()}


def _nothing(outputs: dict[str, Array]) -> dict[str, Array]:
    return {}


def _late(outputs: dict[str, Array]) -> dict[str, Array]:
    time.sleep(LATE_S)
    return outputs


def _hangs(outputs: dict[str, Array]) -> dict[str, Array]:
    time.sleep(FOREVER_S)
    return outputs


MANNERS: Final[dict[str, Callable[[dict[str, Array]], dict[str, Array]]]] = {
    "raises": _raises,
    "nan": _not_a_number,
    "shapes": _shapes,
    "nothing": _nothing,
    "late": _late,
    "hangs": _hangs,
}


class BreakableEngine(StartedEngine):
    """An engine whose next batch fails when the file says so; one batch for each writing of it."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self.spec, self.backend, self.precision = engine.spec, engine.backend, engine.precision
        self.device, self.depth = engine.device, engine.depth
        self._engine, self._file = engine, file

    def start(self, batch: Pictures) -> "Running":
        """Begin to run pictures, as :meth:`engines.backends.base.Engine.start` says."""
        return _Broken(self._engine.start(batch), self._manner())

    def _manner(self) -> Callable[[dict[str, Array]], dict[str, Array]]:
        taken = self._file.with_suffix(".taken")
        try:
            os.rename(self._file, taken)
        except FileNotFoundError:
            return lambda outputs: outputs
        return MANNERS[taken.read_text()]

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


class _Broken:
    def __init__(self, running: Running, manner: Callable[[dict[str, Array]], dict[str, Array]]) -> None:
        self._running, self._manner = running, manner

    def outputs(self) -> dict[str, Array]:
        return self._manner(self._running.outputs())


class SoakBackend:
    """Opens what ``auto`` would."""

    def status(self) -> BackendStatus:
        """Return that it can run."""
        return BackendStatus("soak", True, None, "the best of this machine, made to fail")

    def open(self, model: Model, entry: EntryName, options: EngineOptions) -> Any:
        """Load an entry of a model."""
        engine = open_engine(model, entry, precision=options.precision, gpu=options.gpu)
        return BreakableEngine(engine, Path(os.environ[FOLDER]) / FILE)


soak = SoakBackend()
