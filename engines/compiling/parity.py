"""Whether a compiled form gives what the reference gives, on real pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.alignment import SIZE as FACE_SIZE
from engines.arrays import Pictures
from engines.boxes import letterbox
from engines.engine import open_engine
from engines.errors import EngineError
from engines.network.entries import MAX_FACES, MAX_OBJECTS
from engines.pictures import letterbox_rgb, read_rgb, resize
from engines.spec import Backend, EntryName, Model

BOX_PX = 0.5
SCORE = 1e-3
COSINE = 0.9999
COMPARED_SCORE = 0.05  # rows below this are noise whose order nothing depends on
BATCH = 8
CUT_AT = {"object": MAX_OBJECTS, "face": MAX_FACES}  # rows of the top-k

Outputs = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Parity:
    """The greatest differences between a backend and the PyTorch reference, f32; None of what the model has not."""

    backend: str
    pictures: int
    faces: int
    boxes_px: float | None
    landmarks_px: float | None
    scores: float | None
    scene: float | None
    quality: float | None
    cosine: float | None  # the least

    @property
    def holds(self) -> bool:
        """Whether all differences are within their limits."""
        # One by one: a difference that is not a number is within no limit, but max() may pass over it.
        return (
            all(gap is None or gap <= BOX_PX for gap in (self.boxes_px, self.landmarks_px))
            and all(gap is None or gap <= SCORE for gap in (self.scores, self.scene, self.quality))
            and (self.cosine is None or self.cosine >= COSINE)
        )

    @property
    def summary(self) -> dict[str, str]:
        """In words, what differs how much, of all that the model gives."""
        pixels = {"boxes": self.boxes_px, "landmarks": self.landmarks_px}
        others = {"scores": self.scores, "scene": self.scene, "quality": self.quality}
        words = {name: f"within {gap:.4f} px" for name, gap in pixels.items() if gap is not None}
        words |= {name: f"within {gap:.1e}" for name, gap in others.items() if gap is not None}
        return words if self.cosine is None else {**words, "embeddings": f"cosine at least {self.cosine:.6f}"}


def check_parity(
    model: Model, backends: Sequence[Backend], pictures: Sequence[Path], faces: Sequence[Path]
) -> list[Parity]:
    """Compare backends with PyTorch, all f32, on picture files and face crop files.

    An entry that the model does not have needs no files, and is not compared.

    Raises:
        EngineError: a difference is beyond its limit; nothing should be released then.
        BackendUnavailable: a backend cannot run here.
    """
    inputs: dict[EntryName, list[Pictures]] = {}
    if (entry := model.spec.frame) is not None:
        inputs["frame"] = _batches([_fitted(path, entry.width, entry.height) for path in pictures])
    if model.spec.face is not None:
        inputs["face"] = _batches([resize(read_rgb(path), (FACE_SIZE, FACE_SIZE)) for path in faces])
    reference = _outputs(model, "torch", inputs)
    found = [_compare(backend, inputs, reference, _outputs(model, backend, inputs)) for backend in backends]
    failed = [each for each in found if not each.holds]
    if failed:
        raise EngineError(f"parity with PyTorch is broken beyond {BOX_PX} px, {SCORE} or cosine {COSINE}: {failed}")
    return found


def _fitted(path: Path, width: int, height: int) -> Pictures:
    pixels = read_rgb(path)
    return letterbox_rgb(pixels, letterbox((pixels.shape[1], pixels.shape[0]), (width, height)))


def _batches(arrays: Sequence[Pictures]) -> list[Pictures]:
    return [np.stack(arrays[start : start + BATCH]) for start in range(0, len(arrays), BATCH)]


def _outputs(model: Model, backend: Backend, inputs: Mapping[EntryName, Sequence[Pictures]]) -> Outputs:
    """What a backend gives for the pictures of every entry."""
    outputs: Outputs = {}
    for entry, batches in inputs.items():
        with open_engine(model, entry, backend, "f32") as engine:
            parts = [engine.infer(batch) for batch in batches]
        outputs |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return outputs


def _compare(
    backend: str, inputs: Mapping[EntryName, Sequence[Pictures]], reference: Outputs, other: Outputs
) -> Parity:
    kinds = [kind for kind in CUT_AT if f"{kind}_scores" in reference]
    rows = {kind: _row_differences(reference, other, kind) for kind in kinds}
    cosine = None
    if "embedding" in reference:
        embeddings = np.stack([each["embedding"].astype(np.float64) for each in (reference, other)])
        cosine = float(np.prod(embeddings, axis=0).sum(axis=1).min())
    return Parity(
        backend=backend,
        pictures=sum(map(len, inputs.get("frame", ()))),
        faces=sum(map(len, inputs.get("face", ()))),
        boxes_px=float(np.max([boxes for boxes, _, _ in rows.values()])) if rows else None,
        landmarks_px=rows["face"][2] if "face" in rows else None,
        scores=float(np.max([scores for _, scores, _ in rows.values()])) if rows else None,
        scene=_greatest(reference["scene"], other["scene"]) if "scene" in reference else None,
        quality=_greatest(reference["quality"], other["quality"]) if "quality" in reference else None,
        cosine=cosine,
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
