"""The configuration of a plain classifier: frozen structs read from TOML."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from engines.data.sources import Folders
from engines.errors import ConfigError
from engines.network.plain import PlainSettings
from engines.spec import Positive, Share
from engines.toml import TomlError, read_toml
from engines.training.settings import AugmentationSettings, NonNegative

RECIPE = "classifier"
JPEG_PX = 16  # side of the blocks that JPEG artefacts come in, with halved colour


class ClassifierSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole training run of a plain classifier, with Adam at a constant rate."""

    recipe: Literal["classifier"]
    name: Annotated[str, msgspec.Meta(min_length=1)]
    train: Folders
    validation: Folders
    network: PlainSettings = PlainSettings()
    augmentation: AugmentationSettings | None = None  # None: pictures as they are
    learning_rate: NonNegative = 1e-3
    weight_decay: NonNegative = 0.0  # decoupled (Loshchilov & Hutter 2019); at 0 this is plain Adam
    label_smoothing: Share = 0.0
    batch: Positive = 32
    epochs: Positive = 10
    seed: int = 0
    precision: Literal["bf16", "f32"] = "f32"

    def __post_init__(self) -> None:
        vary = self.augmentation
        if vary is not None and (vary.paste_faces or vary.paste_objects):
            raise ValueError("paste_faces and paste_objects must be 0 for a classifier, whose pictures have no boxes")
        size = self.network.size
        if vary is not None and vary.jpeg and size % JPEG_PX:
            raise ValueError(f"jpeg must be 0 where size is no multiple of {JPEG_PX}, got {vary.jpeg} at size {size}")

    @property
    def canvas(self) -> int:
        """Side of the training pictures in memory, pixels: a third more than the input where they are cropped."""
        size = self.network.size
        return size if self.augmentation is None else round(size * 4 / 3)


def is_classifier(path: Path) -> bool:
    """Whether a training configuration is a plain classifier's; one that names no recipe is for joint training.

    Raises:
        ConfigError: it names a recipe that there is not. What else may be wrong with it is left to who loads it.
    """
    try:
        recipe = read_toml(path).get("recipe")
    except (OSError, TomlError):
        return False
    if recipe not in (None, RECIPE):
        raise ConfigError(f"training config {path}: recipe must be {RECIPE!r} or left out, got {recipe!r}")
    return recipe == RECIPE


def load_classifier_settings(path: Path) -> ClassifierSettings:
    """Read the configuration of a plain classifier.

    Raises:
        ConfigError: the file cannot be read or a key is wrong.
    """
    try:
        return msgspec.convert(read_toml(path), ClassifierSettings)
    except OSError as error:
        raise ConfigError(f"training config {path}: cannot be read: {error.strerror}") from error
    except (TomlError, msgspec.ValidationError) as error:
        raise ConfigError(f"training config {path}: {error}") from error
