"""Pictures of training sets, decoded once onto canvases of one size."""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.alignment import SIZE as FACE_SIZE
from engines.arrays import Double
from engines.data.crops import LabelledCrop, read_crop
from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.pictures import PADDING_GREY, read_rgb, resize

READERS = 4  # threads; decoding releases the interpreter lock


@dataclass(frozen=True, slots=True)
class Canvases:
    """The N pictures of a set that could be read."""

    pictures: Tensor  # (N, S, S, 3) uint8, each in the top-left corner, grey around it
    extents: Tensor  # (N, 2) float32 width, height of each on its canvas
    scales: Double  # (N,) by which each was resized
    kept: list[int]  # their rows among all files


def _decode(one: Callable[[int], None], count: int, name: str, skipped: SkippedRows) -> list[int]:
    """Call ``one`` with every row, side by side; the rows for which it did not raise DataError."""

    def outcome(row: int) -> str | None:
        try:
            one(row)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(READERS) as pool:
        outcomes = list(pool.map(outcome, range(count)))
    for reason in outcomes:
        if reason is not None:
            skipped.add(f"training set {name}, pictures", count, reason)
    kept = [row for row, reason in enumerate(outcomes) if reason is None]
    if not kept:
        raise DataError(f"training set {name}: none of its {count} pictures can be read")
    return kept


def _store(count: int, side: int, cache: Path | None) -> Tensor:
    """Room for uint8 (count, side, side, 3): in memory, or in a file without a name that ends with the process."""
    if cache is None:
        return torch.empty(count, side, side, 3, dtype=torch.uint8)
    with tempfile.NamedTemporaryFile(dir=cache) as file:
        return torch.from_file(file.name, shared=True, size=count * side * side * 3, dtype=torch.uint8).view(
            count, side, side, 3
        )


def load_pictures(files: Sequence[Path], side: int, name: str, skipped: SkippedRows, cache: Path | None) -> Canvases:
    """Decode all files of the set ``name``, each as large as a square canvas of ``side`` pixels takes it.

    Raises:
        DataError: too many pictures cannot be read.
    """
    pictures = _store(len(files), side, cache)
    extents = torch.zeros(len(files), 2)
    scales = np.zeros(len(files))

    def one(row: int) -> None:
        pixels = read_rgb(files[row])
        height, width = pixels.shape[:2]
        scales[row] = scale = side / max(height, width)
        fitted = resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))
        pictures[row] = PADDING_GREY
        pictures[row, : fitted.shape[0], : fitted.shape[1]] = torch.from_numpy(fitted)
        extents[row] = torch.tensor([fitted.shape[1], fitted.shape[0]])

    kept = _decode(one, len(files), name, skipped)
    if len(kept) < len(files):
        pictures, extents, scales = pictures[kept], extents[kept], scales[kept]
    return Canvases(pictures, extents, scales, kept)


def load_faces(crops: Sequence[LabelledCrop], name: str, skipped: SkippedRows) -> Canvases:
    """Decode the face crops of the set ``name``, aligned where five points are known, else as they are.

    Raises:
        DataError: too many pictures cannot be read.
    """
    pictures = torch.zeros(len(crops), FACE_SIZE, FACE_SIZE, 3, dtype=torch.uint8)

    def one(row: int) -> None:
        pictures[row] = torch.from_numpy(read_crop(crops[row]))

    kept = _decode(one, len(crops), name, skipped)
    if len(kept) < len(crops):
        pictures = pictures[kept]
    return Canvases(pictures, torch.full((len(kept), 2), float(FACE_SIZE)), np.ones(len(kept)), kept)


def halved(pictures: Tensor, cache: Path | None) -> Tensor:
    """Canvases (N, S, S, 3), S even, at half the size."""
    half = _store(len(pictures), pictures.shape[1] // 2, cache)
    for rows, out in zip(torch.split(pictures, 64), torch.split(half, 64), strict=True):
        out.copy_(F.avg_pool2d(rows.permute(0, 3, 1, 2).float(), 2).round_().permute(0, 2, 3, 1))
    return half
