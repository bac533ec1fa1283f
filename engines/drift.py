"""How far one form of an entry is from another in what it says about the same pictures."""

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from engines.boxes import iou_matrix
from engines.spec import ENTRY_OF, EntryName, Task

COUNTED_SCORE = 0.05  # rows below this are noise that nothing depends on

Outputs = Mapping[str, npt.NDArray[np.generic]]


def drift(entry: EntryName, tasks: Collection[Task], reference: Outputs, other: Outputs) -> dict[Task, float]:
    """What each task of an entry has lost of the reference, from 0 (nothing) to 1 (everything).

    * objects, faces: 1 less the agreement of the reference's rows, weighted by their scores. A row agrees by the IoU
      with its best counterpart of the same label times the smaller of both scores over the greater.
    * scene: the total variation distance of the probabilities.
    * identity: 1 less the cosine of the embeddings, at most 1.

    Args:
        entry: whose outputs they are.
        tasks: those of the model.
        reference: the outputs in f32, batch first.
        other: the outputs of another form for the same batch. What is not a number agrees with nothing.
    """
    found: dict[Task, float] = {}
    for task in tasks:
        if ENTRY_OF[task] != entry:
            continue
        match task:
            case "objects":
                found[task] = _of_rows(reference, other, "object")
            case "faces":
                found[task] = _of_rows(reference, other, "face")
            case "scene":
                gaps = np.abs(_floats(reference, "scene") - _floats(other, "scene")).sum(axis=1) / 2
                found[task] = _share(float(gaps.mean()))
            case "identity":
                cosines = (_floats(reference, "embedding") * _floats(other, "embedding")).sum(axis=1)
                found[task] = _share(1.0 - float(cosines.mean()))
    return found


def _of_rows(reference: Outputs, other: Outputs, kind: str) -> float:
    agreed = weights = 0.0
    for picture, scores in enumerate(_floats(reference, f"{kind}_scores")):
        rows = np.flatnonzero(scores >= COUNTED_SCORE)
        theirs = _floats(other, f"{kind}_scores")[picture]
        if not len(rows):
            continue
        boxes, others = (each[f"{kind}_boxes"][picture].astype(np.float32) for each in (reference, other))
        agreement = iou_matrix(boxes[rows], others).astype(np.float64)
        if kind == "object":
            labels, their_labels = (each["object_labels"][picture] for each in (reference, other))
            agreement[labels[rows, None] != their_labels[None]] = 0.0
        least, most = (bound(scores[rows, None], theirs[None]) for bound in (np.minimum, np.maximum))
        best = np.nan_to_num(agreement * least / most, nan=0.0).max(axis=1)
        agreed += float((best * scores[rows]).sum())
        weights += float(scores[rows].sum())
    return _share(1.0 - agreed / weights) if weights else 0.0


def _floats(outputs: Outputs, name: str) -> npt.NDArray[np.float64]:
    return outputs[name].astype(np.float64)


def _share(value: float) -> float:
    """Clipped to [0, 1]; 1 for what is not a number."""
    return min(1.0, max(0.0, value)) if np.isfinite(value) else 1.0
