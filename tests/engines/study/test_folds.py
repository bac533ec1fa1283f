from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import DataError
from engines.study.folds import deal, groups_of, held_out_files, split, training_part
from engines.training.datasets import BoxLabels, LoadedDatasets, PictureSet

SIDE = 32


def noise(count: int, seed: int) -> torch.Tensor:
    """Pictures of which no two look alike."""
    return torch.randint(0, 256, (count, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(seed)).byte()


def made_set(name: str, kind: str, count: int, **changes: object) -> PictureSet:
    entry = PictureSet(
        name,
        kind,  # type: ignore[arg-type]
        noise(count, sum(map(ord, name))),
        torch.full((count, 2), float(SIDE)),
        files=tuple(Path(f"{name}/{number}.png") for number in range(count)),
        groups=np.arange(count),
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


def scenes(count: int = 20) -> PictureSet:
    return made_set("scenes", "scene", count, labels=torch.arange(count) % 2, classes=2)


def people(count: int = 24, each: int = 3) -> PictureSet:
    labels = torch.arange(count) // each
    return made_set("people", "identity", count, labels=labels, groups=labels.numpy(), classes=int(labels.max()) + 1)


def loaded(*sets: PictureSet) -> LoadedDatasets:
    return LoadedDatasets(list(sets), ("cat", "dog"), ("field", "town"), tuple(f"P{number}" for number in range(8)))


@given(
    groups=st.lists(st.integers(0, 12), min_size=1, max_size=80),
    folds=st.integers(2, 6),
    classes=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_no_group_is_in_two_folds_and_sizes_differ_by_a_group_at_most(
    groups: list[int], folds: int, classes: int, seed: int
) -> None:
    rows = np.array(groups)
    strata = np.ones((len(rows), 1))
    home = deal(rows, strata, folds, seed)
    assert all(len(set(home[rows == group].tolist())) == 1 for group in set(groups))
    sizes = np.bincount(home, minlength=folds)
    assert len(sizes) == folds and sizes.max() - sizes.min() <= np.bincount(rows).max()
    mixed = np.concatenate([strata, np.eye(classes)[np.arange(len(rows)) % classes]], axis=1)
    spread = deal(rows, mixed, folds, seed)
    assert all(len(set(spread[rows == group].tolist())) == 1 for group in set(groups))


def test_classes_are_spread_over_the_folds() -> None:
    labels = np.array([0] * 40 + [1] * 10)
    strata = np.concatenate([np.full((50, 1), 2.0), np.eye(2)[labels]], axis=1)
    home = deal(np.arange(50), strata, 5, 0)
    assert np.bincount(home).tolist() == [10] * 5
    assert [int((labels[home == fold] == 1).sum()) for fold in range(5)] == [2] * 5


def test_a_split_is_the_same_each_time_and_another_with_another_seed() -> None:
    sets = loaded(scenes())
    (first,), (again,), (other,) = split(sets, 4, 0), split(sets, 4, 0), split(sets, 4, 1)
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_person_is_in_one_fold_whatever_set_shows_them() -> None:
    one, other = people(), replace(people(), name="others", pictures=noise(24, 5), files=people().files[::-1])
    other = replace(other, files=tuple(Path(f"o/{number}.png") for number in range(24)))
    homes = split(loaded(one, other), 4, 0)
    assert homes[0].tolist() == homes[1].tolist()
    assert all(len(set(homes[0][people().groups == person].tolist())) == 1 for person in range(8))


@pytest.mark.parametrize("case", ["the same pixels under another name", "the same file in another set"])
def test_what_shows_the_same_picture_is_one_group(case: str) -> None:
    first, second = scenes(), made_set("more", "scene", 20, labels=torch.zeros(20, dtype=torch.int64), classes=2)
    if case.startswith("the same pixels"):
        second.pictures[7] = first.pictures[3]
    else:
        second = replace(second, files=(*second.files[:7], first.files[3], *second.files[8:]))
    groups = groups_of(loaded(first, second))
    assert len(np.unique(groups)) == 39 and groups[3] == groups[20 + 7]


def test_the_groups_of_two_sets_are_different_things() -> None:
    frames = made_set("frames", "scene", 6, groups=np.array([0, 0, 1, 1, 2, 2]))
    assert len(np.unique(groups_of(loaded(frames, people())))) == 3 + 8


def test_too_few_different_things_are_refused() -> None:
    frames = made_set("frames", "scene", 6, groups=np.array([0, 0, 1, 1, 1, 1]), labels=torch.zeros(6).long())
    with pytest.raises(DataError, match="its 6 pictures show 2 different things, too few for 3 folds"):
        split(loaded(frames), 3, 0)


def test_training_sees_everything_but_the_fold_and_people_are_numbered_anew() -> None:
    boxes = BoxLabels(torch.rand(20, 1, 4), torch.zeros(20, 1).long(), torch.zeros(20, 1).bool())
    things = made_set("things", "boxes", 20, objects=boxes)
    sets = loaded(things, people())
    homes = split(sets, 4, 0)
    rest, held = training_part(sets, homes, 1), held_out_files(sets, homes, 1)
    for whole, left in zip(sets.sets, rest.sets, strict=True):
        assert {*left.files} | {*held[whole.name]} == {*whole.files} and not {*left.files} & {*held[whole.name]}
        assert len(left) == len(left.files) == len(left.extents)
    kept = [row for row, file in enumerate(things.files) if file in rest.sets[0].files]
    assert rest.sets[0].objects is not None and torch.equal(rest.sets[0].objects.boxes, boxes.boxes[kept])
    assert rest.sets[1].labels is not None
    names = [rest.identities[label] for label in rest.sets[1].labels.tolist()]
    assert len(rest.identities) == rest.sets[1].classes == len(set(names)) == 6
    assert names == [f"P{int(file.stem) // 3}" for file in rest.sets[1].files]


def test_crops_of_two_people_that_look_alike_to_a_hash_stay_two_people() -> None:
    same = torch.zeros(6, SIDE, SIDE, 3, dtype=torch.uint8)
    data = replace(people(6), pictures=same)
    assert len(set(groups_of(loaded(data)).tolist())) == 2
    frames = made_set("frames", "boxes", 6, pictures=same)
    assert len(set(groups_of(loaded(frames)).tolist())) == 1, "other pictures that look alike are one thing"


def test_whatever_has_a_row_for_each_picture_is_without_the_fold() -> None:
    row = torch.arange(20)

    def filled(kind: type[PictureSet] | type[BoxLabels]) -> dict[str, torch.Tensor]:
        tensors = [field.name for field in fields(kind) if "Tensor" in str(field.type) and field.name != "choices"]
        return dict.fromkeys(tensors, row.clone())

    boxes = BoxLabels(**filled(BoxLabels))
    pictures = filled(PictureSet) | {"pictures": noise(20, 1)}
    whole = PictureSet("things", "scene", **pictures, objects=boxes, faces=boxes, groups=row.numpy(), choices=row[:3])
    whole = replace(whole, files=tuple(Path(f"{number}.png") for number in range(20)))
    fold = row.numpy() % 4
    (left,) = training_part(loaded(whole), [fold], 1).sets
    kept = [number for number in range(20) if number % 4 != 1]
    assert left.choices is not None and left.choices.tolist() == [0, 1, 2]
    assert torch.equal(left.pictures, whole.pictures[kept]) and [int(file.stem) for file in left.files] == kept
    assert left.groups is not None and left.groups.tolist() == kept
    for part in (left, left.objects, left.faces):
        for name in filled(type(part)).keys() - {"pictures"}:
            assert getattr(part, name).tolist() == kept, name
