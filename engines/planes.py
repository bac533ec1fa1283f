"""Pictures as they were decoded, for engines that scale them and convert their colours on a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from engines.arrays import Float, Plane
from engines.backends.base import Engine, Running
from engines.boxes import Letterbox
from engines.errors import EngineError
from engines.spec import EntrySpec


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture and its place in the network's input."""

    planes: tuple[Plane, ...]  # (y, u, v) of 4:2:0, chroma of odd sizes rounded up; or RGB (H, W, 3)
    letterbox: Letterbox
    rgb_from_yuv: Float | None  # (3, 4): from 8-bit Y, U, V, 1 to 8-bit R, G, B; None: it is RGB

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the planes."""
        return tuple(plane.shape for plane in self.planes)


@runtime_checkable
class PlanesEngine(Engine, Protocol):
    """An engine that also takes pictures as they were decoded."""

    def start_planes(self, pictures: Sequence[Planes]) -> Running:
        """Begin to run pictures, one or more; they have been read when this returns.

        Raises:
            BackendUnavailable: a library that this needs cannot be imported.
            EngineError: the batch is not good, or the engine is closed.
        """
        ...


def check_planes(pictures: Sequence[Planes], spec: EntrySpec) -> None:
    """Raise EngineError unless there is a picture, and all are to be letterboxed into the entry's input."""
    size = spec.width, spec.height
    for picture in pictures:
        if picture.letterbox.target != size:
            raise EngineError(f"pictures must be letterboxed into {size}, got {picture.letterbox.target}")
    if not pictures:
        raise EngineError("batch must have a picture, got none")
