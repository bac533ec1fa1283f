"""Pascal VOC: one XML file a picture (Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010)."""

from pathlib import Path
from xml.etree import ElementTree

from engines.data.coco import CocoBox, CocoSet
from engines.data.reading import PICTURE_SUFFIXES, SkippedRows, read_lines
from engines.errors import DataError


def read_voc(annotations: Path, images: Path, skipped: SkippedRows, image_set: Path | None = None) -> CocoSet:
    """Read the XML files of a folder. A file belongs to the picture below ``images`` of the same name.

    Args:
        annotations: folder of ``*.xml``; what is difficult there is ignored here.
        images: folder of the pictures.
        skipped: takes the files and objects that cannot be read.
        image_set: list of names to read, one a line, as in ``ImageSets/Main``; None for all.

    Returns:
        The set, with categories in the order of their names.

    Raises:
        DataError: there are no files, or too many of them are broken.
    """
    if image_set is None:
        files = sorted(annotations.glob("*.xml"))
    else:
        files = [annotations / f"{line.split()[0]}.xml" for line in read_lines(image_set)]
    if not files:
        raise DataError(f"{image_set or annotations}: lists no XML files")
    by_stem = {path.stem: path for path in images.glob("*") if path.suffix.lower() in PICTURE_SUFFIXES}
    pictures: dict[int, Path] = {}
    found: list[tuple[int, str, bool, tuple[float, float, float, float]]] = []
    for number, file in enumerate(files, start=1):
        try:
            if file.stem not in by_stem:
                raise ValueError(f"there is no picture of that name in {images}")
            rows = [_object(row) for row in ElementTree.parse(file).getroot().iter("object")]
        except (OSError, ValueError, ElementTree.ParseError) as error:
            skipped.add(str(annotations), len(files), f"{file}: {error}")
            continue
        pictures[number] = by_stem[file.stem]
        found += [(number, *row) for row in rows]
    return _as_coco(pictures, found)


def _as_coco(
    pictures: dict[int, Path], found: list[tuple[int, str, bool, tuple[float, float, float, float]]]
) -> CocoSet:
    numbers = {name: number for number, name in enumerate(sorted({name for _, name, _, _ in found}), start=1)}
    boxes = [
        CocoBox(id=row, image_id=picture, category_id=numbers[name], bbox=box, ignore=int(difficult))
        for row, (picture, name, difficult, box) in enumerate(found, start=1)
    ]
    return CocoSet(pictures, boxes, {number: name for name, number in numbers.items()})


def _object(row: ElementTree.Element) -> tuple[str, bool, tuple[float, float, float, float]]:
    """Name, whether it is difficult, and the box x, y, width, height. Raises ValueError."""
    name = (row.findtext("name") or "").strip()
    if not name:
        raise ValueError("an object has no name")
    x0, y0, x1, y1 = (_number(row, side) for side in ("xmin", "ymin", "xmax", "ymax"))
    if x1 < x0 or y1 < y0:
        raise ValueError(f"the box of a {name} has no area")
    # Both corners are pixels inside the box, counted from 1.
    return name, (row.findtext("difficult") or "0").strip() == "1", (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1)


def _number(row: ElementTree.Element, side: str) -> float:
    text = row.findtext(f"bndbox/{side}")
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"bndbox/{side} must be a number, got {text!r}") from None
