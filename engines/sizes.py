"""Heights and widths of the frame entry: which a model takes, and which fits the shape of some pictures best."""

from collections.abc import Collection
from dataclasses import replace
from itertools import product
from typing import Final

import msgspec

from engines.boxes import letterbox
from engines.errors import ModelError
from engines.spec import EntrySpec, Model

STRIDES: Final = (8, 16, 32)  # of the pyramid's levels
STEP: Final = STRIDES[-1]  # sides are multiples of it
MAX_GREY: Final = 0.08  # share of the input that is border, where a size allows it
MAX_CHANGE: Final = 0.15  # of the reference size's pixels


def cells(height: int, width: int) -> int:
    """The cells of the pyramid over an input of so many pixels."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


def grey_share(picture: tuple[int, int], size: tuple[int, int]) -> float:
    """The share of an input that stays grey when a picture is letterboxed into it; both (width, height).

    >>> round(grey_share((1920, 1080), (288, 288)), 3), round(grey_share((1920, 1080), (384, 224)), 3)
    (0.438, 0.036)
    """
    width, height = letterbox(picture, size).scaled
    return 1.0 - width * height / (size[0] * size[1])


def best_size(pictures: Collection[tuple[int, int]], reference: tuple[int, int]) -> tuple[int, int]:
    """The input size, (width, height), that fits pictures of these sizes best at the cost of the ``reference`` size.

    Of the sizes whose border is below :data:`MAX_GREY` for each of the pictures it is the one whose pixels are nearest
    to the reference's; where there is none, the one with the least border for the picture that has most of it. No size
    has :data:`MAX_CHANGE` more or fewer pixels than the reference, which itself is taken where there are no pictures.

    >>> best_size([(1920, 1080)], (288, 288)), best_size([(640, 480)], (288, 288)), best_size([], (288, 288))
    ((384, 224), (320, 256), (288, 288))
    """
    if not pictures:
        return reference
    pixels = reference[0] * reference[1]
    longest = int(pixels * (1 + MAX_CHANGE)) // STEP
    sides = range(STEP, longest + 1, STEP)
    sizes = [each for each in product(sides, sides) if abs(each[0] * each[1] / pixels - 1) <= MAX_CHANGE]

    def cost(size: tuple[int, int]) -> tuple[float, float]:
        grey = max(grey_share(picture, size) for picture in pictures)
        return (grey if grey > MAX_GREY else 0.0), abs(size[0] * size[1] / pixels - 1)

    return min([reference, *sizes], key=cost)


def at_size(model: Model, size: tuple[int, int]) -> Model:
    """The model with its frame entry for pictures of ``size`` (width, height); all else is as it was.

    Raises:
        ModelError: the model does not take pictures of this size.
    """
    entry = model.spec.entry("frame")
    width, height = size
    if (entry.width, entry.height) == size:
        return model
    asked = f"model {model.path}: the frame entry cannot have the size {width}x{height}"
    if entry.multiple_of is None:
        raise ModelError(f"{asked}: its file is for {entry.width}x{entry.height} alone; export it anew for any size")
    if any(side <= 0 or side % entry.multiple_of for side in size):
        raise ModelError(f"{asked}: width and height must be multiples of {entry.multiple_of}")
    rows = most_rows(entry)
    if cells(height, width) < rows:
        raise ModelError(
            f"{asked}: it has {cells(height, width)} cells, and the file gives the best {rows} of them; "
            "take a larger one, such as 160x128"
        )
    resized = msgspec.structs.replace(entry, width=width, height=height)
    spec = msgspec.structs.replace(model.spec, frame=resized)
    return replace(model, spec=spec, reference=model.reference or model)


def most_rows(entry: EntrySpec) -> int:
    """The most rows that an output with scores of the frame entry gives of a picture, each from a cell of its own."""
    return max((shape[0] for name, shape in entry.outputs.items() if name.endswith("_scores")), default=0)
