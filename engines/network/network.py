"""One network, two entries, a head for each task."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from engines.network.features import Features, Grid
from engines.network.layers import normalise_pixels
from engines.network.neck import Neck
from engines.network.trunk import Trunk
from engines.spec import EntryName, NetworkSettings, TaskName
from engines.tasks import REGISTRY, task

Raw = Any  # what a head gives before decoding: a tensor or a tuple of tensors, as its own loss takes it


class TaskHead(Protocol):
    """The layers of one task: ``build(settings, classes)`` of ``head.py`` in its folder makes them."""

    def __call__(self, features: Features) -> Raw:
        """Maps of a batch -> what the task's loss takes."""

    def exported(self, raw: Raw, grid: Grid | None) -> tuple[Tensor, ...]:
        """What a head gave -> the task's outputs, batch first; ``grid`` is that of frames, None for faces."""


class Network(nn.Module):
    """Trunk, neck and heads. Parts are passed in; :func:`build_network` makes them from settings.

    A task without its head is one that the network does not know. The neck serves the tasks that read its pyramid.
    """

    def __init__(self, trunk: Trunk, neck: Neck | None, heads: Mapping[TaskName, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck
        self.tasks = tuple(heads)
        for name, head in heads.items():
            self.add_module(name, head)

    def head(self, name: TaskName) -> TaskHead:
        """The head of one of the network's tasks."""
        return cast("TaskHead", self.get_submodule(name))

    def frame(self, images: Tensor) -> dict[TaskName, Raw]:
        """The frame entry: uint8 RGB (N, H, W, 3), sides multiples of 32, -> what each of its heads gives."""
        return self.run("frame", self.tasks_of("frame"), images)

    def face(self, images: Tensor) -> dict[TaskName, Raw]:
        """The face entry: uint8 RGB (N, 112, 112, 3) aligned faces -> what each of its heads gives."""
        return self.run("face", self.tasks_of("face"), images)

    def run(self, entry: EntryName, names: Collection[TaskName], images: Tensor) -> dict[TaskName, Raw]:
        """Pictures of an entry -> what the heads of these tasks give."""
        return self.look(entry, names, images)[1]

    def look(
        self, entry: EntryName, names: Collection[TaskName], images: Tensor
    ) -> tuple[Features, dict[TaskName, Raw]]:
        """As :meth:`run`, with the maps that the heads read."""
        c3, c4, c5 = self.trunk(_pixels(images), entry)
        read = self.neck is not None and any(task(name).pyramid for name in names)
        features = Features(c4, c5, self.neck((c3, c4, c5)) if self.neck is not None and read else None)
        return features, {name: self.head(name)(features) for name in names}

    def tasks_of(self, entry: EntryName) -> tuple[TaskName, ...]:
        """Those of the network's tasks whose heads see an entry's pictures."""
        return tuple(name for name in self.tasks if task(name).entry == entry)


def _pixels(images: Tensor) -> Tensor:
    return normalise_pixels(images).contiguous(memory_format=torch.channels_last)


def build_network(settings: NetworkSettings, objects: int, scenes: int) -> Network:
    """A network with fresh weights for the tasks of the settings, so many object classes and so many scenes."""
    wanted = [each for each in REGISTRY if each.name in settings.tasks]
    trunk = Trunk(settings)
    neck = Neck(settings) if any(each.pyramid for each in wanted) else None
    classes = {"objects": objects, "scene": scenes}  # which differ from model to model
    heads = {each.name: each.part("head").build(settings, classes.get(each.name, len(each.labels))) for each in wanted}
    return Network(trunk, neck, heads)
