"""Training pictures that show which values a network's tensors take, as the network gets them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from engines.arrays import Pixels
from engines.boxes import letterbox
from engines.data.crops import LabelledCrop, read_crop
from engines.data.folders import SCENE_FOLDERS, read_points
from engines.data.reading import PICTURE_SUFFIXES, SkippedRows, spread
from engines.data.sources import labelled_pictures, read_boxes
from engines.errors import DataError
from engines.pictures import letterbox_rgb, read_rgb
from engines.spec import EntrySpec
from engines.training.crops import crops_of
from engines.training.settings import DatasetSettings

DETECTION = ("detection/images/train", "face_detection/images/train")
SCENES = tuple(f"classification/{name}/train" for name in SCENE_FOLDERS)
FACES = "face_recognition"

Row = TypeVar("Row", Path, LabelledCrop)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Inputs of an entry, and where they come from."""

    pictures: list[Pixels]  # (H, W, 3) each, of the entry's input size
    counts: dict[str, int]  # folder of the data -> pictures


def frame_calibration(
    data: Path, entry: EntrySpec, count: int, sets: Sequence[DatasetSettings] | None = None
) -> Calibration:
    """About ``count`` letterboxed pictures, as many of each of the ``sets`` of boxes and scenes.

    Without sets, those of the standard layout: detection, face detection and both folders of scenes.

    Raises:
        DataError: none of these sets is there, or too many pictures cannot be read.
    """
    if sets is None:
        files = {name: sorted((data / name).glob("*")) for name in DETECTION}
        files |= {name: sorted((data / name).glob("*/*")) for name in SCENES}
    else:
        files = {each.name: files_of(each, data) for each in sets if each.entry == "frame"}

    def read(path: Path) -> Pixels:
        pixels = read_rgb(path)
        return letterbox_rgb(pixels, letterbox((pixels.shape[1], pixels.shape[0]), (entry.width, entry.height)))

    shown = {name: [path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES] for name, paths in files.items()}
    return _read(data, shown, count, read)


def face_calibration(data: Path, count: int, sets: Sequence[DatasetSettings] | None = None) -> Calibration:
    """About ``count`` faces, aligned where their five points are known, else as they were cut.

    As many of each of the ``sets`` of people; without sets, of those of the standard layout.

    Raises:
        DataError: there are none, or too many cannot be read.
    """
    if sets is None:
        folder, known = data / FACES / "train", data / FACES / "ytf_landmarks5_train.json"
        points = read_points(known, folder) if known.is_file() else {}
        crops = [LabelledCrop(path, "", points.get(path)) for path in sorted(folder.glob("*/*"))]
        faces = {f"{FACES}/train": [each for each in crops if each.file.suffix.lower() in PICTURE_SUFFIXES]}
    else:
        faces = {each.name: _in_order(crops_of(each, data, SkippedRows())) for each in sets if each.entry == "face"}
    return _read(data, faces, count, read_crop)


def _in_order(crops: list[LabelledCrop]) -> list[LabelledCrop]:
    return sorted(crops, key=lambda crop: crop.file)


def files_of(entry: DatasetSettings, data: Path) -> list[Path]:
    """The whole pictures of a set, in the order of their paths; not those of its folders that it does not list.

    Raises:
        DataError: a file is missing or of another kind, or too many rows are broken.
    """
    if entry.scene is not None:
        return sorted(path for _, path in labelled_pictures(entry.scene, data))
    sources = [source for source in (entry.objects, entry.faces) if source is not None]
    assert entry.images is not None
    found = [read_boxes(source, data, entry.images, SkippedRows()) for source in sources]
    return sorted({path for each in found for path in each.pictures.values()})


def _read(data: Path, sets: Mapping[str, Sequence[Row]], count: int, read: Callable[[Row], Pixels]) -> Calibration:
    there = {name: rows for name, rows in sets.items() if rows}
    if not there:
        raise DataError(f"data {data}: has no training pictures to calibrate on, looked for in {', '.join(sets)}")
    pictures: list[Pixels] = []
    counts: dict[str, int] = {}
    skipped = SkippedRows()
    for name, rows in there.items():
        before = len(pictures)
        for row in spread(rows, -(-count // len(there))):
            try:
                pictures.append(read(row))
            except DataError as error:
                skipped.add(name, len(rows), str(error))
        counts[name] = len(pictures) - before
    return Calibration(pictures, counts)
