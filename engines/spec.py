"""The model folder: what a network is called, what goes in, what comes out.

A model is a folder that holds ``spec.json`` (a :class:`ModelSpec`), one ONNX file per entry, ``weights.pt`` for
the PyTorch engine and for further training, and ``MODEL_CARD.md``; where it was compiled to int8, those files, too.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
import numpy as np

from engines.arrays import Array
from engines.errors import EngineError, ModelError
from engines.files import write_whole
from engines.meanings import NONE_OF_THESE as NONE_OF_THESE
from engines.meanings import SceneGroup as SceneGroup
from engines.meanings import ScoreCurves as ScoreCurves
from engines.meanings import Share as Share
from engines.meanings import Thresholds as Thresholds
from engines.model_files import check_format, model_file, spec_bytes
from engines.tasks import REGISTRY
from engines.tasks import EntryName as EntryName
from engines.undecodable import UNDECODABLE
from engines.zoo import model_folder

TaskName = str  # of a task of engines.tasks
Activation = Literal["relu", "silu", "hardswish"]
Backend = str  # its name, as engines/backends/base.py finds it
Precision = Literal["auto", "f32", "bf16", "f16", "int8"]
FORMAT = 1  # of spec.json: one that this version cannot read has a higher number
INPUT = "images"  # the one input of every entry's ONNX file: uint8 RGB (N, H, W, 3)
HEIGHT, WIDTH = "height", "width"  # what its file calls sides that an engine chooses when it opens it
TASKS: tuple[TaskName, ...] = tuple(task.name for task in REGISTRY)
USUAL_TASKS: tuple[TaskName, ...] = tuple(task.name for task in REGISTRY if not task.optional)
ENTRY_OF: dict[TaskName, EntryName] = {task.name: task.entry for task in REGISTRY}
OUTPUTS_OF: dict[TaskName, tuple[str, ...]] = {task.name: task.outputs for task in REGISTRY}
Positive = Annotated[int, msgspec.Meta(gt=0)]


def output_names(entry: EntryName, tasks: Collection[TaskName] = USUAL_TASKS) -> tuple[str, ...]:
    """The outputs of an entry of a network with these tasks, in the order in which the entry gives them.

    >>> output_names("frame", ["scene", "objects", "identity"])
    ('object_boxes', 'object_scores', 'object_labels', 'scene')
    """
    own = (task for task in TASKS if task in tasks and ENTRY_OF[task] == entry)
    return tuple(name for task in own for name in OUTPUTS_OF[task])


class NetworkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of the network; everything needed to build it again around its weights."""

    tasks: tuple[TaskName, ...] = USUAL_TASKS  # what it has heads for
    channels: tuple[Positive, Positive, Positive, Positive, Positive] = (16, 32, 48, 96, 128)  # stem, stages 1-4
    depths: tuple[Positive, Positive, Positive, Positive] = (1, 1, 1, 1)  # residual blocks of stages 1-4
    neck: Positive = 32  # channels of each pyramid level
    towers: Positive = 2  # 3x3 convolutions in each head's tower
    class_width: Positive | None = None  # of a convolution for the scores of objects alone; None: boxes share it
    activation: Activation = "relu"
    normalisation: Literal["batch", "group"] = "batch"
    dropout: Share = 0.1  # before the scene and the identity layers
    embedding: Positive = 128
    mirrored_faces: bool = False  # what heads say of a face is the mean of it and its mirror image

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) != len(self.tasks) or not set(self.tasks) <= set(TASKS):
            raise ValueError(f"tasks must name at least one of {', '.join(TASKS)}, each once, got {list(self.tasks)}")

    @property
    def entries(self) -> tuple[EntryName, ...]:
        """The entries that the tasks need."""
        needed = {ENTRY_OF[task] for task in self.tasks}
        return tuple(entry for entry in get_args(EntryName) if entry in needed)


class EntrySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way into the network: an ONNX file, its input size in pixels and the outputs it gives."""

    file: str
    sha256: str
    height: Positive
    width: Positive
    outputs: dict[str, tuple[int, ...]]  # name -> shape without the batch dimension
    multiple_of: Positive | None = None  # takes any sides that are multiples of it; None: takes its size alone

    def check(self, batch: Array) -> None:
        """Raise EngineError unless ``batch`` is uint8 (N, height, width, 3) with at least one picture."""
        if batch.dtype != np.uint8:
            raise EngineError(f"batch must be uint8, got {batch.dtype}")
        if batch.ndim != 4 or batch.shape[1:] != (self.height, self.width, 3) or len(batch) == 0:
            raise EngineError(f"batch must have shape (N >= 1, {self.height}, {self.width}, 3), got {batch.shape}")

    def check_outputs(self, outputs: Mapping[str, Array], count: int) -> None:
        """Raise EngineError unless these are all outputs of ``count`` pictures, in their shapes, without a NaN.

        A NaN compares as false, so that nothing would be seen, and what is smoothed over time would never be rid of it.
        """
        for name, shape in self.outputs.items():
            values = outputs.get(name)
            if values is None or values.shape != (count, *shape):
                found = "missing" if values is None else values.shape
                raise EngineError(f"output {name!r} of {self.file} is {found}, but must be {(count, *shape)}")
            if np.isnan(values).any():
                raise EngineError(f"output {name!r} of {self.file} has values that are no numbers (NaN)")


class ComparedSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Validation faces that an identity threshold was taken from."""

    name: str
    people: Positive
    tracks: Positive  # pooled faces, several of each person
    comparisons: Positive  # of a track with another person
    similarity: Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]  # the threshold on this set alone


class IdentityCalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``identity_similarity`` stands for: how often a stranger's track is given a name, and on which faces."""

    false_accept_rate: Share  # of the tracks of people who are not enrolled
    people: Positive  # enrolled
    track_views: Positive  # pooled into a track, at most
    enrolled_views: Positive  # of each person, at most
    sets: tuple[ComparedSet, ...]  # the highest of their thresholds was taken


class CheckPictures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pictures that an int8 file is compared with its f32 file on, before a processor runs it for the first time."""

    file: str  # JPEG: squares of one size below each other
    sha256: str
    count: Positive
    drift: dict[TaskName, Share]  # of the int8 file where no sum overflows; see engines.drift


class QuantisedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The int8 form of an entry."""

    file: str
    sha256: str
    layers: Positive  # that could be int8: all but the heads' outputs
    float_layers: tuple[str, ...]  # those of them that the accuracy gate put back into float, by node name
    calibrated_on: dict[str, Positive]  # folder of the training data -> pictures
    check: CheckPictures | None = None  # None: files of earlier versions, which no processor can check


class GateFigure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task's figure in f32 and in int8, on the validation data."""

    task: str
    figure: str
    backend: Backend
    f32: float
    int8: float
    loss: float  # share of the f32 figure; below 0 where int8 is better
    instructions: str | None = None  # what multiplied in 8 bits, see engines.hardware; None: nobody noted it
    simulated: bool = False  # in f32, since the processor that measured it has other instructions


class Quantised(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The int8 form of a model, and the accuracy gate that it passed."""

    files: dict[EntryName, QuantisedFile]
    tolerance: Share  # the greatest loss that the gate let through
    figures: tuple[GateFigure, ...]


class ImportedDetector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The detector of another project that finds a model's objects."""

    file: str
    sha256: str  # of that file
    layout: str  # of engines.detectors
    beside: str | None  # name of the model that has all other tasks
    faces_of: str | None  # its fingerprint: embeddings are comparable with that model's


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``spec.json``."""

    format: Literal[1]
    name: str
    frame: EntrySpec | None  # None where the network has no task of whole frames
    face: EntrySpec | None  # None where it does not tell identities
    objects: tuple[str, ...]  # object labels, in the order of the network's classes
    scenes: tuple[str, ...]  # scene labels
    network: NetworkSettings
    weights: str = "weights.pt"
    thresholds: Thresholds = Thresholds()
    identity_calibration: IdentityCalibration | None = None  # None: nobody knows what the similarity stands for
    int8: Quantised | None = None  # for OpenVINO and ONNX Runtime
    int8_tensorrt: Quantised | None = None  # TensorRT takes other files
    imported: ImportedDetector | None = None  # None: all of it is a network of ours
    scene_groups: tuple[SceneGroup, ...] = ()  # what a run tells in place of the scenes; empty: the scenes
    known_as: str | None = None  # the fingerprint before its files were written anew around the same weights

    @property
    def scene_labels(self) -> tuple[str, ...]:
        """What a run tells of scenes: their groups, or the scenes themselves."""
        return tuple(group.name for group in self.scene_groups) or self.scenes

    def entry(self, name: EntryName) -> EntrySpec:
        """The spec of one entry.

        Raises:
            ModelError: the model has no such entry.
        """
        found = self.frame if name == "frame" else self.face
        if found is None:
            raise ModelError(f"model {self.name!r} has no {name} entry: it knows {', '.join(self.network.tasks)} alone")
        return found


@dataclass(frozen=True, slots=True)
class Model:
    """A model folder that was read and whose files are what its spec says."""

    path: Path
    spec: ModelSpec
    reference: "Model | None" = None  # the same at the size that it was made for; None: this one is

    @property
    def at_reference(self) -> "Model":
        """The model at the size that it was made for."""
        return self.reference or self

    def file(self, entry: EntryName, precision: Precision = "auto", backend: Backend | None = None) -> Path:
        """Path of the ONNX file of an entry that engines of this precision run; of int8, TensorRT has its own.

        Raises:
            ModelError: int8 was asked for, and the model was not compiled to it.
        """
        if precision != "int8":
            return self.path / self.spec.entry(entry).file
        int8 = self.spec.int8_tensorrt if backend == "tensorrt" else self.spec.int8
        if int8 is None or entry not in int8.files:
            where = " --backend tensorrt" if backend == "tensorrt" else ""
            raise ModelError(
                f"model {self.path}: has no int8 file of the {entry} entry{' for TensorRT' if where else ''}; "
                f"make it with: trunkline compile {self.path}{where} --precision int8 --data DATA"
            )
        return self.path / int8.files[entry].file

    @property
    def weights(self) -> Path:
        """Path of the PyTorch weights.

        Raises:
            ModelError: they are not there.
        """
        path = self.path / self.spec.weights
        if self.spec.imported:
            raise ModelError(
                f"model {self.path}: was imported from {self.spec.imported.file} and has no weights for PyTorch; its "
                "ONNX files run with the backends 'openvino', 'onnxruntime' and 'tensorrt'"
            )
        if not path.is_file():
            raise ModelError(
                f"model {self.path}: {path.name} is missing, which PyTorch and training need; installed packages have "
                "the released models without it, a checkout of the source has it"
            )
        return path

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when either f32 file changes; embeddings are comparable within one.

        Compiled forms have it, too: they are the same model. So has a model that a detector was put beside.
        """
        if self.spec.imported and self.spec.imported.faces_of:
            return self.spec.imported.faces_of
        if self.spec.known_as:
            return self.spec.known_as
        text = "".join(entry.sha256 for entry in (self.spec.frame, self.spec.face) if entry)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def require(self, tasks: Collection[str], what: str) -> None:
        """Raise ModelError, saying ``what`` needs them, unless the model has all of these tasks."""
        if not set(tasks) <= set(self.spec.network.tasks):
            raise ModelError(
                f"{what} needs a model that knows {', '.join(tasks)}; "
                f"model {self.path} knows {', '.join(self.spec.network.tasks)}"
            )


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(path: str | Path) -> Model:
    """Read a model folder and check its files against its spec.

    Args:
        path: of the folder, or the name of a released model (``n``).

    Raises:
        ModelError: the name is a folder's, too; the folder or a file is missing, ``spec.json`` is not valid or its
            entries are not those of its tasks, or a file's hash differs.
    """
    folder = model_folder(path)
    spec_file = folder / "spec.json"
    try:
        content = spec_bytes(spec_file)
        check_format(content, FORMAT, spec_file)
        spec = msgspec.json.decode(content, type=ModelSpec)
    except OSError as error:
        raise ModelError(f"model {folder}: cannot read {spec_file.name}: {error.strerror}") from error
    except UNDECODABLE as error:
        raise ModelError(f"model {folder}: {spec_file.name} is not valid: {error}") from error
    _check_entries(spec, folder)
    parts: list[EntrySpec | QuantisedFile | CheckPictures] = [entry for entry in (spec.frame, spec.face) if entry]
    int8 = [file for form in (spec.int8, spec.int8_tensorrt) if form for file in form.files.values()]
    parts += [*int8, *(file.check for file in int8 if file.check)]
    for part in parts:
        found = sha256_of(model_file(folder, part.file))
        if found != part.sha256:
            raise ModelError(
                f"model {folder}: {part.file} does not match spec.json: "
                f"sha256 is {found[:12]}..., expected {part.sha256[:12]}..."
            )
    return Model(folder, spec)


def write_spec(spec: ModelSpec, folder: Path) -> None:
    """Write ``spec.json``, atomically."""
    text = msgspec.json.format(msgspec.json.encode(spec), indent=2)
    write_whole(folder / "spec.json", text + b"\n")


def _check_entries(spec: ModelSpec, folder: Path) -> None:
    """Raise ModelError unless the entries give what the tasks need, and there is no other entry."""
    scores, curves = spec.thresholds.object_scores, spec.thresholds.object_curves
    for what, count in (("object_scores", scores and len(scores)), ("object_curves", curves and len(curves.values))):
        if count is not None and count != len(spec.objects):
            raise ModelError(f"model {folder}: spec.json has {count} {what}, but {len(spec.objects)} objects")
    grouped = [scene for group in spec.scene_groups for scene in group.scenes]
    if len(set(grouped)) < len(grouped) or not set(grouped) <= set(spec.scenes):
        raise ModelError(f"model {folder}: spec.json must have only its scenes in scene_groups, and each of them once")
    for name, entry in (("frame", spec.frame), ("face", spec.face)):
        tasks = [task for task in spec.network.tasks if ENTRY_OF[task] == name]
        if entry is None and tasks:
            raise ModelError(f"model {folder}: spec.json says it knows {', '.join(tasks)}, but has no {name} entry")
        if entry is not None and not tasks:
            raise ModelError(f"model {folder}: spec.json has a {name} entry, but none of its tasks")
        missing = [output for task in tasks for output in OUTPUTS_OF[task] if entry and output not in entry.outputs]
        if missing:
            raise ModelError(
                f"model {folder}: spec.json says it knows {', '.join(tasks)}, "
                f"but its {name} entry gives no {', '.join(missing)}"
            )
