"""Weights of a network for another one that has other classes: what both know is taken over, the rest stays."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from engines.data.names import coco_name
from engines.spec import Model

OBJECT_ROWS, SCENE_ROWS = "objects.predict.", "scene.linear."  # the layers with rows, or first rows, for classes


Names = tuple[Sequence[str], Sequence[str]]  # of objects and scenes


def adopt_model(model: Model, own: Mapping[str, Tensor], ours: Names) -> dict[str, Tensor]:
    """Return ``own`` state with the weights of a released model; see :func:`adopt_classes`."""
    weights = torch.load(model.weights, map_location="cpu", weights_only=True)["model"]
    weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    return adopt_classes(weights, own, (model.spec.objects, model.spec.scenes), ours)


def adopt_classes(
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    theirs: Names,
    ours: Names,
) -> dict[str, Tensor]:
    """Return ``own`` state with the ``weights`` of another network of the same shape, class by class.

    Args:
        weights: of the other network.
        own: of this one, with fresh rows for its classes.
        theirs: names of the other's objects and scenes; Pascal VOC's names of objects count as COCO's.
        ours: names of this one's objects and scenes.
    """
    objects = _common([coco_name(name) for name in theirs[0]], ours[0])
    scenes = _common(theirs[1], ours[1])
    adopted = {}
    for name, fresh in own.items():
        value = weights.get(name)
        if value is None:
            adopted[name] = fresh
        elif name.startswith(OBJECT_ROWS):
            adopted[name] = fresh.clone()
            adopted[name][len(ours[0]) :] = value[len(theirs[0]) :]
            _copy_rows(adopted[name], value, objects)
        elif name.startswith(SCENE_ROWS):
            adopted[name] = fresh.clone()
            _copy_rows(adopted[name], value, scenes)
        else:
            adopted[name] = value
    return adopted


def _common(theirs: Sequence[str], ours: Sequence[str]) -> list[tuple[int, int]]:
    """(row of theirs, row of ours) of the names that both have."""
    places = {name: row for row, name in enumerate(ours)}
    return [(row, places[name]) for row, name in enumerate(theirs) if name in places]


def _copy_rows(to: Tensor, of: Tensor, rows: Sequence[tuple[int, int]]) -> None:
    for theirs, ours in rows:
        to[ours] = of[theirs]
