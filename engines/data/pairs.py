"""Pairs of faces for verification."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.data.reading import SkippedRows, read_lines, spread
from engines.errors import DataError

DRAWN = 3000  # pairs of each kind, at most
DRAWN_EACH = 20  # pairs of one person, at most
SEED = 0  # of the pairs that are drawn
SINGLETONS = "_singletons"  # folder of people with one picture each: NAME__0001.webp


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures of faces, and whether they show one person."""

    first: Path
    second: Path
    genuine: bool
    names: tuple[str, str] | None = None  # whom they show, where their folders are called otherwise

    @property
    def identities(self) -> tuple[str, str]:
        """Who the two pictures show."""
        return self.names or (identity_of(self.first), identity_of(self.second))


def identity_of(picture: Path) -> str:
    """Who a crop shows: its folder, or its file name among the people with a single picture.

    >>> identity_of(Path("val/Ada/lfw_0001.webp")), identity_of(Path("val/_singletons/Ada__0001.webp"))
    ('Ada', 'Ada')
    """
    folder = picture.parent.name
    return picture.stem.rsplit("__", 1)[0] if folder == SINGLETONS else folder


def read_pairs(path: Path, folder: Path, skipped: SkippedRows, limit: int | None = None) -> list[Pair]:
    """Read ``first <tab> second <tab> 1 or 0`` lines with paths relative to ``folder``.

    Raises:
        DataError: the file is missing, too many lines are broken, or one kind of pair is missing altogether.
    """
    lines = read_lines(path)
    pairs = []
    for number, line in enumerate(lines, start=1):
        match line.split("\t"):
            case [first, second, ("0" | "1") as same]:
                pairs.append(Pair(folder / first, folder / second, same == "1"))
            case _:
                skipped.add(str(path), len(lines), f"{path}: line {number} is not two paths and 0 or 1, tab-separated")
    pairs = spread(pairs, limit)
    if len({pair.genuine for pair in pairs}) < 2:
        raise DataError(f"{path}: needs pairs of one person (1) and of two people (0), has {len(pairs)} pairs in all")
    return pairs


def draw_pairs(people: Mapping[Path, str], what: str, seed: int = SEED) -> list[Pair]:
    """Pairs of pictures of one person, and as many of two; the same pictures and seed always give the same pairs.

    Args:
        people: whom each picture shows.
        what: name of the set, for the refusal.
        seed: of the choice.

    Returns:
        At most :data:`DRAWN` genuine pairs, at most :data:`DRAWN_EACH` of a person, then at most as many impostors.

    Raises:
        DataError: nobody has two pictures, or there is one person only.
    """
    generator = np.random.default_rng(seed)
    pictures: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(people):
        pictures[people[path]].append(path)
    genuine = [pair for name in sorted(pictures) for pair in _own_pairs(name, pictures[name], generator)]
    if not genuine or len(pictures) < 2:
        raise DataError(f"{what}: pairs need two people or more and two pictures of one, has {len(pictures)} people")
    genuine = spread(genuine, DRAWN)
    return genuine + _impostors(pictures, len(genuine), generator)


def _own_pairs(name: str, pictures: Sequence[Path], generator: np.random.Generator) -> list[Pair]:
    firsts, seconds = np.triu_indices(len(pictures), 1)
    chosen = generator.permutation(len(firsts))[:DRAWN_EACH]
    return [Pair(pictures[firsts[row]], pictures[seconds[row]], True, (name, name)) for row in sorted(chosen.tolist())]


def _impostors(pictures: Mapping[str, Sequence[Path]], count: int, generator: np.random.Generator) -> list[Pair]:
    """Two people each, then a picture of each, so that whoever has many pictures is not in most pairs."""
    names = sorted(pictures)
    drawn: dict[tuple[Path, Path], Pair] = {}
    for _ in range(count):
        one, other = sorted(names[row] for row in generator.choice(len(names), 2, replace=False).tolist())
        first, second = (pictures[name][int(generator.integers(len(pictures[name])))] for name in (one, other))
        drawn[first, second] = Pair(first, second, False, (one, other))
    return list(drawn.values())


def set_of(crop: Path) -> str:
    """The set that a crop comes from: ``lfw_0001.webp``, ``ytf_07.webp``, ``bolly_NAME/...``; singletons are LFW's."""
    for name in ("ytf", "bolly"):
        if crop.name.startswith(f"{name}_") or crop.parent.name.startswith(f"{name}_"):
            return name
    return "lfw"
