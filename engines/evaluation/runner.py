"""A model's two entries, run over still pictures in batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from rich.progress import Progress

from engines.alignment import SIZE
from engines.arrays import Float, Pixels
from engines.boxes import letterbox
from engines.data.crops import LabelledCrop, read_crop
from engines.data.reading import SkippedRows
from engines.decode import Detections, decode
from engines.engine import Engine
from engines.errors import DataError
from engines.pictures import letterbox_rgb, read_rgb, resize
from engines.scores import probabilities_at
from engines.spec import Model, Thresholds

BATCH = 16
READERS = 2  # threads; reading one small picture takes a tenth of the time of seeing it
LOW_SCORE = 0.01  # precision-recall curves need what the pipeline would not show

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class SeenPicture:
    """One picture and what the network sees in it."""

    path: Path
    pixels: Pixels  # (H, W, 3) RGB
    detections: Detections


@dataclass(frozen=True, slots=True)
class Face:
    """An aligned face as the face entry sees it."""

    embedding: Float  # (D,) unit
    quality: float  # in [0, 1]


@dataclass(frozen=True, slots=True)
class ModelRunner:
    """Runs an open model over pictures; what cannot be read is skipped and left out of the answers."""

    model: Model
    frame: Engine | None  # None: the model has no such entry
    face: Engine | None
    progress: Progress

    @property
    def curve_thresholds(self) -> Thresholds:
        """The model's thresholds with scores so low that whole precision-recall curves come out.

        They are the same detections whether or not scores become probabilities.
        """
        low = self.model.spec.thresholds.at(object_score=LOW_SCORE, face_score=LOW_SCORE)
        changed: dict[str, object] = {}
        if low.object_curves is not None:
            changed["object_scores"] = tuple(probabilities_at(low.object_curves, LOW_SCORE))
        if low.face_curve is not None:
            changed["face_score"] = probabilities_at(low.face_curve, LOW_SCORE)[0]
        return msgspec.structs.replace(low, **changed)

    @property
    def uncalibrated_thresholds(self) -> Thresholds:
        """The same for the scores as the network gives them."""
        low = self.model.spec.thresholds.at(object_score=LOW_SCORE, face_score=LOW_SCORE)
        return msgspec.structs.replace(low, object_curves=None, face_curve=None)

    def see(
        self, title: str, paths: Sequence[Path], thresholds: Thresholds, skipped: SkippedRows
    ) -> Iterator[SeenPicture]:
        """Letterbox, infer and decode every picture, in order, exactly as the pipeline does.

        Raises:
            DataError: too many pictures cannot be read.
        """
        assert self.frame is not None
        for batch in _batches(self._read(title, paths, skipped, read_rgb), BATCH):
            size = (self.frame.spec.width, self.frame.spec.height)
            boxes = [letterbox((pixels.shape[1], pixels.shape[0]), size) for _, pixels in batch]
            inputs = [letterbox_rgb(pixels, box) for (_, pixels), box in zip(batch, boxes, strict=True)]
            found = decode(self.frame.infer(np.stack(inputs)), boxes, thresholds)
            yield from (SeenPicture(path, pixels, each) for (path, pixels), each in zip(batch, found, strict=True))

    def embed_crops(
        self, title: str, paths: Sequence[Path], skipped: SkippedRows, read: Callable[[Path], Pixels] = read_rgb
    ) -> dict[Path, Float]:
        """Embeddings (D,) of face crops, as ``read`` gives them and resized to the face entry's input.

        Raises:
            DataError: too many crops cannot be read.
        """
        return {path: face.embedding for path, face in self.view_crops(title, paths, skipped, read).items()}

    def view_crops(
        self, title: str, paths: Sequence[Path], skipped: SkippedRows, read: Callable[[Path], Pixels] = read_rgb
    ) -> dict[Path, Face]:
        """The same with the quality of each."""
        found: dict[Path, Face] = {}
        for batch in _batches(self._read(title, paths, skipped, read), BATCH):
            faces = self.view([resize(pixels, (SIZE, SIZE)) for _, pixels in batch])
            found.update(zip((path for path, _ in batch), faces, strict=True))
        return found

    def embed(self, faces: Sequence[Pixels]) -> Float:
        """Unit embeddings (N, D) of a batch of aligned faces (112, 112, 3) RGB."""
        return np.stack([face.embedding for face in self.view(faces)])

    def view(self, faces: Sequence[Pixels]) -> list[Face]:
        """What the face entry says of a batch of aligned faces (112, 112, 3) RGB."""
        assert self.face is not None
        outputs = self.face.infer(np.stack(faces))
        rows = zip(outputs["embedding"].astype(np.float32), outputs["quality"].tolist(), strict=True)
        return [Face(embedding, quality) for embedding, quality in rows]

    def say_of_faces(
        self, title: str, crops: Sequence[LabelledCrop], output: str, skipped: SkippedRows
    ) -> Iterator[tuple[LabelledCrop, Float]]:
        """One output of the face entry for each face that could be read, cut as training cuts it, in order.

        Raises:
            DataError: too many pictures cannot be read.
        """
        assert self.face is not None
        for batch in _batches(self._read(title, crops, skipped, read_crop), BATCH):
            found = self.face.infer(np.stack([pixels for _, pixels in batch]))[output].astype(np.float32)
            yield from zip((crop for crop, _ in batch), found, strict=True)

    def _read(
        self, title: str, paths: Sequence[Item], skipped: SkippedRows, read: Callable[[Item], Pixels]
    ) -> Iterator[tuple[Item, Pixels]]:
        def attempt(path: Item) -> Pixels | DataError:
            try:
                return read(path)
            except DataError as error:
                return error

        bar = self.progress.add_task(title, total=len(paths))
        with ThreadPoolExecutor(READERS) as pool:
            # A batch at a time: a pool asked for all pictures at once would hold all of them.
            for batch in _batches(paths, BATCH):
                for path, result in zip(batch, pool.map(attempt, batch), strict=True):
                    self.progress.advance(bar)
                    if isinstance(result, DataError):
                        skipped.add(title, len(paths), str(result))
                    else:
                        yield path, result
        self.progress.remove_task(bar)


def similarity_of(embeddings: dict[Path, Float], first: Path, second: Path) -> float:
    """Cosine of two unit embeddings; not a number where one of the pictures has none."""
    if first not in embeddings or second not in embeddings:
        return float("nan")
    return float(embeddings[first] @ embeddings[second])


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
