"""Scenes as groups: what a run tells of the scenes that a network was taught."""

from functools import lru_cache

import numpy as np

from engines.arrays import Float, Rows
from engines.spec import NONE_OF_THESE, SceneGroup


def grouped(probabilities: Float, groups: tuple[SceneGroup, ...], scenes: tuple[str, ...]) -> Float:
    """Probabilities (..., C) of the scenes as those of their groups (..., G); as they are where there are no groups.

    Scenes in no group are left out: probabilities of groups add up to 1.
    """
    if not groups or not probabilities.shape[-1]:
        return probabilities
    found = probabilities @ _members(groups, scenes)
    return np.asarray(found / np.maximum(found.sum(axis=-1, keepdims=True), np.finfo(np.float32).tiny), np.float32)


def likeliest(probabilities: Float, groups: tuple[SceneGroup, ...]) -> Rows:
    """The group (N,) of each picture, of probabilities (N, G): none of these only where that is likelier than not."""
    chosen = probabilities.argmax(axis=1)
    if groups[-1].name == NONE_OF_THESE:
        best = probabilities[:, :-1].argmax(axis=1)
        chosen = np.where(probabilities[:, -1] > 0.5, len(groups) - 1, best)
    return np.asarray(chosen, np.int64)


@lru_cache(maxsize=16)
def _members(groups: tuple[SceneGroup, ...], scenes: tuple[str, ...]) -> Float:
    members = np.zeros((len(scenes), len(groups)), np.float32)
    for column, group in enumerate(groups):
        members[[scenes.index(name) for name in group.scenes], column] = 1.0
    return members
