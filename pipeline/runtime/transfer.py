"""Encode what moves between stages: all but the pixels, which stay in shared memory.

Pickle, because only processes of one run speak it to each other, over sockets in a folder that nobody else may enter;
what other programs may send is messages (:mod:`pipeline.wire.messages`). And of what pickle can name, it is let name
values alone: our dataclasses and structs, and NumPy's arrays; no function.
"""

import io
import pickle
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final

import msgspec
import numpy as np

from engines.arrays import Plane
from pipeline.frames.picture import Picture
from pipeline.frames.types import Carrier, Frame, Inferred, Prepared, Ticket
from pipeline.runtime.ring import Ring
from pipeline.settings.redact import FromVariable

OURS: Final = ("engines.", "pipeline.")
# What pickle makes arrays, scalars and their types of.
NUMPY: Final = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *(
        (core, name)
        for core in ("numpy._core.multiarray", "numpy.core.multiarray")
        for name in ("_reconstruct", "scalar")
    ),
    *((core, "_frombuffer") for core in ("numpy._core.numeric", "numpy.core.numeric")),
}
PROTOCOL: Final = 5  # arrays of their own are sent beside the rest, not in it

Shape = tuple[int, ...]


def write_picture(picture: Picture, ring: Ring, ticket: Ticket) -> Picture:
    """Copy a picture into a slot that the caller claimed; returns the same picture there."""
    planes = place(tuple(plane.shape for plane in picture.planes), ring.pixels(ticket))
    for plane, there in zip(picture.planes, planes, strict=True):
        np.copyto(there, plane)
    return Picture(planes, picture.width, picture.height, picture.full_range, picture.matrix)


def place(shapes: Sequence[Shape], memory: Plane) -> tuple[Plane, ...]:
    """Return arrays of these shapes, one behind the other in ``memory`` (bytes,)."""
    planes, start = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        planes.append(memory[start : start + size].reshape(shape))
        start += size
    return tuple(planes)


def input_ticket(item: Carrier) -> Ticket | None:
    """Return the slot of the network's input that an item carries, if any."""
    match item:
        case Prepared():
            return item.ticket
        case Inferred():
            return item.prepared.ticket
        case _:
            return None


def pack(item: Carrier) -> list[Any]:
    """Return the parts of a ZeroMQ message; the pixels of frames and network inputs must be in rings."""
    text, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    _Pickler(text, PROTOCOL, buffer_callback=buffers.append).dump(item)
    return [text.getbuffer(), *(buffer.raw() for buffer in buffers)]


def unpack(parts: Sequence[Any], frames: Ring, inputs: Ring) -> Any:
    """Decode an item; its pixels stay where they are, and are valid while the caller holds their tickets."""
    return _Unpickler(io.BytesIO(parts[0]), parts[1:], frames, inputs).load()


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing: Any) -> Any:
        match thing:
            case Frame(picture=picture):
                assert thing.ticket is not None, "the frame is not in shared memory"
                shapes = tuple(plane.shape for plane in picture.planes)
                looks = (picture.width, picture.height, picture.full_range, picture.matrix)
                return "frame", _fields(thing, "picture"), shapes, looks
            case Prepared():
                assert thing.ticket is not None, "the network's input is not in shared memory"
                return "prepared", _fields(thing, "pixels"), thing.pixels.shape
            case _:
                return None


def _fields(thing: Any, but: str) -> dict[str, Any]:
    return {field.name: getattr(thing, field.name) for field in fields(thing) if field.name != but}


class _Unpickler(pickle.Unpickler):
    def __init__(self, text: io.BytesIO, buffers: Sequence[Any], frames: Ring, inputs: Ring) -> None:
        super().__init__(text, buffers=buffers)
        self._frames, self._inputs = frames, inputs

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that values may be of; UnpicklingError for anything else."""
        return _value_class(module, name)

    def persistent_load(self, known: Any) -> Frame | Prepared:
        match known:
            case ("frame", values, shapes, looks):
                planes = place(shapes, self._frames.pixels(values["ticket"]))
                return Frame(**values, picture=Picture(planes, *looks))
            case ("prepared", values, shape):
                (pixels,) = place((shape,), self._inputs.pixels(values["ticket"]))
                return Prepared(**values, pixels=pixels)
        raise pickle.UnpicklingError(f"no such part: {known!r}")


@cache
def _value_class(module: str, name: str) -> Any:
    if module.startswith(OURS) and "." not in name:
        found = getattr(import_module(module), name, None)
        if isinstance(found, type) and (is_dataclass(found) or issubclass(found, (msgspec.Struct, FromVariable))):
            return found
    elif (module, name) in NUMPY:
        return getattr(import_module(module), name)
    raise pickle.UnpicklingError(f"{module}.{name} is no value that moves between stages")
