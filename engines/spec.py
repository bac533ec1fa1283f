"""The model folder: what a network is called, what goes in, what comes out.

A model is a folder that holds ``spec.json`` (a :class:`ModelSpec`), one ONNX file per entry, ``weights.pt`` for
the PyTorch engine and for further training, and ``MODEL_CARD.md``.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from engines.errors import EngineError, ModelError

EntryName = Literal["frame", "face"]
Backend = Literal["tensorrt", "openvino", "onnxruntime", "torch"]
Precision = Literal["auto", "f32", "bf16", "f16"]
INPUT = "images"  # the one input of every entry's ONNX file: uint8 RGB (N, H, W, 3)
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Positive = Annotated[int, msgspec.Meta(gt=0)]


class NetworkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of the network; everything needed to build it again around its weights."""

    channels: tuple[Positive, Positive, Positive, Positive, Positive] = (16, 32, 48, 96, 128)  # stem, stages 1-4
    depths: tuple[Positive, Positive, Positive, Positive] = (1, 1, 1, 1)  # residual blocks of stages 1-4
    neck: Positive = 32  # channels of each pyramid level
    towers: Positive = 2  # 3x3 convolutions in each head's tower
    activation: Literal["relu", "silu", "hardswish"] = "relu"
    normalisation: Literal["batch", "group"] = "batch"
    dropout: Share = 0.1  # before the scene and the identity layers
    embedding: Positive = 128


class EntrySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way into the network: an ONNX file, its input size in pixels and the outputs it gives."""

    file: str
    sha256: str
    height: Positive
    width: Positive
    outputs: dict[str, tuple[int, ...]]  # name -> shape without the batch dimension

    def check(self, batch: npt.NDArray[np.generic]) -> None:
        """Raise EngineError unless ``batch`` is uint8 (N, height, width, 3) with at least one picture."""
        if batch.dtype != np.uint8:
            raise EngineError(f"batch must be uint8, got {batch.dtype}")
        if batch.ndim != 4 or batch.shape[1:] != (self.height, self.width, 3) or len(batch) == 0:
            raise EngineError(f"batch must have shape (N >= 1, {self.height}, {self.width}, 3), got {batch.shape}")


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the model's scores start to mean something; a pipeline configuration may override them."""

    object_score: Share = 0.35
    object_iou: Share = 0.45  # NMS overlap
    face_score: Share = 0.45
    face_iou: Share = 0.4
    identity_similarity: Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)] = 0.5  # cosine


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``spec.json``."""

    format: Literal[1]
    name: str
    frame: EntrySpec
    face: EntrySpec
    objects: tuple[str, ...]  # object labels, in the order of the network's classes
    scenes: tuple[str, ...]  # scene labels
    network: NetworkSettings
    weights: str = "weights.pt"
    thresholds: Thresholds = Thresholds()

    def entry(self, name: EntryName) -> EntrySpec:
        """The spec of one entry."""
        return self.frame if name == "frame" else self.face


@dataclass(frozen=True, slots=True)
class Model:
    """A model folder that was read and whose files are what its spec says."""

    path: Path
    spec: ModelSpec

    def file(self, entry: EntryName) -> Path:
        """Path of the ONNX file of an entry."""
        return self.path / self.spec.entry(entry).file

    @property
    def weights(self) -> Path:
        """Path of the PyTorch weights."""
        return self.path / self.spec.weights

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when either ONNX file changes; embeddings are comparable within one."""
        text = f"{self.spec.frame.sha256}{self.spec.face.sha256}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(path: str | Path) -> Model:
    """Read a model folder and check its files against its spec.

    Raises:
        ModelError: the folder or a file is missing, ``spec.json`` is not valid, or a file's hash differs.
    """
    folder = Path(path)
    spec_file = folder / "spec.json"
    try:
        spec = msgspec.json.decode(spec_file.read_bytes(), type=ModelSpec)
    except OSError as error:
        raise ModelError(f"model {folder}: cannot read {spec_file.name}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"model {folder}: {spec_file.name} is not valid: {error}") from error
    for entry in (spec.frame, spec.face):
        file = folder / entry.file
        if not file.is_file():
            raise ModelError(f"model {folder}: {entry.file} is missing")
        found = sha256_of(file)
        if found != entry.sha256:
            raise ModelError(
                f"model {folder}: {entry.file} does not match spec.json: "
                f"sha256 is {found[:12]}..., expected {entry.sha256[:12]}..."
            )
    return Model(folder, spec)
