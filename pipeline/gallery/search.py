"""Exact search over the gallery: the people whose views resemble a face most."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engines.arrays import Float, Rows
from pipeline.gallery.gallery import Snapshot

Sums = npt.NDArray[np.int32]

SMALL: Final = 512  # views up to which comparing them all is quicker than asking first which are worth it
FACES: Final = 16  # compared at once: more only take memory
GROUPS: Final = 1024  # of people, whose best views tell how good the best people are at least
VIEW_STEPS: Final = 127  # up to the largest number among the views: they become int8
FACE_STEPS: Final = 63  # 7 bits for the faces: two products must fit into the 16 bits in which some processors add them
CHUNK: Final = 65536  # views that become int8 at once
ROUNDING: Final = 1e-6  # of a float32 cosine; more than there is
MIN_PEAK: Final = 1e-3  # the largest number of a face counts as this at least; of a unit vector it is more

# An ONNX model of one MatMulInteger node, operator set 11: faces (F, D) uint8 with the zero point 64 and views (D, N)
# int8 give sums (F, N) int32. It is a file since making it takes the package onnx, which only training needs. The views
# are missing and are appended for each gallery: a face among 100,000 views takes 1.9 ms so, 11 ms where they are an
# input of the model, which ONNX Runtime cannot lay out for its kernel once, and 3.1 ms in float32 with BLAS.
MODEL: Final = Path(__file__).with_name("search.onnx")
_ZERO: Final = 64


class Index:
    """All views of the gallery at one moment; immutable, and any thread may search it.

    The views are compared first as int8, a quarter of the memory to be read, with a bound on what rounding can change;
    those that may still be among the best are compared again as they are. So the answer is that of comparing them all.

    >>> index = Index(Snapshot(("Ada", "Ada", "Bob"), np.eye(3, dtype=np.float32)))
    >>> people, cosines = index.search(np.array([[0.0, 1.0, 0.0]], np.float32), 2)
    >>> [index.names[person] for person in people[0]], cosines[0].tolist()
    (['Ada', 'Bob'], [1.0, 0.0])

    Args:
        snapshot: the gallery's unit vectors (N, D), those of one person together.

    Attributes:
        names: (P,) of the people, in the snapshot's order.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.names = tuple(dict.fromkeys(snapshot.names))
        self._rows = {name: row for row, name in enumerate(self.names)}
        self._vectors = snapshot.vectors
        owners = np.fromiter((self._rows[name] for name in snapshot.names), np.int64, len(snapshot.names))
        self._ends = np.searchsorted(owners, np.arange(len(self.names)), "right")
        starts = np.searchsorted(owners, np.arange(len(self.names)))
        self._starts = starts
        self._groups = starts[:: max(1, len(starts) // GROUPS)]
        small = len(snapshot.vectors) <= SMALL
        self._all = snapshot.vectors.astype(np.float64) if small else None  # once, for all faces
        self._coarse = None if small else _Coarse(snapshot.vectors)

    def search(self, embeddings: Float, most: int) -> tuple[Rows, Float]:
        """Return the people who resemble each face most.

        Args:
            embeddings: (F, D) unit vectors.
            most: how many people for each face.

        Returns:
            people (F, k), rows of ``names``, and cosines (F, k) of each one's most similar view, best first, of equal
            ones the earlier row; k is ``most``, or the number of people where that is less.

        Raises:
            ValueError: an embedding is not finite, or of another length than the gallery's.
        """
        k = min(most, len(self.names))
        people, cosines = np.zeros((len(embeddings), k), np.int64), np.zeros((len(embeddings), k), np.float32)
        if not k:
            return people, cosines
        if embeddings.shape[1] != self._vectors.shape[1] or not np.isfinite(embeddings).all():
            raise ValueError(f"embeddings must be finite and (F, {self._vectors.shape[1]}), got {embeddings.shape}")
        if self._all is not None:
            for face, embedding in enumerate(embeddings.astype(np.float64)):
                found = np.maximum.reduceat((self._all @ embedding).astype(np.float32), self._starts)
                people[face] = (-found).argsort(kind="stable")[:k]
                cosines[face] = found[people[face]]
            return people, cosines
        for face, rows in enumerate(self._candidates(embeddings, k)):
            people[face], cosines[face] = self._best(embeddings[face], rows, k)
        return people, cosines

    def cosine(self, embedding: Float, name: str) -> float:
        """Return the cosine of a unit ``embedding`` (D,) to the most similar view of a person.

        Raises:
            KeyError: there is no such person.
        """
        row = self._rows[name]
        return float(self._compare(embedding, np.arange(self._starts[row], self._ends[row])).max())

    def _candidates(self, embeddings: Float, k: int) -> Iterator[Rows]:
        """Yield for each face the views, in order, that may be the best of one of the ``k`` best people."""
        assert self._coarse is not None
        # People of different groups are different: the k-th best group has a view as good as the k-th best person's.
        groups = self._groups if k <= len(self._groups) else self._starts
        for begin in range(0, len(embeddings), FACES):
            for sums, margin in self._coarse.compare(embeddings[begin : begin + FACES]):
                tops = np.maximum.reduceat(sums, groups)
                tops.partition(len(tops) - k)
                yield np.flatnonzero(sums >= np.int32(tops[-k] - 2 * margin))

    def _best(self, embedding: Float, rows: Rows, k: int) -> tuple[Rows, Float]:
        """Return, of the people with these views, the ``k`` most similar and their cosines, best first."""
        people = np.searchsorted(self._ends, rows, "right")
        first = np.flatnonzero(np.diff(people, prepend=-1))
        cosines = np.maximum.reduceat(self._compare(embedding, rows), first)
        order = np.argsort(-cosines, kind="stable")[:k]
        return people[first[order]], cosines[order]

    def _compare(self, embedding: Float, rows: Rows) -> Float:
        # In float64, so that equal views have equal cosines wherever they stand: BLAS adds them up in another order.
        return np.asarray(self._vectors[rows].astype(np.float64) @ embedding.astype(np.float64), np.float32)


class _Coarse:
    """The views (N, D) as whole numbers, and how far a cosine of those can be off."""

    def __init__(self, vectors: Float) -> None:
        import onnxruntime  # takes a tenth of a second, and most galleries are small

        self._step = float(np.abs(vectors).max()) / VIEW_STEPS
        self._error = self._length = 0.0
        rounded = np.empty(vectors.shape[::-1], np.int8)
        for begin in range(0, len(vectors), CHUNK):
            part = vectors[begin : begin + CHUNK]
            whole = np.rint(part / np.float32(self._step))
            rounded[:, begin : begin + CHUNK] = whole.T
            whole *= np.float32(self._step)
            self._length = max(self._length, float(np.linalg.norm(whole, axis=1).max()))
            self._error = max(self._error, float(np.linalg.norm(part - whole, axis=1).max()))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = MODEL.read_bytes() + _views(rounded)
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def compare(self, faces: Float) -> Iterator[tuple[Sums, int]]:
        """Yield for each of the faces (F, D) its sums with all views (N,), and how far these can be off, rounded up."""
        steps = np.maximum(np.abs(faces).max(axis=1, keepdims=True), MIN_PEAK) / FACE_STEPS
        rounded = np.rint(faces / steps)
        errors = np.linalg.norm(faces - rounded * steps, axis=1)
        # Cauchy and Schwarz: |q x - q' x'| <= |q| |x - x'| + |q - q'| |x'|
        margins = np.linalg.norm(faces, axis=1) * self._error + errors * self._length + ROUNDING
        sums = self._session.run(None, {"face": (rounded + _ZERO).astype(np.uint8)})[0]
        yield from zip(sums, np.ceil(margins / (steps[:, 0] * self._step)).astype(int).tolist(), strict=True)


def _views(rounded: npt.NDArray[np.int8]) -> bytes:
    """Return the tensor that the model lacks: protocol buffers that are written one after the other are joined."""
    rows, columns = rounded.shape
    tensor = _number(1, rows) + _number(1, columns) + _number(2, 3) + _bytes(8, b"views") + _bytes(9, rounded.tobytes())
    return _bytes(7, _bytes(5, tensor))


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Encode a number in seven bits a byte, the lowest first; the highest bit marks that more follow."""
    whole = []
    while value > 127:
        whole.append(value & 127 | 128)
        value >>= 7
    return bytes([*whole, value])
