"""Scenes as groups: what a run tells of the scenes that a network was taught."""

from functools import lru_cache

import numpy as np

from engines.arrays import Float
from engines.spec import SceneGroup


def grouped(probabilities: Float, groups: tuple[SceneGroup, ...], scenes: tuple[str, ...]) -> Float:
    """Probabilities (..., C) of the scenes as those of their groups (..., G); as they are where there are no groups."""
    if not groups or not probabilities.shape[-1]:
        return probabilities
    return np.asarray(probabilities @ _members(groups, scenes), np.float32)


@lru_cache(maxsize=16)
def _members(groups: tuple[SceneGroup, ...], scenes: tuple[str, ...]) -> Float:
    members = np.zeros((len(scenes), len(groups)), np.float32)
    for column, group in enumerate(groups):
        members[[scenes.index(name) for name in group.scenes], column] = 1.0
    return members
