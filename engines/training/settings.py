"""The training configuration: frozen structs read from TOML."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from engines import toml
from engines.alignment import SIZE as FACE_SIZE
from engines.data.sources import Coco, FaceSource, Folders, ObjectSource, Voc
from engines.errors import ConfigError
from engines.spec import TASKS, USUAL_TASKS, EntryName, NetworkSettings, Positive, Share, TaskName
from engines.tasks import task

FRAME_SIZE = 320  # side of the exported frame entry where nothing else is said, pixels
COARSEST_STRIDE = 32  # of the pyramid, pixels
NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Shape = tuple[int, int]  # width, height in pixels
Kind = str  # what a picture's label is: boxes, or that of a task which labels whole pictures
BalanceKind = Literal["fixed", "uncertainty", "famo"]


class _TrainingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class AugmentationSettings(_TrainingSection, frozen=True, kw_only=True):
    """How pictures are varied, all batched. A share is the part of the pictures that it happens to."""

    scale: tuple[NonNegative, NonNegative] = (0.6, 1.7)  # of the letterbox's own; above 1 crops
    shift: Share = 0.15  # of the input's side
    stretch: NonNegative = 0.1  # width by e^x and height by e^-x, x up to this either way
    rotate_deg: NonNegative = 5.0
    flip: Share = 0.5
    brightness: NonNegative = 0.3
    contrast: NonNegative = 0.3
    saturation: NonNegative = 0.5
    grey: Share = 0.1
    low_light: Share = 0.05  # dark and grainy
    blur: Share = 0.1
    noise: NonNegative = 6.0  # grey levels, at most
    jpeg: Share = 0.1
    erase: Share = 0.1
    paste_faces: Share = 0.0  # with a large face of the set that faces_from names
    paste_objects: Share = 0.0  # with an object of another picture of the same set

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must rise from more than 0, got {list(self.scale)}")


class _Defaults(NamedTuple):
    batch: int
    size: int


BOXES, FRAMES, FACES = _Defaults(16, 288), _Defaults(32, 160), _Defaults(64, FACE_SIZE)


class DatasetSettings(_TrainingSection, frozen=True, kw_only=True):
    """A set of pictures and where its labels come from. A task that is not named here gets no loss from it.

    All paths are relative to the folder of the data.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    images: str | None = None  # folder of the pictures that objects and faces are labelled in
    objects: ObjectSource | None = None
    objects_silver: Coco | None = None  # a detector's boxes, for the classes that the labels of a picture do not cover
    faces: FaceSource | None = None
    scene: Folders | None = None
    identity: Folders | None = None
    labels: dict[TaskName, dict[str, Any]] = {}  # one task that has no key of its own -> its table
    group: str | None = None  # regular expression; pictures whose names it matches alike show the same thing
    batch: Annotated[int, msgspec.Meta(ge=0)] = 0  # pictures of one micro-batch; 0: what suits the kind
    size: Annotated[int, msgspec.Meta(ge=0)] = 0  # side of the square that training sees, pixels; 0: as above
    shapes: tuple[Shape, ...] = ()  # that training sees in place of the square, one drawn for each micro-batch
    canvas: Annotated[int, msgspec.Meta(ge=0)] = 0  # side of the squares in memory, pixels; 0: a third more than size
    weight: NonNegative = 1.0  # factor on the share of micro-batches that its size gives it
    mosaic: Share = 0.0  # share of micro-batches made of 2x2 mosaics
    repeat: Share = 0.0  # pictures of object classes that a smaller share of them shows come more often; 0: none does
    faces_from: str | None = None  # name of the set whose faces paste_faces takes
    augmentation: AugmentationSettings = AugmentationSettings()

    @property
    def learnt(self) -> "DatasetSettings":
        """The set as training knows it: without what only scoring asks for."""

        def plain(source: FaceSource | None) -> FaceSource | None:
            return msgspec.structs.replace(source, machine_made=()) if isinstance(source, Coco) else source

        return msgspec.structs.replace(self, objects=plain(self.objects), faces=plain(self.faces))

    @property
    def labelled(self) -> tuple[TaskName, ...]:
        """The tasks that the set has labels of."""
        return tuple(name for name in TASKS if name in self.labels or getattr(self, name, None) is not None)

    @property
    def kind(self) -> Kind:
        """What one picture's label is."""
        if self.identity is not None:
            return "identity"
        return next(iter(self.labels), "boxes" if self.scene is None else "scene")

    @property
    def entry(self) -> EntryName:
        """Which entry sees the pictures."""
        return entry_of(self.kind)

    @property
    def source(self) -> Any:
        """The table under ``labels``, as the task's ``data.py`` describes it."""
        ((name, table),) = self.labels.items()
        return msgspec.convert(table, data_source(name))

    def __post_init__(self) -> None:
        self._check_sources()
        suited = BOXES if self.kind == "boxes" else FACES if self.entry == "face" else FRAMES
        self._fill("batch", self.batch or suited.batch)
        self._fill("size", self.size or suited.size)
        self._fill("canvas", self.canvas or self._suited_canvas())
        self._check_sizes()
        self._check_shapes()
        if self.group is not None:
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(f"group must be a regular expression, got {self.group!r}: {error}") from error

    def _fill(self, key: str, value: int) -> None:
        msgspec.structs.force_setattr(self, key, value)

    def _suited_canvas(self) -> int:
        return FACE_SIZE if self.entry == "face" else math.ceil(self.size * 4 / 3 / COARSEST_STRIDE) * COARSEST_STRIDE

    def _check_sources(self) -> None:
        boxes = self.objects is not None or self.faces is not None
        if boxes + (self.scene is not None) + (self.identity is not None) + len(self.labels) != 1:
            raise ValueError(
                f"dataset {self.name!r} must label objects and faces, or scene, or identity, or one task under "
                "labels, and just one"
            )
        self._check_labels()
        if boxes and self.images is None:
            raise ValueError(f"images must name the folder of the pictures of {self.name!r}")
        if not boxes and self.images is not None:
            raise ValueError(f"images must be left out where folders are the labels, got {self.images!r}")
        if isinstance(self.faces, Voc) and not self.faces.classes:
            raise ValueError('faces in voc format must say which classes are faces, as in classes = ["face"]')
        if self.objects_silver is not None and self.objects is None:
            raise ValueError(
                f"objects_silver must stand beside objects: name a detector's boxes alone as objects of {self.name!r}"
            )
        if isinstance(self.objects, Coco) and self.objects.points is not None:
            raise ValueError(f"points must be left out of objects, which have none, got {self.objects.points!r}")
        if self.scene is not None and self.scene.points is not None:
            raise ValueError(f"points must be left out of scene, got {self.scene.points!r}")
        if self.scene is not None and self.scene.pairs is not None:
            raise ValueError(f"pairs must be left out of scene, got {self.scene.pairs!r}")

    def _check_labels(self) -> None:
        own = [name for name in TASKS if name not in USUAL_TASKS]
        for name in self.labels:
            if name not in own:
                raise ValueError(f"labels must be of a task without a key of its own ({', '.join(own)}), got {name!r}")
            self.source  # noqa: B018  # raises what is wrong with it

    def _check_shapes(self) -> None:
        for width, height in self.shapes:
            if self.kind != "boxes" or width % COARSEST_STRIDE or height % COARSEST_STRIDE or not width or not height:
                raise ValueError(
                    f"shapes must be [width, height] in multiples of {COARSEST_STRIDE} of a set with boxes, "
                    f"got {[width, height]}"
                )

    def _check_sizes(self) -> None:
        if self.entry == "face" and (self.size, self.canvas) != (FACE_SIZE, FACE_SIZE):
            raise ValueError(f"size and canvas must be {FACE_SIZE} for {self.kind}, got {self.size} and {self.canvas}")
        if self.entry != "face" and self.size % COARSEST_STRIDE:
            raise ValueError(f"size must be a multiple of {COARSEST_STRIDE} for {self.kind}, got {self.size}")
        if self.canvas % 2:
            raise ValueError(f"canvas must be even, got {self.canvas}")
        vary = self.augmentation
        mixed = {"mosaic": self.mosaic, "paste_faces": vary.paste_faces, "paste_objects": vary.paste_objects}
        for key, value in mixed.items():
            if value and self.kind != "boxes":
                raise ValueError(f"{key} must be 0 for {self.kind}, whose pictures have one label each, got {value}")
        if vary.paste_faces and (self.faces is None or self.faces_from is None):
            raise ValueError("paste_faces must be 0 without faces, and while faces_from names no set to take them of")
        if vary.paste_objects and self.objects is None:
            raise ValueError("paste_objects must be 0 where there are no objects")


def entry_of(kind: Kind) -> EntryName:
    """Which entry sees the pictures of sets of a kind."""
    return "frame" if kind == "boxes" else task(kind).entry


def data_source(name: TaskName) -> type[Any]:
    """The type of the table under ``labels`` that describes a set of this task."""
    source: type[Any] = task(name).part("data").SOURCE
    return source


def check_names(datasets: Sequence[DatasetSettings]) -> None:
    """Refuse two sets of one name, and a ``faces_from`` that names no set with faces.

    Raises:
        ValueError: as above.
    """
    by_name = {entry.name: entry for entry in datasets}
    if len(by_name) < len(datasets):
        names = [entry.name for entry in datasets]
        raise ValueError(f"datasets must have names of their own, got {', '.join(names)}")
    for entry in datasets:
        if entry.faces_from is not None and (
            entry.faces_from not in by_name or by_name[entry.faces_from].faces is None
        ):
            raise ValueError(f"faces_from must name a dataset that labels faces, got {entry.faces_from!r}")


class LossSettings(_TrainingSection, frozen=True, kw_only=True):
    """Weights of the weighted sum. Each task's loss is first divided by its own initial value."""

    balance: BalanceKind = "fixed"  # whether the weights stay as they are, or are adapted while training
    objects: NonNegative = 1.0
    faces: NonNegative = 1.0
    scene: NonNegative = 1.0
    identity: NonNegative = 1.0
    label_smoothing: Share = 0.1
    identity_scale: NonNegative = 32.0
    identity_margin: NonNegative = 0.3
    distillation: Share = 0.5  # what a teacher's word counts for, against the label's; without teacher it is not used
    others: dict[TaskName, NonNegative] = {}  # of tasks that have no key of their own; 1 where none is said

    def weight(self, name: TaskName) -> float:
        """That of a task's loss."""
        own: float = getattr(self, name) if name in USUAL_TASKS else self.others.get(name, 1.0)
        return own


class DenseSettings(_TrainingSection, frozen=True, kw_only=True):
    """A detector that says of every cell of each micro-batch what it sees (:mod:`engines.training.dense`)."""

    detector: str  # ONNX file of a YOLOX, relative to the folder of the data
    channels: Literal["rgb", "bgr"] = "bgr"  # in which order it takes them
    weight: NonNegative = 1.0  # of its scores and boxes, beside the labels'
    maps: NonNegative = 1.0  # of the likeness of our pyramid to the maps that it makes them from


class PhaseSettings(_TrainingSection, frozen=True, kw_only=True):
    """A part of the run: how large its pictures are, and whether mosaics are made."""

    share: Share  # of the run's steps
    size: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0  # of each set's size, rounded to whole strides
    mosaic: bool = True

    def shapes(self, entry: DatasetSettings) -> tuple[Shape, ...]:
        """Width and height of a set's pictures in this phase, pixels; one of several. Aligned faces have one only."""
        if entry.entry == "face":
            return ((entry.size, entry.size),)
        whole = entry.shapes or ((entry.size, entry.size),)
        return tuple(dict.fromkeys((self._scaled(width), self._scaled(height)) for width, height in whole))

    def _scaled(self, side: int) -> int:
        return max(1, round(side * self.size / COARSEST_STRIDE)) * COARSEST_STRIDE


class ValidationSettings(_TrainingSection, frozen=True, kw_only=True):
    """When the averaged weights are scored on the validation data, and when the run ends early."""

    steps: Positive  # between two validations
    limit: Positive | None = None  # pictures, or pairs, of each set; None: all
    frame_size: Positive = FRAME_SIZE  # side of the exported frame entry, pixels
    patience: Positive | None = None  # validations without a better score after which the run ends; None: it never does
    least_gain: NonNegative = 0.001  # by which a score must exceed the best one to be better

    def __post_init__(self) -> None:
        if self.frame_size % COARSEST_STRIDE:
            raise ValueError(f"frame_size must be a multiple of {COARSEST_STRIDE}, got {self.frame_size}")


class TrainingSettings(_TrainingSection, frozen=True, kw_only=True):
    """A whole training run."""

    name: str
    network: NetworkSettings = NetworkSettings()
    datasets: Annotated[tuple[DatasetSettings, ...], msgspec.Meta(min_length=1)]
    validation_sets: tuple[DatasetSettings, ...] = ()  # where the figures come from; (): the standard folders
    loss: LossSettings = LossSettings()
    dense: DenseSettings | None = None
    objects: tuple[str, ...] = ()  # the classes that are learnt, in their order; (): all that the sets label
    steps: Positive
    phases: tuple[PhaseSettings, ...] = (PhaseSettings(share=0.85), PhaseSettings(share=0.15, mosaic=False))
    micro_batches: Positive = 5  # per step
    temperature: Share = 0.25  # sampling in proportion to (dataset size)^temperature
    optimiser: Literal["adamw", "muon"] = "adamw"  # muon: that of convolutions between several channels; else AdamW
    learning_rate: NonNegative = 2e-3
    weight_decay: NonNegative = 0.05
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] = 300
    clip_norm: NonNegative = 10.0
    ema_decay: Share = 0.999
    checkpoint_steps: Positive = 250
    gradient_steps: Annotated[int, msgspec.Meta(ge=0)] = 200  # between two logs of the tasks' gradients; 0: none
    validation: ValidationSettings | None = None
    frozen_stages: Annotated[int, msgspec.Meta(ge=0, le=4)] = 0  # of the trunk, and its stem, that stay as they began
    frozen_statistics: bool = False  # normalise by those that --init has, as the network is used
    seed: int = 0
    precision: Literal["bf16", "f32"] = "bf16"
    compiled: bool = False  # the network's forward and backward pass by torch.compile: minutes at first, then faster

    def __post_init__(self) -> None:
        check_names(self.datasets)
        check_names(self.validation_sets)
        for entry in self.datasets:
            if entry.identity is not None and entry.identity.pairs is not None:
                raise ValueError(f"pairs must be left out of dataset {entry.name!r}: they belong to validation_sets")
        total = sum(phase.share for phase in self.phases)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"phases must have shares that sum to 1, got {total:g}")

    @property
    def frame_size(self) -> int:
        """Side of the frame entry that the run is scored with, pixels."""
        return self.validation.frame_size if self.validation else FRAME_SIZE

    def phase(self, step: int) -> PhaseSettings:
        """The phase that the ``step``-th step, counted from 0, belongs to."""
        end = 0.0
        for phase in self.phases:
            end += phase.share * self.steps
            if step < round(end):
                return phase
        return self.phases[-1]


def load_settings(path: Path) -> TrainingSettings:
    """Read a training configuration.

    Raises:
        ConfigError: the file cannot be read or a key is wrong.
    """
    return settings_of(read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, object]:
    """The content of a training configuration as it is written, within that of the file beside it that ``base`` names.

    Raises:
        ConfigError: a file cannot be read, is not TOML, or names a base that has one itself.
    """
    content = _read_toml(path)
    base = content.pop("base", None)
    if base is None:
        return content
    below = _read_toml(path.parent / str(base))
    if "base" in below:
        raise ConfigError(f"training config {path}: base {base!r} has a base itself, but only one is allowed")
    return _over(below, content)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return toml.read_toml(path)
    except OSError as error:
        raise ConfigError(f"training config {path}: cannot be read: {error.strerror}") from error
    except toml.TomlError as error:
        raise ConfigError(f"training config {path}: {error}") from error


def _over(below: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """A table with another one's keys in place of its own; tables within are joined likewise, lists are not."""
    joined = {**below, **content}
    both = [key for key in content if isinstance(below.get(key), Mapping) and isinstance(content[key], Mapping)]
    return joined | {key: _over(below[key], content[key]) for key in both}


def settings_of(content: Mapping[str, object], what: str) -> TrainingSettings:
    """The configuration that a file's ``content`` is.

    Raises:
        ConfigError: a key is wrong.
    """
    try:
        return msgspec.convert(content, TrainingSettings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"training config {what}: {error}") from error
