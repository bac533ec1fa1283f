"""A run on scenes and people so small that folds of it train in a second."""

from pathlib import Path

import cv2
import msgspec
import numpy as np

from engines.training.checkpoint import Checkpoint

CONFIG = """
name = "tiny"
steps = 4
warmup_steps = 1
checkpoint_steps = 1
precision = "f32"
network = { channels = [8, 8, 8, 8, 8], neck = 8, towers = 1, embedding = 16 }

[validation]
steps = 1
frame_size = 64

[[datasets]]
name = "scenes"
scene = { format = "folders", folders = ["scenes"] }
batch = 2
size = 32

[[datasets]]
name = "people"
identity = { format = "folders", folders = ["people"] }
batch = 2
size = 112
"""
SCENES, PEOPLE, EACH = ("field", "town"), ("Ada", "Bob", "Cem", "Dia", "Eve", "Fay"), 3


def write_run(folder: Path) -> tuple[Path, Path]:
    """A configuration and its data: six pictures of each scene, three of each person, all of them different noise."""
    generator = np.random.default_rng(0)
    classes = {f"scenes/{name}": 6 for name in SCENES} | {f"people/{name}": EACH for name in PEOPLE}
    for name, count in classes.items():
        (folder / "data" / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (48, 48, 3), np.uint8)
            cv2.imwrite(str(folder / "data" / name / f"{number}.png"), pixels)
    config = folder / "tiny.toml"
    config.write_text(CONFIG)
    return config, folder / "data"


class MadeScores(msgspec.Struct):
    """The figures of a scored fold that a cross-validation reads."""

    top1: float
    accuracy: float


class MadeReport(msgspec.Struct):
    """In place of an exported and scored network, which takes seconds."""

    scores: MadeScores

    def of(self, task: str) -> MadeScores | None:
        return self.scores if task in ("scene", "identity") else None


def weighed(saved: Checkpoint, *_: object) -> MadeReport:
    """What a checkpoint weighs, in place of its scores."""
    total = sum(float(weight.double().sum()) for weight in saved.ema.values())
    return MadeReport(MadeScores(total, -total))
