"""Weights of a network for another one that has other classes: what both know is taken over, the rest stays."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.data.names import coco_name
from engines.spec import Model
from engines.training.slimming import slimmed

# The layers with rows, or first rows, for classes; those of objects where scores have layers of their own, too
OBJECT_ROWS, SCORE_ROWS, SCENE_ROWS = "objects.predict.", "objects.scores.", "scene.linear."

Names = tuple[Sequence[str], Sequence[str]]  # of objects and scenes


def adopt_model(model: Model, own: Mapping[str, Tensor], ours: Names) -> dict[str, Tensor]:
    """Return ``own`` state with the weights of a released model, which may be wider; see :func:`adopt_classes`."""
    weights = torch.load(model.weights, map_location="cpu", weights_only=True)["model"]
    weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    weights = slimmed(weights, own, model.spec.network)
    return adopt_classes(weights, own, (model.spec.objects, model.spec.scenes), ours)


def adopt_classes(
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    theirs: Names,
    ours: Names,
) -> dict[str, Tensor]:
    """Return ``own`` state with the ``weights`` of another network of the same shape, class by class.

    Scores of objects may come from layers of their own in this one alone; see :func:`part_scores`.

    Args:
        weights: of the other network.
        own: of this one, with fresh rows for its classes.
        theirs: names of the other's objects and scenes; Pascal VOC's names of objects count as COCO's.
        ours: names of this one's objects and scenes.
    """
    weights = part_scores(weights, own)
    object_rows = SCORE_ROWS if any(name.startswith(SCORE_ROWS) for name in own) else OBJECT_ROWS
    objects = _common([coco_name(name) for name in theirs[0]], ours[0])
    scenes = _common(theirs[1], ours[1])
    adopted = {}
    for name, fresh in own.items():
        value = weights.get(name)
        if value is None:
            adopted[name] = fresh
        elif name.startswith(object_rows):
            adopted[name] = fresh.clone()
            adopted[name][len(ours[0]) :] = value[len(theirs[0]) :]
            _copy_rows(adopted[name], value, objects)
        elif name.startswith(SCENE_ROWS):
            adopted[name] = fresh.clone()
            _copy_rows(adopted[name], value, scenes)
        else:
            adopted[name] = value
    return adopted


def part_scores(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``weights`` of a network whose objects' boxes and scores share their last convolution, parted.

    What the network gives stays as it is: the convolution is copied for the scores, channels that ``own`` has beyond
    it stay fresh, and nothing reads them yet (after Chen et al. 2016). Weights that are parted stay as they are.

    Args:
        weights: of the other network.
        own: of this one, with fresh weights.
    """
    parted = dict(weights)
    for name, fresh in own.items():
        if not name.startswith(SCORE_ROWS) or name in weights or not name.endswith(".weight"):
            continue
        level = name.split(".")[2]
        last = max(int(key.split(".")[3]) for key in weights if key.startswith(f"objects.towers.{level}."))
        of, to = f"objects.towers.{level}.{last}.", f"objects.class_towers.{level}."
        for key, value in weights.items():
            if key.startswith(of):
                parted[to + key.removeprefix(of)] = _widened(own[to + key.removeprefix(of)], value)
        for part in ("weight", "bias"):
            rows, predict = f"{SCORE_ROWS}{level}.{part}", f"{OBJECT_ROWS}{level}.{part}"
            boxes = len(own[predict])
            parted[rows], parted[predict] = weights[predict][:-boxes], weights[predict][-boxes:]
        parted[name] = F.pad(parted[name], (0, 0, 0, 0, 0, fresh.shape[1] - parted[name].shape[1]))
    return parted


def _widened(fresh: Tensor, value: Tensor) -> Tensor:
    """``fresh`` with ``value`` as its first rows."""
    return torch.cat([value, fresh[len(value) :]]) if value.ndim else value


def _common(theirs: Sequence[str], ours: Sequence[str]) -> list[tuple[int, int]]:
    """(row of theirs, row of ours) of the names that both have."""
    places = {name: row for row, name in enumerate(ours)}
    return [(row, places[name]) for row, name in enumerate(theirs) if name in places]


def _copy_rows(to: Tensor, of: Tensor, rows: Sequence[tuple[int, int]]) -> None:
    for theirs, ours in rows:
        to[ours] = of[theirs]
