"""The training configuration: frozen structs read from TOML."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from engines.alignment import SIZE as FACE_SIZE
from engines.errors import ConfigError
from engines.spec import NetworkSettings, Positive, Share

COARSEST_STRIDE = 32  # of the pyramid, pixels
NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Task = Literal["objects", "faces", "scene", "identity"]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class AugmentationSettings(_Section, frozen=True, kw_only=True):
    """How pictures are varied, all batched."""

    scale: tuple[NonNegative, NonNegative] = (0.6, 1.7)
    shift: Share = 0.15  # of the input's side
    rotate_deg: NonNegative = 5.0
    flip: Share = 0.5
    brightness: NonNegative = 0.3
    contrast: NonNegative = 0.3
    saturation: NonNegative = 0.5
    grey: Share = 0.1
    noise: NonNegative = 6.0  # grey levels
    blur: Share = 0.1
    erase: Share = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must rise from more than 0, got {list(self.scale)}")


class DatasetSettings(_Section, frozen=True, kw_only=True):
    """One folder of the data and what it labels. A task that is not named here gets no loss from it."""

    kind: Literal["detection", "face_detection", "face_landmarks", "scenes", "identities"]
    batch: Positive  # pictures of one micro-batch
    size: Positive  # side of the square that training sees, pixels
    mosaic: Share = 0.0  # share of micro-batches made of 2x2 mosaics
    augmentation: AugmentationSettings = AugmentationSettings()

    def __post_init__(self) -> None:
        if self.kind == "identities" and self.size != FACE_SIZE:
            raise ValueError(f"size must be {FACE_SIZE} for identities, got {self.size}")
        if self.kind != "identities" and self.size % COARSEST_STRIDE:
            raise ValueError(f"size must be a multiple of {COARSEST_STRIDE} for {self.kind}, got {self.size}")
        if self.mosaic and self.kind in ("scenes", "identities"):
            raise ValueError(f"mosaic must be 0 for {self.kind}, whose pictures have one label each, got {self.mosaic}")


class LossSettings(_Section, frozen=True, kw_only=True):
    """Weights of the fixed weighted sum. Each task's loss is first divided by its own running initial value."""

    objects: NonNegative = 1.0
    faces: NonNegative = 1.0
    scene: NonNegative = 1.0
    identity: NonNegative = 1.0
    label_smoothing: Share = 0.1
    identity_scale: NonNegative = 32.0
    identity_margin: NonNegative = 0.3


class TrainingSettings(_Section, frozen=True, kw_only=True):
    """A whole training run."""

    name: str
    network: NetworkSettings = NetworkSettings()
    datasets: Annotated[tuple[DatasetSettings, ...], msgspec.Meta(min_length=1)]
    loss: LossSettings = LossSettings()
    steps: Positive
    micro_batches: Positive = 5  # per step
    temperature: Share = 0.25  # sampling in proportion to (dataset size)^temperature
    learning_rate: NonNegative = 2e-3
    weight_decay: NonNegative = 0.05
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] = 300
    clip_norm: NonNegative = 10.0
    ema_decay: Share = 0.999
    calm_share: Share = 0.15  # last share of the run without mosaics
    checkpoint_steps: Positive = 250
    seed: int = 0
    precision: Literal["bf16", "f32"] = "bf16"


def load_settings(path: Path) -> TrainingSettings:
    """Read a training configuration.

    Raises:
        ConfigError: the file cannot be read or a key is wrong.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), TrainingSettings)
    except OSError as error:
        raise ConfigError(f"training config {path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"training config {path}: {error}") from error
