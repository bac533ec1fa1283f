"""Batches in which a stream may have several frames, taken apart."""

from collections.abc import Sequence

from pipeline.frames.types import Observed, Skipped


def turns(items: Sequence[Observed | Skipped]) -> list[list[int]]:
    """Divide the places of a batch so that no part has two frames of a stream, and those of one follow in order."""
    parts, seen = list[list[int]](), dict[str, int]()
    for place, item in enumerate(items):
        turn = seen.get(item.frame.stream, 0)
        seen[item.frame.stream] = turn + 1
        if turn == len(parts):
            parts.append([])
        parts[turn].append(place)
    return parts
