"""Polygons and lines in a picture: whether an outline crosses itself, what lies inside, how far away the border is."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from engines.arrays import Double, Flags


def crossing_edges(points: Sequence[tuple[float, float]]) -> tuple[int, int] | None:
    """Two edges of a closed outline that cross or touch where they should not; None: it is a simple polygon.

    Edges are counted from 0; edge ``i`` goes from point ``i`` to the next one. Neighbours share a point, and may share
    nothing else.

    >>> crossing_edges([(0, 0), (1, 0), (1, 1), (0, 1)]), crossing_edges([(0, 0), (1, 1), (1, 0), (0, 1)])
    (None, (0, 2))
    """
    edges = [(start, points[(index + 1) % len(points)]) for index, start in enumerate(points)]
    for (first, one), (second, other) in combinations(enumerate(edges), 2):
        if one[0] == one[1] or other[0] == other[1]:
            return first, second
        follows, precedes = second == first + 1, (second + 1) % len(edges) == first
        if follows or precedes:
            corner, ahead, behind = (one[1], other[1], one[0]) if follows else (one[0], one[1], other[0])
            if _turn(behind, corner, ahead) == 0 and _between(corner, behind, ahead):
                return first, second  # the outline goes back along itself
        elif _meet(one, other):
            return first, second
    return None


def sides(starts: Double, ends: Double) -> Double:
    """Of outlines with E edges from ``starts`` to ``ends`` (P, E, 2) what :func:`inside` needs: (P, 4, E)."""
    rise = ends[..., 1] - starts[..., 1]
    slope = (ends[..., 0] - starts[..., 0]) / np.where(rise == 0.0, 1.0, rise)
    return np.stack([starts[..., 0], starts[..., 1], ends[..., 1], slope], axis=1)


def inside(points: Double, outlines: Double) -> Flags:
    """Which points (M, 2) lie in their polygons, whose ``outlines`` (M, 4, E) :func:`sides` made; crossing number."""
    x, y = points[:, :1], points[:, 1:]
    start_x, start_y, end_y, slope = outlines[:, 0], outlines[:, 1], outlines[:, 2], outlines[:, 3]
    right = start_x + (y - start_y) * slope > x
    right &= (start_y > y) != (end_y > y)
    return np.asarray(np.logical_xor.reduce(right, axis=1))


def crossed(before: Double, after: Double, starts: Double, ends: Double) -> Flags:
    """Which edges (..., E) the ways from ``before`` to ``after``, (..., 2) each, go across.

    A point on an edge counts as left of it, so that of a way in pieces exactly one piece goes across.
    """
    b, a = before[..., None, :], after[..., None, :]
    along = ends - starts
    reached = (_cross(along, b - starts) > 0) != (_cross(along, a - starts) > 0)
    if reached.any():  # or it does not even reach the line that an edge lies on
        way = a - b
        reached &= (_cross(way, starts - b) > 0) != (_cross(way, ends - b) > 0)
    return np.asarray(reached)


def distance(points: Double, starts: Double, ends: Double) -> Double:
    """How far each point (M, 2) is from the nearest of its edges (M, E, 2): (M,)."""
    along, to = ends - starts, points[:, None] - starts
    length = np.maximum((along**2).sum(axis=-1), 1e-12)
    share = np.clip((along * to).sum(axis=-1) / length, 0.0, 1.0)
    apart = to - share[..., None] * along
    return np.asarray(np.sqrt((apart**2).sum(axis=-1)).min(axis=1))


def _cross(one: Double, other: Double) -> Double:
    return np.asarray(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])


Point = tuple[float, float]
Edge = tuple[Point, Point]


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _between(corner: Point, behind: Point, ahead: Point) -> bool:
    """Whether the two other points lie on the same side of the corner, all three being on one line."""
    return (behind[0] - corner[0]) * (ahead[0] - corner[0]) + (behind[1] - corner[1]) * (ahead[1] - corner[1]) > 0


def _meet(one: Edge, other: Edge) -> bool:
    turns = [_turn(*one, point) for point in other] + [_turn(*other, point) for point in one]
    if turns[0] * turns[1] < 0 and turns[2] * turns[3] < 0:
        return True
    touching = zip(turns, (one, one, other, other), (*other, *one), strict=True)
    return any(turn == 0 and _within(edge, point) for turn, edge, point in touching)


def _within(edge: Edge, point: Point) -> bool:
    (a, b), (x, y) = edge, point
    return min(a[0], b[0]) <= x <= max(a[0], b[0]) and min(a[1], b[1]) <= y <= max(a[1], b[1])
