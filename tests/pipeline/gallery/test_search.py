import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pipeline.gallery import search
from pipeline.gallery.gallery import Snapshot
from pipeline.gallery.search import SMALL, Index

LENGTH = 16


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_unit(count: int, seed: int = 0, length: int = LENGTH) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, length)))


def named(counts: list[int]) -> tuple[str, ...]:
    """Names ``p0``, ``p1``, ... each as often as it has views."""
    return tuple(f"p{person}" for person, views in enumerate(counts) for _ in range(views))


def by_comparing_all(names: tuple[str, ...], vectors: np.ndarray, face: np.ndarray, k: int) -> tuple[list[str], list]:
    cosines = (vectors.astype(np.float64) @ face.astype(np.float64)).astype(np.float32)
    best: dict[str, float] = {}
    for name, cosine in zip(names, cosines.tolist(), strict=True):
        best[name] = max(cosine, best.get(name, -2.0))
    ranked = sorted(best.items(), key=lambda item: -item[1])[:k]  # stable: of equal ones the earlier
    return [name for name, _ in ranked], [cosine for _, cosine in ranked]


def check(names: tuple[str, ...], vectors: np.ndarray, faces: np.ndarray, k: int) -> None:
    index = Index(Snapshot(names, vectors))
    people, cosines = index.search(faces, k)
    assert people.shape == cosines.shape == (len(faces), min(k, len(set(names))))
    for face, rows, found in zip(faces, people.tolist(), cosines.tolist(), strict=True):
        expected_names, expected = by_comparing_all(names, vectors, face, k)
        assert [index.names[row] for row in rows] == expected_names
        assert found == expected
        assert [index.cosine(face, name) for name in expected_names] == expected


@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=40),
    k=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
    kinds=st.integers(1, 200),
    times=st.sampled_from([1, 60]),
)
def test_the_answer_is_that_of_comparing_all(counts: list[int], k: int, seed: int, kinds: int, times: int) -> None:
    # With few kinds of vectors there are people who look exactly alike; 60 times as many people take the coarse way.
    names = named(counts * times)
    rng = np.random.default_rng(seed)
    vectors = random_unit(kinds, seed)[rng.integers(kinds, size=len(names))]
    faces = np.concatenate([random_unit(2, seed + 1), vectors[:2], -vectors[:1]])
    check(names, vectors, faces, k)


@pytest.mark.parametrize("count", [SMALL, SMALL + 1, 5000])
@pytest.mark.parametrize("views", [1, 7])
def test_small_and_large_galleries_at_full_length(count: int, views: int) -> None:
    names = named([views] * (count // views) + ([count % views] if count % views else []))
    vectors = random_unit(count, seed=1, length=128)
    check(names, vectors, np.concatenate([random_unit(20, seed=2, length=128), vectors[-3:]]), 5)


@pytest.mark.parametrize(
    ("names", "vectors"),
    [
        pytest.param(named([1] * 2000), np.tile(random_unit(1), (2000, 1)), id="everyone looks exactly alike"),
        pytest.param(named([2000]), random_unit(2000), id="one person with all the views"),
        pytest.param(named([1, 1998, 1]), random_unit(2000), id="one person with nearly all"),
        pytest.param(
            named([1] * 800), np.eye(LENGTH, dtype=np.float32)[np.arange(800) % LENGTH], id="a single number each"
        ),
        pytest.param(
            named([1] * 800),
            unit(random_unit(1) + 1e-4 * random_unit(800, 3)),
            id="closer together than the coarse numbers can tell",
        ),
        pytest.param(
            named([1] * 801),
            np.concatenate([np.eye(1, LENGTH, dtype=np.float32), random_unit(800, 3)]),
            id="one number much larger than all others",
        ),
    ],
)
@pytest.mark.parametrize("k", [1, 2, 5, 1500])
def test_galleries_that_are_hard_to_search(names: tuple[str, ...], vectors: np.ndarray, k: int) -> None:
    check(names, vectors, np.concatenate([random_unit(3, 9), vectors[:2]]), k)


def test_an_empty_gallery_knows_nobody() -> None:
    index = Index(Snapshot((), np.zeros((0, 0), np.float32)))
    people, cosines = index.search(random_unit(3), 5)
    assert (index.names, people.shape, cosines.shape) == ((), (3, 0), (3, 0))
    with pytest.raises(KeyError):
        index.cosine(random_unit(1)[0], "p0")


def test_no_face_gets_no_answer() -> None:
    people, cosines = Index(Snapshot(named([2, 1]), random_unit(3))).search(random_unit(0), 5)
    assert (people.shape, cosines.shape) == ((0, 2), (0, 2))


@pytest.mark.parametrize("count", [3, SMALL + 1])
def test_a_face_that_is_all_zero_is_as_far_from_everyone(count: int) -> None:
    people, cosines = Index(Snapshot(named([1] * count), random_unit(count))).search(
        np.zeros((1, LENGTH), np.float32), 2
    )
    assert (people.tolist(), cosines.tolist()) == ([[0, 1]], [[0.0, 0.0]])


@pytest.mark.parametrize("count", [3, SMALL + 1])
@pytest.mark.parametrize("face", [np.full((1, LENGTH), np.nan), np.full((1, LENGTH), np.inf), np.ones((1, LENGTH - 1))])
def test_a_face_that_cannot_be_compared_is_refused(count: int, face: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be finite and"):
        Index(Snapshot(named([1] * count), random_unit(count))).search(face.astype(np.float32), 2)


def test_the_model_written_out_is_the_node_with_the_views_in_it() -> None:
    views = np.arange(-6, 6, dtype=np.int8).reshape(2, 6)
    made = onnx.load_from_string(search.MODEL.read_bytes() + search._views(views))
    onnx.checker.check_model(made, full_check=True)
    (node,) = made.graph.node
    assert (node.op_type, list(node.input), made.opset_import[0].version) == (
        "MatMulInteger",
        ["face", "views", "zero"],
        11,
    )
    zero, tensor = made.graph.initializer
    assert (zero.name, zero.data_type, onnx.numpy_helper.to_array(zero)) == ("zero", TensorProto.UINT8, search._ZERO)
    assert (
        tensor.SerializeToString()
        == helper.make_tensor("views", TensorProto.INT8, views.shape, views.tobytes(), raw=True).SerializeToString()
    )
