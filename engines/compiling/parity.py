"""Whether a compiled form gives what the reference gives, on real pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.alignment import SIZE as FACE_SIZE
from engines.arrays import Array, Pictures
from engines.boxes import letterbox
from engines.comparing import BOX_PX, COSINE, SCORE, Gap, Outputs, compare_part
from engines.engine import open_engine
from engines.errors import EngineError
from engines.pictures import letterbox_rgb, read_rgb, resize
from engines.spec import Backend, EntryName, Model
from engines.tasks import REGISTRY, task

BATCH = 8


@dataclass(frozen=True, slots=True)
class Parity:
    """The greatest differences between a backend and the PyTorch reference, f32, in what the model gives."""

    backend: str
    pictures: int
    faces: int
    gaps: Mapping[str, Gap]  # by what differs

    @property
    def holds(self) -> bool:
        """Whether all differences are within their limits."""
        return all(gap.holds for gap in self.gaps.values())

    @property
    def summary(self) -> dict[str, str]:
        """In words, what differs how much, of all that the model gives."""
        return {name: gap.summary for name, gap in self.gaps.items()}


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
    found = [_compare(backend, model, inputs, reference, _outputs(model, backend, inputs)) for backend in backends]
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
    outputs: dict[str, Array] = {}
    for entry, batches in inputs.items():
        with open_engine(model, entry, backend, "f32") as engine:
            parts = [engine.infer(batch) for batch in batches]
        outputs |= {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return outputs


def _compare(
    backend: str,
    model: Model,
    inputs: Mapping[EntryName, Sequence[Pictures]],
    reference: Outputs,
    other: Outputs,
) -> Parity:
    gaps: dict[str, Gap] = {}
    for name in (each.name for each in REGISTRY if each.name in model.spec.network.tasks):
        for what, gap in compare_part(task(name)).gaps(reference, other).items():
            gaps[what] = gap.worse(gaps[what]) if what in gaps else gap
    return Parity(backend, sum(map(len, inputs.get("frame", ()))), sum(map(len, inputs.get("face", ()))), gaps)
