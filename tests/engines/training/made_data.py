"""Training data laid out like the real folder, painted in colours, and runs small enough to train in a test."""

import json
from pathlib import Path

import msgspec
import numpy as np
import torch

from engines.alignment import TEMPLATE
from engines.data.sources import Coco, Folders
from engines.spec import NetworkSettings
from engines.training.datasets import load_sets
from engines.training.settings import AugmentationSettings, DatasetSettings, TrainingSettings
from engines.training.trainer import Trainer
from tests.engines.evaluation.colours import COLOUR, GREY, OBJECTS, PEOPLE, Box, face_colour, paint, write_coco

SOURCES: dict[str, dict[str, object]] = {
    "detection": {
        "images": "detection/images/train",
        "objects": Coco(file="detection/annotations/instances_train.json"),
        "faces": Coco(file="detection/annotations/faces_silver_train.json"),
    },
    "face_detection": {
        "images": "face_detection/images/train",
        "faces": Coco(
            file="face_detection/annotations/instances_train.json",
            points="face_detection/annotations/landmarks5_silver_train.json",
        ),
    },
    "face_landmarks": {
        "images": "face_landmarks/images/train",
        "faces": Coco(file="face_landmarks/annotations/landmarks_train.json", only_near=True),
    },
    "scenes": {
        "scene": Folders(
            folders=("classification/imagenette10/train", "classification/cats_dogs/train"),
            rename={"dog_english_springer": "dog"},
        )
    },
    "identities": {
        "identity": Folders(folders=("face_recognition/train",), points="face_recognition/ytf_landmarks5_train.json")
    },
}
SETS = tuple(SOURCES)
IDENTITIES = PEOPLE[:3]
PICTURES = 5  # of each set with boxes; micro-batches of two leave some for the next epoch
FACE: Box = (28, 4, 20, 20)  # xywh
OTHER_FACE: Box = (60, 8, 24, 24)

TINY = NetworkSettings(channels=(8, 8, 8, 8, 8), neck=8, towers=1, embedding=16, dropout=0.1)


def write_training_data(folder: Path) -> Path:
    """All five training sets: what they label is known, and what one of them does not label is missing there too."""
    write_detection(folder)
    write_faces(folder)
    write_scenes(folder)
    write_people(folder)
    return folder


def write_detection(folder: Path) -> None:
    """A green cat and a red person with a bluish face; the first person is difficult, the first face unsure."""
    names, objects, faces = [], [], []
    for number in range(1, PICTURES + 1):
        cat, person = (4 + number, 34, 30, 24), (52, 4 + number, 28, 50)
        face: Box = (56, 8 + number, 16, 16)
        names.append(f"{number}.png")
        boxes = [(cat, COLOUR["cat"]), (person, COLOUR["person"]), (face, face_colour(PEOPLE[number]))]
        paint(folder / f"detection/images/train/{number}.png", (96, 64), boxes)
        objects += [{"image_id": number, "category_id": 1, "bbox": cat}]
        objects += [{"image_id": number, "category_id": 2, "bbox": person, "ignore": int(number == 1)}]
        faces += [{"image_id": number, "category_id": 1, "bbox": face, "ignore": int(number == 1), **keypoints(face)}]
    write_coco(folder / "detection", "instances_train.json", list(OBJECTS), names, objects)
    write_coco(folder / "detection", "faces_silver_train.json", ["face"], names, faces)


def write_faces(folder: Path) -> None:
    """Two faces a picture of which the first has points by machine; and one face a picture with points by hand."""
    names = [f"{number}.png" for number in range(1, PICTURES + 1)]
    many, points, single = [], [], []
    for number, name in enumerate(names, start=1):
        one, other = face_colour(PEOPLE[number]), face_colour(PEOPLE[number + 6])
        paint(folder / f"face_detection/images/train/{name}", (96, 64), [(FACE, one), (OTHER_FACE, other)])
        paint(folder / f"face_landmarks/images/train/{name}", (64, 48), [(FACE, one)])
        many += [{"image_id": number, "category_id": 1, "bbox": box} for box in (FACE, OTHER_FACE)]
        points += [{"annotation_id": len(many) - 1, "points5": landmarks(FACE).tolist(), "score": 0.9}]
        single += [{"image_id": number, "category_id": 1, "bbox": FACE, **keypoints(FACE)}]
    write_coco(folder / "face_detection", "instances_train.json", ["face"], names, many)
    silver = folder / "face_detection/annotations/landmarks5_silver_train.json"
    silver.write_text(json.dumps({"info": "made", "landmarks": points}))
    write_coco(folder / "face_landmarks", "landmarks_train.json", ["face"], names, single)


def write_scenes(folder: Path) -> None:
    """Three pictures of each scene, in the folders' own names; the grey tells them apart."""
    for group, names in {"imagenette10": ("church", "dog_english_springer"), "cats_dogs": ("cat", "dog")}.items():
        for name in names:
            grey = GREY["dog" if name.startswith("dog") else name]
            for number in range(3):
                paint(folder / f"classification/{group}/train/{name}/{number}.png", (32, 24), [], ground=grey)


def write_people(folder: Path) -> None:
    """Two crops of each person, one of them with points; and a folder of people who are no training identity."""
    faces = folder / "face_recognition"
    known = []
    for name in IDENTITIES:
        for kind in ("lfw", "ytf"):
            paint(faces / "train" / name / f"{kind}_1.png", (64, 64), [((0, 0, 64, 64), face_colour(name))])
        known.append({"file": f"{name}/ytf_1.png", "points5": (TEMPLATE * 64 / 112).tolist()})
    paint(faces / "train/_singletons/Someone__0001.png", (64, 64), [])
    (faces / "ytf_landmarks5_train.json").write_text(json.dumps(known))


def landmarks(face: Box) -> np.ndarray:
    """Five points (5, 2) of an upright face, as the alignment wants them."""
    return np.array(face[:2]) + TEMPLATE / 112 * face[2]


def keypoints(face: Box) -> dict[str, object]:
    """The same as COCO writes them."""
    flat = np.concatenate([landmarks(face), np.full((5, 1), 2)], axis=1).ravel().tolist()
    return {"keypoints": flat, "num_keypoints": 5}


def dataset(name: str, **changes: object) -> DatasetSettings:
    """One set at 64 pixels (aligned faces have 112), a few pictures a micro-batch."""
    entry = DatasetSettings(
        name=name,
        batch=2,
        size=112 if name == "identities" else 64,
        augmentation=AugmentationSettings(scale=(0.9, 1.2), shift=0.05),
        **SOURCES[name],  # type: ignore[arg-type]  # one of each kind
    )
    return msgspec.structs.replace(entry, **changes)


def tiny_settings(*names: str, **changes: object) -> TrainingSettings:
    """A run of 6 steps in f32 on sets of these names; by default all five."""
    settings = TrainingSettings(
        name="tiny",
        network=TINY,
        datasets=tuple(dataset(name, mosaic=0.5 if "det" in name else 0.0) for name in names or SETS),
        steps=6,
        warmup_steps=2,
        precision="f32",
    )
    return msgspec.structs.replace(settings, **changes)


def trainer_on(data: Path, settings: TrainingSettings) -> Trainer:
    """A trainer on a folder of :func:`write_training_data`."""
    loaded = load_sets(settings.datasets, data)
    return Trainer(settings, loaded.sets, (loaded.objects, loaded.scenes), torch.device("cpu"))
