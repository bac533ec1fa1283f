"""What a model is scored on: pictures and what they show, of whatever layout the data has."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

import msgspec

from engines.data.coco import CocoBox, CocoSet, read_coco
from engines.data.folders import NOBODY, SCENE_FOLDERS, pictures_below, read_points, scene_of
from engines.data.pairs import Pair, draw_pairs, identity_of, read_pairs, set_of
from engines.data.reading import SkippedRows, spread
from engines.data.sources import Coco, FaceSource, Folders, labelled_pictures, points_of, read_boxes
from engines.errors import DataError
from engines.spec import TASKS, USUAL_TASKS, TaskName
from engines.tasks import Task, task
from engines.training.settings import DatasetSettings, TrainingSettings

PEOPLE = "face_recognition"
PAIR_SETS = ("lfw", "ytf", "bolly", "cross")  # the first is the headline
SEARCHED = ("lfw", "ytf")  # in which people are identified
FACE = {1: "face"}
EVERYWHERE = (0.0, 0.0, 1e6, 1e6)  # x, y, width, height of more than any picture

Points = list[tuple[float, float]]
Files = Mapping[str, Collection[Path]]


@dataclass(frozen=True, slots=True)
class IdentityTruth:
    """Face crops and whole pictures of people."""

    pairs: dict[str, list[Pair]]  # of crops, by set; the first set gives the headline figures
    crops: dict[str, list[Path]]  # by the set that they come from
    searched: tuple[str, ...]  # the sets of crops in which people are identified
    points: dict[Path, Points]  # five of a crop, where they are known
    names: dict[Path, str] = field(default_factory=dict)  # whom a crop shows, where its folder is called otherwise
    whole_pairs: list[Pair] = field(default_factory=list)  # of pictures in which a face must be found first
    whole: list[Path] = field(default_factory=list)

    def who(self, picture: Path) -> str:
        """Whom a picture shows."""
        return self.names.get(picture) or identity_of(picture)


class OtherTruth(Protocol):
    """What is to be found of a task that :class:`Truth` has no field for."""

    @property
    def pictures(self) -> list[Path]:
        """The pictures, in order."""


class TruthPart(Protocol):
    """``truth.py`` of such a task."""

    def standard(self, data: Path, skipped: SkippedRows, limit: int | None) -> OtherTruth:
        """What the standard folders say; DataError where a part is missing."""

    def labelled(
        self,
        sets: Sequence[tuple[DatasetSettings, Callable[[Path], bool]]],
        data: Path,
        skipped: SkippedRows,
        limit: int | None,
    ) -> OtherTruth:
        """What the task's sets of a configuration say, each of the files that its function takes."""


def truth_part(each: Task) -> TruthPart:
    """Where a task's truth comes from."""
    return cast("TruthPart", each.part("truth"))


@dataclass(frozen=True, slots=True)
class Truth:
    """What is to be found; None where the data says nothing about a task."""

    name: str
    objects: CocoSet | None = None
    faces: CocoSet | None = None  # of one category
    landmarks: CocoSet | None = None  # every face with five points counts, and no other
    scene: list[tuple[str, Path]] | None = None
    identity: IdentityTruth | None = None
    others: Mapping[TaskName, OtherTruth] = field(default_factory=dict)  # of tasks that have no field of their own
    limit: int | None = None  # pictures, or pairs, of each set that were taken; None: all
    skipped: Mapping[TaskName, list[str]] = field(default_factory=dict)  # rows that cannot be read

    @property
    def tasks(self) -> tuple[TaskName, ...]:
        """What can be scored."""
        there: dict[TaskName, bool] = {
            "objects": self.objects is not None,
            "faces": self.faces is not None or self.landmarks is not None,
            "scene": self.scene is not None,
            "identity": self.identity is not None,
        }
        return tuple(name for name in TASKS if there.get(name, name in self.others))

    @property
    def frames(self) -> list[Path]:
        """Whole pictures for the frame entry, in order: of objects, else of faces, else of scenes."""
        for boxes in (self.objects, self.faces, self.landmarks):
            if boxes is not None and boxes.pictures:
                return sorted(boxes.pictures.values())
        return [path for _, path in self.scene or ()]

    @property
    def crops(self) -> list[Path]:
        """Face crops for the face entry, in order."""
        if self.identity is not None:
            return sorted(path for paths in self.identity.crops.values() for path in paths)
        return [path for name, found in self.others.items() if task(name).entry == "face" for path in found.pictures]

    def scored(self, known: Collection[TaskName], asked: Sequence[TaskName] | None = None) -> list[TaskName]:
        """The tasks to score: those that are asked for, else those of the ``known`` ones that there is truth for.

        Raises:
            DataError: the data says nothing about a task that was asked for, or about any of the known ones.
        """
        missing = [task for task in asked or () if task not in self.tasks]
        if missing:
            raise DataError(f"{self.name}: says nothing about {', '.join(missing)}, only about {self._listed}")
        found = [task for task in (asked or self.tasks) if task in known]
        if not found:
            raise DataError(f"{self.name}: tells {self._listed}, and the model only {', '.join(known)}")
        return found

    @property
    def _listed(self) -> str:
        return ", ".join(self.tasks) or "nothing"


def standard_truth(data: Path, tasks: Collection[TaskName], limit: int | None = None) -> Truth:
    """The validation data of the standard folders (see ``docs/data.md``).

    Args:
        data: the folder.
        tasks: what is to be scored; nothing else is read.
        limit: take so many pictures, or pairs, of each set only.

    Raises:
        DataError: a part of it is missing or too broken.
    """
    _check_folder(data)
    skipped = {name: SkippedRows() for name in TASKS}
    objects, faces, landmarks, scene, identity = None, None, None, None, None
    if "objects" in tasks:
        objects = read_coco(data, "detection", "instances_val.json", skipped["objects"], limit)
    if "faces" in tasks:
        faces = read_coco(data, "face_detection", "instances_val.json", skipped["faces"], limit)
        if len(faces.categories) != 1:
            raise DataError(f"face_detection: has {len(faces.categories)} categories, one for faces is expected")
        landmarks = read_coco(data, "face_landmarks", "landmarks_val.json", skipped["faces"], limit)
    if "scene" in tasks:
        folders = [data / "classification" / name / "val" for name in SCENE_FOLDERS]
        pictures = spread([path for folder in folders for path in pictures_below(folder)], limit)
        scene = [(scene_of(path.parent), path) for path in pictures]
    if "identity" in tasks:
        identity = _standard_identity(data / PEOPLE, skipped["identity"], limit)
    others = {
        name: truth_part(task(name)).standard(data, skipped[name], limit) for name in tasks if name not in USUAL_TASKS
    }
    rows = {name: each.rows for name, each in skipped.items()}
    return Truth(str(data), objects, faces, landmarks, scene, identity, others, limit, rows)


def _standard_identity(folder: Path, skipped: SkippedRows, limit: int | None) -> IdentityTruth:
    pairs = {name: read_pairs(folder / f"pairs_val_{name}.txt", folder / "val", skipped, limit) for name in PAIR_SETS}
    crops: dict[str, list[Path]] = defaultdict(list)
    for path in pictures_below(folder / "val"):
        crops[set_of(path)].append(path)
    loose = folder / "lfw_loose_val"
    return IdentityTruth(
        pairs=pairs,
        # The first ones, not some of all: people must keep their other pictures.
        crops={name: paths[:limit] for name, paths in crops.items()},
        searched=SEARCHED,
        points=read_points(folder / "ytf_landmarks5_val.json", folder / "val"),
        whole_pairs=read_pairs(folder / "pairs_lfw_loose_val.txt", loose, skipped, limit),
        whole=pictures_below(loose),
    )


def labelled_truth(
    sets: Sequence[DatasetSettings], data: Path, limit: int | None = None, *, only: Files | None = None
) -> Truth:
    """What the sets of a configuration say of their pictures, in source pixels and as it was labelled.

    What a machine labelled is no truth, and is left out. Where other things are unlabelled (``only_near``) boxes cannot
    be scored; five points can. A class that a picture's sets do not label is ignored there.

    Args:
        sets: described as the sets of training are.
        data: folder that their paths are relative to.
        limit: take so many pictures, or pairs, of each task, or set of people.
        only: the files that count of each set, by its name; None: all of them.

    Raises:
        DataError: a file is missing or of another kind, or too many rows are broken.
    """
    _check_folder(data)
    skipped = {name: SkippedRows() for name in TASKS}

    def kept(entry: DatasetSettings) -> Callable[[Path], bool]:
        files = None if only is None else set(only[entry.name])
        return lambda path: files is None or path in files

    def boxes(source: FaceSource, entry: DatasetSettings, name: TaskName) -> CocoSet:
        assert entry.images is not None
        found, wanted = read_boxes(source, data, entry.images, skipped[name]), kept(entry)
        return found.of([key for key, path in found.pictures.items() if wanted(path)])

    objects, faces, pointed = [], [], []
    for entry in sets:
        if entry.objects is not None and _all_boxes(entry.objects):
            objects.append(boxes(entry.objects, entry, "objects"))
        if entry.faces is not None:
            found = _as_faces(boxes(entry.faces, entry, "faces"))
            if _all_boxes(entry.faces):
                faces.append(found)
            if isinstance(entry.faces, Coco) and not entry.faces.machine_made:
                pointed.append(found)
    scenes = [row for entry in sets if entry.scene for row in _labelled(entry.scene, data, kept(entry))]
    people = {
        entry.name: {path: label for label, path in _labelled(entry.identity, data, kept(entry), without=NOBODY)}
        for entry in sets
        if entry.identity
    }
    sources = {entry.name: entry.identity for entry in sets if entry.identity}
    return Truth(
        f"{data}: {', '.join(entry.name for entry in sets)}",
        objects=_limited(_merged(objects), limit),
        faces=_limited(_merged(faces), limit),
        landmarks=_with_points(_merged(pointed), limit),
        scene=spread(scenes, limit) or None,
        identity=_identity(people, sources, data, skipped["identity"], limit) if people else None,
        others=_others(sets, data, kept, skipped, limit),
        limit=limit,
        skipped={name: each.rows for name, each in skipped.items()},
    )


def _others(
    sets: Sequence[DatasetSettings],
    data: Path,
    kept: Callable[[DatasetSettings], Callable[[Path], bool]],
    skipped: Mapping[TaskName, SkippedRows],
    limit: int | None,
) -> dict[TaskName, OtherTruth]:
    found = {}
    for name in dict.fromkeys(name for entry in sets for name in entry.labels):
        own = [(entry, kept(entry)) for entry in sets if name in entry.labels]
        found[name] = truth_part(task(name)).labelled(own, data, skipped[name], limit)
    return found


def configured_truth(
    settings: TrainingSettings | None, data: Path, tasks: Collection[TaskName], limit: int | None = None
) -> Truth:
    """What a configuration is scored on: its validation sets, or the standard folders where it, or None, names none.

    Raises:
        DataError: as :func:`labelled_truth` and :func:`standard_truth`.
    """
    if settings is not None and settings.validation_sets:
        return labelled_truth(settings.validation_sets, data, limit)
    return standard_truth(data, tasks, limit)


def _check_folder(data: Path) -> None:
    if not data.is_dir():
        raise DataError(f"data {data}: is not a folder")


def _all_boxes(source: FaceSource) -> bool:
    """Whether a person drew a box around everything that the pictures show."""
    by_machine = isinstance(source, Coco) and "boxes" in source.machine_made
    return not source.only_near and not by_machine


def _as_faces(found: CocoSet) -> CocoSet:
    """The same boxes, whatever they are called, as faces."""
    boxes = [msgspec.structs.replace(box, category_id=1) for box in found.boxes]
    return CocoSet(found.pictures, boxes, FACE)


def _merged(sets: Iterable[CocoSet]) -> CocoSet | None:
    """One set of several, categories by name and pictures by file; None of none.

    What a picture's own sets do not label, or what it says itself that it does not, is ignored in it: a box of that
    category covers it all, and its boxes of that category count for nothing.
    """
    sets = [each for each in sets if each.pictures]
    if not sets:
        return None
    names = list(dict.fromkeys(name for each in sets for name in each.categories.values()))
    files = list(dict.fromkeys(path for each in sets for path in each.pictures.values()))
    numbers = {path: number for number, path in enumerate(files, start=1)}
    labelled: dict[int, set[str]] = defaultdict(set)
    boxes: list[CocoBox] = []
    for each in sets:
        everything = frozenset(each.categories.values())
        for key, path in each.pictures.items():
            labelled[numbers[path]].update(each.labelled.get(key, everything))
        for box in each.boxes:
            picture, name = numbers[each.pictures[box.image_id]], each.categories[box.category_id]
            row = {"id": len(boxes) + 1, "image_id": picture, "category_id": names.index(name) + 1}
            unknown = name not in each.labelled.get(box.image_id, everything)
            boxes.append(msgspec.structs.replace(box, **row, ignore=1 if unknown else box.ignore))
    for picture, known in labelled.items():
        for category, name in enumerate(names, start=1):
            if name not in known:
                boxes.append(CocoBox(len(boxes) + 1, picture, category, EVERYWHERE, ignore=1))
    return CocoSet({number: path for path, number in numbers.items()}, boxes, dict(enumerate(names, start=1)))


def _limited(found: CocoSet | None, limit: int | None) -> CocoSet | None:
    return None if found is None else found.of(spread(list(found.pictures), limit))


def _with_points(found: CocoSet | None, limit: int | None) -> CocoSet | None:
    """The pictures that have a face with five points; None where there are none."""
    faces = [box for box in found.boxes if box.points5 is not None and not box.ignored] if found else []
    pictures = list(dict.fromkeys(box.image_id for box in faces))
    return found.of(spread(pictures, limit)) if found and pictures else None


def _labelled(
    source: Folders, data: Path, wanted: Callable[[Path], bool], without: str | None = None
) -> list[tuple[str, Path]]:
    return [(label, path) for label, path in labelled_pictures(source, data, without=without) if wanted(path)]


def _identity(
    people: Mapping[str, Mapping[Path, str]],
    sources: Mapping[str, Folders],
    data: Path,
    skipped: SkippedRows,
    limit: int | None,
) -> IdentityTruth:
    """Pairs within each set, from its file where it names one."""
    names = {path: label for found in people.values() for path, label in found.items()}
    pairs = {}
    for name, source in sources.items():
        if source.pairs is None:
            pairs[name] = spread(draw_pairs(people[name], name), limit)
        else:
            listed = read_pairs(data / source.pairs, data / source.folders[0], skipped, limit)
            pairs[name] = [replace(pair, names=_names(pair, names)) for pair in listed]
    return IdentityTruth(
        pairs=pairs,
        crops={name: sorted(found)[:limit] for name, found in people.items()},
        searched=tuple(people),
        points={path: points for source in sources.values() for path, points in points_of(source, data).items()},
        names=names,
    )


def _names(pair: Pair, known: Mapping[Path, str]) -> tuple[str, str]:
    first, second = pair.identities
    return known.get(pair.first, first), known.get(pair.second, second)
