"""Classes that a plain classifier tells in a moment: plain colours, a little different from picture to picture."""

from pathlib import Path

import cv2
import numpy as np

from engines.data.sources import Folders
from engines.network.plain import PlainSettings
from engines.study.classifier_settings import ClassifierSettings

COLOURS = {"room": (30, 200, 30), "street": (200, 30, 30)}  # RGB
TOML = """
recipe = "classifier"
name = "colours"
learning_rate = 0.01
batch = 4
epochs = 2

[train]
format = "folders"
folders = ["classes/train"]

[validation]
format = "folders"
folders = ["classes/val"]

[network]
size = 8
blocks = [[4]]
dense = 8
"""


def colours(epochs: int = 2) -> ClassifierSettings:
    """What TOML says, with so many epochs."""
    return ClassifierSettings(
        recipe="classifier",
        name="colours",
        train=Folders(folders=("classes/train",)),
        validation=Folders(folders=("classes/val",)),
        network=PlainSettings(size=8, blocks=((4,),), dense=8),
        learning_rate=0.01,
        batch=4,
        epochs=epochs,
    )


def write_classes(data: Path, pictures: int = 6) -> Path:
    """Both splits; so many pictures of each class, wide and high ones."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name, colour in COLOURS.items():
            for number in range(pictures):
                size = (20, 12) if number % 2 else (12, 20)
                write_plain(data / f"classes/{split}/{name}/{number}.png", size, colour, generator)
    return data


def write_plain(
    path: Path, size: tuple[int, int], colour: tuple[int, int, int], generator: np.random.Generator
) -> None:
    """A picture of ``size`` (width, height) in one colour, with a little noise."""
    noise = generator.integers(-20, 21, (size[1], size[0], 3))
    pixels = np.clip(noise + np.array(colour), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
