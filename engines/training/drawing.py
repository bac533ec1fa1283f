"""Pictures with their labels drawn in, and sheets of them."""

from collections.abc import Sequence

import cv2
import numpy as np

from engines.arrays import Pixels
from engines.errors import DataError
from engines.pictures import resize
from engines.training.augmentation import MicroBatch
from engines.training.targets import Targets

CELL = 224  # side of a picture on a sheet, pixels
CAPTION = 22  # height of the line above a row
PAPER, INK = (255, 255, 255), (20, 20, 20)
OBJECT, FACE, IGNORED, POINT = (40, 220, 90), (80, 160, 255), (150, 150, 150), (255, 210, 0)
SMALL_FACE = 40  # width in pixels, up to which its points are drawn as small as can be
FONT = cv2.FONT_HERSHEY_SIMPLEX


def drawn(batch: MicroBatch, objects: Sequence[str], labels: Sequence[str]) -> list[Pixels]:
    """The pictures of a micro-batch (CELL, CELL, 3) with their labels drawn in; ignored boxes are grey.

    Args:
        batch: on any device.
        objects: what the object classes are called.
        labels: what the scenes, or the people, are called.
    """
    pictures = batch.pictures.cpu().numpy()
    scale = CELL / pictures.shape[1]
    cells = [np.ascontiguousarray(resize(pixels, (CELL, CELL))) for pixels in pictures]
    for row, cell in enumerate(cells):
        if batch.objects is not None:
            _draw(cell, batch.objects, row, scale, OBJECT, objects)
        if batch.faces is not None:
            _draw(cell, batch.faces, row, scale, FACE, ())
        if batch.labels is not None:
            _write(cell, labels[int(batch.labels[row])], (4, CELL - 6))
    return cells


def _draw(
    cell: Pixels, targets: Targets, row: int, scale: float, colour: tuple[int, int, int], names: Sequence[str]
) -> None:
    for column in (targets.classes[row] >= 0).nonzero()[:, 0].tolist():
        x0, y0, x1, y1 = (round(v) for v in (targets.boxes[row, column] * scale).clamp(-1, CELL).tolist())
        ignored = bool(targets.ignore[row, column])
        cv2.rectangle(cell, (x0, y0), (x1, y1), IGNORED if ignored else colour, 1)
        if names and not ignored:
            _write(cell, names[int(targets.classes[row, column])], (x0 + 2, y0 + 11))
        points, present = targets.landmarks, targets.has_landmarks
        if points is not None and present is not None and bool(present[row, column]) and not ignored:
            for x, y in (points[row, column] * scale).tolist():
                if abs(x) < 2 * CELL and abs(y) < 2 * CELL:
                    cv2.circle(cell, (round(x), round(y)), 2 if x1 - x0 > SMALL_FACE else 1, POINT, -1)


def _write(cell: Pixels, text: str, at: tuple[int, int]) -> None:
    cv2.putText(cell, text, at, FONT, 0.36, INK, 3, cv2.LINE_AA)
    cv2.putText(cell, text, at, FONT, 0.36, PAPER, 1, cv2.LINE_AA)


def sheet(rows: Sequence[tuple[str, Sequence[Pixels]]], columns: int) -> Pixels:
    """A grid of pictures with a caption above each row."""
    band = np.full((CAPTION, columns * CELL, 3), 255, np.uint8)
    parts = []
    for caption, cells in rows:
        line = band.copy()
        cv2.putText(line, caption, (6, CAPTION - 7), FONT, 0.45, INK, 1, cv2.LINE_AA)
        blank = [np.full((CELL, CELL, 3), 255, np.uint8)] * (columns - len(cells))
        parts += [line, np.concatenate([*cells, *blank], 1)]
    return np.concatenate(parts)


def as_png(pixels: Pixels) -> bytes:
    """RGB pixels as a PNG file.

    Raises:
        DataError: they cannot be encoded.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} pixels cannot be written as PNG")
    return data.tobytes()
