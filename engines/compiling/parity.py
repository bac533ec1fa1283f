"""Whether a compiled form gives what the reference gives, on real pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.alignment import SIZE as FACE_SIZE
from engines.boxes import letterbox
from engines.engine import Engine, open_engine
from engines.errors import EngineError
from engines.network.entries import MAX_FACES, MAX_OBJECTS
from engines.pictures import letterbox_rgb, read_rgb, resize
from engines.spec import Backend, Model

BOX_PX = 0.5
SCORE = 1e-3
COSINE = 0.9999
COMPARED_SCORE = 0.05  # rows below this are noise whose order nothing depends on
BATCH = 8
CUT_AT = {"object": MAX_OBJECTS, "face": MAX_FACES}  # rows of the top-k

Outputs = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Parity:
    """The greatest differences between a backend and the PyTorch reference, f32."""

    backend: str
    pictures: int
    faces: int
    boxes_px: float
    landmarks_px: float
    scores: float
    scene: float
    quality: float
    cosine: float  # the least

    @property
    def holds(self) -> bool:
        """Whether all differences are within their limits."""
        # One by one: a difference that is not a number is within no limit, but max() may pass over it.
        return (
            all(gap <= BOX_PX for gap in (self.boxes_px, self.landmarks_px))
            and all(gap <= SCORE for gap in (self.scores, self.scene, self.quality))
            and self.cosine >= COSINE
        )


def check_parity(
    model: Model, backends: Sequence[Backend], pictures: Sequence[Path], faces: Sequence[Path]
) -> list[Parity]:
    """Compare backends with PyTorch, all f32, on picture files and face crop files.

    Raises:
        EngineError: a difference is beyond its limit; nothing should be released then.
        BackendUnavailable: a backend cannot run here.
    """
    entry = model.spec.frame
    batches = _batches([_fitted(path, entry.width, entry.height) for path in pictures])
    crops = _batches([resize(read_rgb(path), (FACE_SIZE, FACE_SIZE)) for path in faces])
    with open_engine(model, "frame", "torch", "f32") as frame, open_engine(model, "face", "torch", "f32") as face:
        reference = _run(frame, batches), _run(face, crops)
    found = []
    for backend in backends:
        with open_engine(model, "frame", backend, "f32") as frame, open_engine(model, "face", backend, "f32") as face:
            found.append(_compare(backend, reference, (_run(frame, batches), _run(face, crops))))
    failed = [each for each in found if not each.holds]
    if failed:
        raise EngineError(f"parity with PyTorch is broken beyond {BOX_PX} px, {SCORE} or cosine {COSINE}: {failed}")
    return found


def _fitted(path: Path, width: int, height: int) -> npt.NDArray[np.uint8]:
    pixels = read_rgb(path)
    return letterbox_rgb(pixels, letterbox((pixels.shape[1], pixels.shape[0]), (width, height)))


def _batches(arrays: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
    return [np.stack(arrays[start : start + BATCH]) for start in range(0, len(arrays), BATCH)]


def _run(engine: Engine, batches: Sequence[npt.NDArray[np.uint8]]) -> Outputs:
    parts = [engine.infer(batch) for batch in batches]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _compare(backend: str, reference: tuple[Outputs, Outputs], other: tuple[Outputs, Outputs]) -> Parity:
    objects = _row_differences(reference[0], other[0], "object")
    faces = _row_differences(reference[0], other[0], "face")
    embeddings = (each[1]["embedding"].astype(np.float64) for each in (reference, other))
    cosine = np.prod(np.stack(list(embeddings)), axis=0).sum(axis=1)
    return Parity(
        backend=backend,
        pictures=len(reference[0]["scene"]),
        faces=len(cosine),
        boxes_px=float(np.maximum(objects[0], faces[0])),
        landmarks_px=float(faces[2]),
        scores=float(np.maximum(objects[1], faces[1])),
        scene=_greatest(reference[0]["scene"], other[0]["scene"]),
        quality=_greatest(reference[1]["quality"], other[1]["quality"]),
        cosine=float(cosine.min()),
    )


def _greatest(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))


def _row_differences(reference: Outputs, other: Outputs, kind: str) -> tuple[float, float, float]:
    """Greatest differences of boxes (px), scores and landmarks (px) between each row and its counterpart.

    Rows whose scores are equal but for rounding may stand in another order, so the counterpart is the row of the same
    label whose box is nearest.
    """
    worst = np.zeros(3)
    for picture in range(len(reference[f"{kind}_scores"])):
        scores = reference[f"{kind}_scores"][picture].astype(np.float64)
        weakest = COMPARED_SCORE
        if len(scores) == CUT_AT[kind]:  # a row as weak as the last one may have missed the cut elsewhere
            weakest = max(weakest, float(scores[-1]) + SCORE)
        rows = np.flatnonzero(~(scores < weakest))  # with those that are not numbers
        if not len(rows):
            continue
        boxes, others = (each[f"{kind}_boxes"][picture].astype(np.float64) for each in (reference, other))
        gaps = np.abs(boxes[rows, None] - others[None]).max(axis=2)
        if kind == "object":
            labels, theirs = (each["object_labels"][picture] for each in (reference, other))
            gaps[labels[rows, None] != theirs[None]] = np.inf
        match = gaps.argmin(axis=1)
        score_gap = np.abs(scores[rows] - other[f"{kind}_scores"][picture].astype(np.float64)[match]).max()
        points = 0.0
        if kind == "face":
            points = _greatest(reference["face_landmarks"][picture][rows], other["face_landmarks"][picture][match])
        worst = np.maximum(worst, (gaps.min(axis=1).max(), score_gap, points))
    return float(worst[0]), float(worst[1]), float(worst[2])
