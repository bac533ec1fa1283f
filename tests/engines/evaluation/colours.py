"""A network that sees colours, and validation data painted in them, so that every right answer is known."""

import hashlib
import json
import math
from itertools import combinations
from pathlib import Path
from typing import Self

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from engines.alignment import TEMPLATE
from engines.spec import EntrySpec, Model, ModelSpec, NetworkSettings, load_model

OBJECTS = ("cat", "person")
SCENES = ("cat", "church", "dog")
PEOPLE = [f"Person_{number}" for number in range(24)]
COLOUR = {"cat": (0, 255, 0), "person": (255, 0, 0)}
GREY = {"cat": 40, "church": 80, "dog": 120}
FRAME_OUTPUTS: dict[str, tuple[int, ...]] = {
    "object_boxes": (2, 4),
    "object_scores": (2,),
    "object_labels": (2,),
    "face_boxes": (1, 4),
    "face_scores": (1,),
    "face_landmarks": (1, 5, 2),
    "scene": (3,),
}

Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]


def face_colour(name: str) -> Colour:
    """Bluish; the red and green of a person are a direction, which is what the face entry tells people by."""
    angle = 2 * math.pi * PEOPLE.index(name) / len(PEOPLE)
    return round(60 + 50 * math.cos(angle)), round(60 + 50 * math.sin(angle)), 255


def paint(path: Path, size: tuple[int, int], boxes: list[tuple[Box, Colour]], ground: int = 160) -> None:
    """A picture of ``size`` (width, height) with filled boxes, xywh."""
    pixels = np.full((size[1], size[0], 3), ground, np.uint8)
    for (x, y, width, height), colour in boxes:
        pixels[y : y + height, x : x + width] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def write_coco(folder: Path, name: str, names: list[str], pictures: list[str], boxes: list[dict[str, object]]) -> None:
    """A COCO file; boxes carry image_id, category_id, bbox and whatever else."""
    path = folder / "annotations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": number, "file_name": file} for number, file in enumerate(pictures, start=1)],
        "annotations": [{"id": number, **box} for number, box in enumerate(boxes, start=1)],
        "categories": [{"id": number, "name": label} for number, label in enumerate(names, start=1)],
    }
    path.write_text(json.dumps(content))


class ColourEngine:
    """What both fake entries share."""

    backend = "colours"
    precision = "f32"
    device = "fake"

    def __init__(self, spec: EntrySpec) -> None:
        self.spec = spec

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class ColourFrame(ColourEngine):
    """Finds one green cat, one red person and one bluish face a picture; the grey around tells the scene."""

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        rows = [self._row(pixels.astype(int)) for pixels in batch]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _row(self, pixels: npt.NDArray[np.int_]) -> dict[str, npt.NDArray[np.generic]]:
        red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
        things = [
            self._box((green > 200) & (red < 80) & (blue < 80)),
            self._box((red > 200) & (green < 80) & (blue < 80)),
        ]
        face = self._box((blue > 210) & (red < 120) & (green < 120))
        landmarks = face[:2] + TEMPLATE / 112 * (face[2:] - face[:2])
        distance = [abs(int(pixels[len(pixels) // 2, 8, 0]) - GREY[name]) for name in SCENES]
        scene = np.full(len(SCENES), 0.05)
        scene[int(np.argmin(distance))] = 0.9
        return {
            "object_boxes": np.array(things, np.float32),
            "object_scores": np.array([0.8 if box[2] > box[0] else 0.0 for box in things], np.float32),
            "object_labels": np.array([0, 1], np.int32),
            "face_boxes": face[None].astype(np.float32),
            "face_scores": np.array([0.9 if face[2] > face[0] else 0.0], np.float32),
            "face_landmarks": landmarks[None].astype(np.float32),
            "scene": scene.astype(np.float32),
        }

    @staticmethod
    def _box(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        rows, columns = np.nonzero(mask)
        if not len(rows):
            return np.zeros(4)
        return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


class ColourFace(ColourEngine):
    """Embeds a face by the red and green of its middle."""

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        assert batch.shape[1:] == (112, 112, 3)
        middle = batch[:, 50:62, 50:62, :2].mean(axis=(1, 2)) - 60 + 1e-6
        embedding = (middle / np.linalg.norm(middle, axis=1, keepdims=True)).astype(np.float32)
        return {"embedding": embedding, "quality": np.full(len(embedding), 0.5, np.float32)}


def write_model(folder: Path) -> Model:
    """A model folder whose ONNX files nobody opens."""
    digest = hashlib.sha256(b"onnx").hexdigest()
    for name in ("frame.onnx", "face.onnx"):
        (folder / name).write_bytes(b"onnx")
    spec = ModelSpec(
        format=1,
        name="colours",
        frame=EntrySpec("frame.onnx", digest, 160, 160, FRAME_OUTPUTS),
        face=EntrySpec("face.onnx", digest, 112, 112, {"embedding": (2,), "quality": ()}),
        objects=OBJECTS,
        scenes=SCENES,
        network=NetworkSettings(),
    )
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    return load_model(folder)


def open_colours(model: Model, entry: str, *_: object) -> ColourEngine:
    """Stands in for ``open_engine``."""
    return ColourFrame(model.spec.frame) if entry == "frame" else ColourFace(model.spec.face)


def write_data(folder: Path) -> Path:
    """A whole validation folder on which the colour network is always right, but for one face that is not there."""
    write_objects(folder)
    write_faces(folder)
    write_scenes(folder)
    write_people(folder)
    return folder


def write_objects(folder: Path) -> None:
    """Three pictures of different shapes, a cat and a person in each."""
    sizes, pictures, rows = [(120, 80), (80, 120), (300, 300)], [], []
    for number, size in enumerate(sizes, start=1):
        cat, person = (4, 6, 50, 30), (10, 44, 60, 30)
        pictures.append(f"{number}.png")
        paint(folder / f"detection/images/val/{number}.png", size, [(cat, COLOUR["cat"]), (person, COLOUR["person"])])
        rows += [{"image_id": number, "category_id": 1, "bbox": cat, "ignore": 0}]
        rows += [{"image_id": number, "category_id": 2, "bbox": person}]
    write_coco(folder / "detection", "instances_val.json", ["cat", "person"], pictures, rows)


def write_faces(folder: Path) -> None:
    """Two pictures for AP, three for landmarks; the last of those shows no face that can be found."""
    box = (30, 20, 80, 80)
    points = np.array(box[:2]) + TEMPLATE / 112 * 80
    keypoints = np.concatenate([points, np.full((5, 1), 2)], axis=1).ravel().tolist()
    row = {"category_id": 1, "bbox": box}
    for number in (1, 2):
        paint(folder / f"face_detection/images/val/{number}.png", (160, 120), [(box, face_colour(PEOPLE[number]))])
    boxes = [{"image_id": number, **row} for number in (1, 2)]
    write_coco(folder / "face_detection", "instances_val.json", ["face"], ["1.png", "2.png"], boxes)
    for number in (1, 2, 3):
        faces = [(box, face_colour(PEOPLE[number]))] if number < 3 else []
        paint(folder / f"face_landmarks/images/val/{number}.png", (160, 120), faces)
    boxes = [{"image_id": number, "keypoints": keypoints, **row} for number in (1, 2, 3)]
    write_coco(folder / "face_landmarks", "landmarks_val.json", ["face"], ["1.png", "2.png", "3.png"], boxes)


def write_scenes(folder: Path) -> None:
    """Two pictures of each scene, in the folders' own names."""
    classes = {"imagenette10": ("church", "dog_english_springer"), "cats_dogs": ("cat", "dog")}
    for group, names in classes.items():
        for name in names:
            grey = GREY["dog" if name.startswith("dog") else name]
            for number in range(2):
                paint(folder / f"classification/{group}/val/{name}/{number}.png", (32, 32), [], ground=grey)


def write_people(folder: Path) -> None:
    """Crops of everybody in all sets of pairs, and whole pictures of them."""
    faces = folder / "face_recognition"
    points = []
    for name in PEOPLE:
        for kind in ("lfw", "ytf"):
            for number in (1, 2):
                paint(faces / "val" / name / f"{kind}_{number}.png", (32, 32), [((0, 0, 32, 32), face_colour(name))])
                points.append({"file": f"{name}/{kind}_{number}.png", "points5": (TEMPLATE * 32 / 112).tolist()})
        for number in (1, 2):
            path = faces / "lfw_loose_val" / name / f"{number}.png"
            paint(path, (120, 100), [((30, 20, 60, 60), face_colour(name))])
    (faces / "ytf_landmarks5_val.json").write_text(json.dumps([row for row in points if "ytf" in row["file"]]))
    for name, first, second in (
        ("lfw", "lfw", "lfw"),
        ("ytf", "ytf", "ytf"),
        ("bolly", "lfw", "lfw"),
        ("cross", "lfw", "ytf"),
    ):
        (faces / f"pairs_val_{name}.txt").write_text(_pair_lines(f"{first}_1.png", f"{second}_2.png"))
    (faces / "pairs_lfw_loose_val.txt").write_text(_pair_lines("1.png", "2.png"))


def _pair_lines(first: str, second: str) -> str:
    genuine = [f"{name}/{first}\t{name}/{second}\t1" for name in PEOPLE]
    impostors = [f"{a}/{first}\t{b}/{second}\t0" for a, b in list(combinations(PEOPLE, 2))[::5]]
    return "\n".join(genuine + impostors) + "\n"
