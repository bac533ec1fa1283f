"""The shards of postprocessing: which stream belongs to which, and the part of a batch that each gets."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import numpy as np

from engines.hardware import usable_cores
from pipeline.frames.types import Inferred
from pipeline.settings.schema import Config

CORES_EACH: Final = 4  # of a shard with a process of its own, the engine's and the captures' included
MAX_AUTO: Final = 8


def shard_count(config: Config) -> int:
    """How many shards a run has; they share its streams, those that are added later, too."""
    if config.postprocess.shards != "auto":
        return config.postprocess.shards
    if config.links == "queue":
        return 1  # the interpreter runs one of them at a time: decision 29 has the figures
    return max(1, min(usable_cores() // CORES_EACH, len(config.streams), MAX_AUTO))


def choose_shard(shards: int, live: bool, others: Iterable[tuple[int, bool]]) -> int:
    """The shard of a stream that comes: where fewest of the other kind are, and of those where fewest are.

    Files wait for the face entry and live streams must not, so they are kept apart as far as that goes.

    Args:
        shards: how many there are.
        live: whether its frames must not wait.
        others: shard and kind of each stream that there is.

    >>> choose_shard(2, True, [(0, True)]), choose_shard(2, False, [(0, True), (1, False), (1, False)])
    (1, 1)
    """
    other, every = [0] * shards, [0] * shards
    for shard, kind in others:
        every[shard] += 1
        other[shard] += kind != live
    return min(range(shards), key=lambda shard: (other[shard], every[shard]))


def split(item: Inferred, shards: int, shard_of: Callable[[str], int]) -> list[tuple[int, Inferred]]:
    """The part of a batch that each shard gets, of those that get any; the network's input stays whole.

    Args:
        item: the batch.
        shards: how many there are.
        shard_of: that of a stream, by name.
    """
    if shards == 1:
        return [(0, item)]
    batch = item.prepared.batch
    theirs = np.array([shard_of(frame.stream) for frame in batch.frames])
    skipped = np.isin(np.arange(len(theirs)), sorted(batch.skipped))
    return [(shard, _part(item, theirs == shard, skipped)) for shard in np.unique(theirs).tolist()]


def _part(item: Inferred, mine: np.ndarray, skipped: np.ndarray) -> Inferred:
    """The frames where ``mine`` (N,) is true; ``skipped`` (N,): those that were not inferred."""
    batch, rows = item.prepared.batch, mine[~skipped].nonzero()[0]
    views = tuple(item.prepared.views[place] for place in rows) if item.prepared.views else ()
    if views:  # all rows of its frames
        rows = mine[~skipped].repeat(item.prepared.views).nonzero()[0]
    frames = tuple(batch.frames[place] for place in mine.nonzero()[0])
    places = frozenset(skipped[mine].nonzero()[0].tolist())
    letterboxes = tuple(item.prepared.letterboxes[row] for row in rows)
    own = replace(batch, frames=frames, skipped=places)
    prepared = replace(item.prepared, batch=own, letterboxes=letterboxes, views=views)
    return replace(item, prepared=prepared, outputs={name: values[rows] for name, values in item.outputs.items()})
