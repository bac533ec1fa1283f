"""What is learnt from at a time: drawn rows of a set become varied pictures, their labels, and a detector's word."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engines.network.features import Grid
from engines.training.augmentation import MicroBatch, build_augmenters
from engines.training.datasets import PictureSet
from engines.training.dense import DenseTeacher
from engines.training.settings import DatasetSettings, Shape


@dataclass(frozen=True, slots=True)
class Draw:
    """A micro-batch before it is made: the same in every process."""

    dataset: int
    rows: Tensor  # (N,) int64
    size: Shape  # of its pictures
    mosaic: bool
    seed: int  # of everything random in it


class MicroBatchMaker:
    """Makes micro-batches of sets, alike whenever and in whatever thread.

    Args:
        entries: the settings of the sets.
        sets: on the device that learns.
        grids: of each size of pictures.
        dense: says of pictures with boxes what it sees in them.
    """

    def __init__(
        self,
        entries: Sequence[DatasetSettings],
        sets: Sequence[PictureSet],
        grids: Mapping[Shape, Grid],
        dense: DenseTeacher | None,
    ) -> None:
        self.sets, self.grids, self.dense = sets, grids, dense
        self.generator = torch.Generator()
        self.augmenters = build_augmenters(entries, sets, self.generator)
        self.ahead = ThreadPoolExecutor(1, "micro-batches")

    def made(self, draws: Sequence[tuple[int, Draw]]) -> Iterator[tuple[int, Draw, MicroBatch]]:
        """The micro-batches of draws, in order; the next one is made while the network learns from one."""
        coming = [self.ahead.submit(self.make, draw) for _, draw in draws[:1]]
        for place, (position, draw) in enumerate(draws):
            batch = coming.pop().result()
            coming += [self.ahead.submit(self.make, after) for _, after in draws[place + 1 : place + 2]]
            yield position, draw, batch

    def make(self, draw: Draw) -> MicroBatch:
        """The pictures and labels of a micro-batch."""
        self.generator.manual_seed(draw.seed)
        data = self.sets[draw.dataset]
        rows = draw.rows.to(data.pictures.device)
        batch = self.augmenters[draw.dataset](data, rows, draw.size, mosaic=draw.mosaic)
        if self.dense is None or data.kind != "boxes":
            return batch
        return replace(batch, dense=self.dense(batch.pictures, self.grids[draw.size]))
