"""Whose face is whose: each face goes to the person in whose upper part it lies, the last one preferred."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from engines.arrays import Double, Rows
from pipeline.frames.types import Tracks
from pipeline.tracking.association import Blocks, best, by_coordinate, touching_within

UPPER_SHARE: Final = 0.6  # the part of a person's box, from the top, in which a face is looked for
MIN_INSIDE: Final = 0.5  # share of a face that must lie in there
STAY: Final = 1.25  # how much better another person must fit before a face changes over
STREAM_BIT: Final = 40  # of a number that is a stream's in its upper bits and a track's in the others

Owners = dict[int, int]  # face track -> the person's track, of one stream


def link_faces(
    owners: Sequence[Owners], objects: Sequence[Tracks], faces: Sequence[Tracks], person: int | None
) -> list[Rows]:
    """Link the faces of a frame of each of some streams, and note the persons in ``owners``.

    Args:
        owners: of each stream, as of its last frame.
        objects: of each stream.
        faces: of each stream.
        person: label of people, if the model has one.

    Returns:
        Of each stream the person (id) of each face, 0 for none; a person has one face.
    """
    for own, each in zip(owners, faces, strict=True):
        for ended in each.ended.tolist():
            own.pop(ended, None)
    known: list[list[int]] = [each.ids.tolist() for each in faces]
    ends = np.cumsum([len(ids) for ids in known]).tolist()
    links = np.zeros(ends[-1], np.int64)
    if len(links):
        owner = np.array([own.get(face, 0) for own, ids in zip(owners, known, strict=True) for face in ids], np.int64)
        _link(links, owner, objects, faces, person)
    parts = [links[first:end] for first, end in zip([0, *ends], ends, strict=False)]
    for own, ids, part in zip(owners, known, parts, strict=True):
        own.update((face, link) for face, link in zip(ids, part.tolist(), strict=True) if link)
    return parts


def _link(links: Rows, owner: Rows, objects: Sequence[Tracks], faces: Sequence[Tracks], person: int | None) -> None:
    """Write the links of the faces of all streams (F,), whose persons so far were ``owner`` (F,)."""
    count = len(objects)
    ids = np.concatenate([each.ids for each in objects])
    wanted = np.concatenate([each.labels for each in objects]) == (-1 if person is None else person)
    streams = np.arange(count).repeat([len(each.ids) for each in objects])
    of_faces = np.arange(count).repeat([len(each.ids) for each in faces])
    (others,) = (~wanted).nonzero()
    (linked,) = owner.nonzero()
    if len(others) and len(linked):
        # A person whose label flickers in this frame stays a person for the face that is already linked.
        owned = np.sort((of_faces.take(linked) << STREAM_BIT) + owner.take(linked))
        numbers = (streams.take(others) << STREAM_BIT) + ids.take(others)
        wanted[others] = owned.take(owned.searchsorted(numbers), mode="clip") == numbers
    (people,) = wanted.nonzero()
    ids, streams = ids.take(people), streams.take(people)
    heads = by_coordinate(np.concatenate([each.boxes for each in faces]))
    bodies = by_coordinate(np.concatenate([each.boxes for each in objects]).take(people, 0))
    rows, columns = touching_within(heads, bodies, Blocks.of(of_faces, count), Blocks.of(streams, count))
    fit = face_fit(heads.take(rows, 1), bodies.take(columns, 1))
    fit[owner.take(rows) == ids.take(columns)] *= STAY
    (good,) = fit.nonzero()
    rows, columns = rows.take(good), columns.take(good)
    chosen = best(rows, columns, fit.take(good), (len(links), len(ids)))
    links[rows.take(chosen)] = ids.take(columns.take(chosen))


def face_fit(faces: Double, people: Double) -> Double:
    """How well each face (4, K) sits where the head of its person (4, K) should be: (K,), 0, not at all, to 1.

    Boxes are xyxy. The share of the face that lies in the upper part of the person counts, less the further it is
    from the middle of the upper edge.
    """
    (left, top, right, _), (a, b, c, _) = faces, people
    (width, height), far = people[2:] - people[:2], people[2:].copy()
    far[1] = b + UPPER_SHARE * height
    common, sides = np.minimum(faces[2:], far) - np.maximum(faces[:2], people[:2]), faces[2:] - faces[:2]
    np.maximum(common, 0.0, out=common)
    inside = common[0] * common[1] / (sides[0] * sides[1])
    aside = np.abs(left + right - a - c) / (2 * width)
    below = np.abs(top - b) / height
    return np.asarray(np.where(inside >= MIN_INSIDE, inside / (1 + aside + below), 0.0), np.float64)
