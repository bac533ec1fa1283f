import math
import shutil
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np
import pytest
import torch

from engines.comparing import BOX_PX, COSINE, SCORE, Gap, row_differences
from engines.compiling.export import export
from engines.compiling.parity import Parity, check_parity
from engines.engine import open_engine
from engines.errors import DataError, EngineError
from engines.spec import Backend, Model, TaskName, Thresholds, load_model
from engines.tasks.objects.decode import MAX_ROWS as MAX_OBJECTS
from tests.engines.compiling.made_network import trained
from tests.engines.made_models import pictures
from tests.engines.training.made_data import TINY

pytestmark = pytest.mark.usefixtures("single_requests")
BACKENDS: tuple[Backend, ...] = ("onnxruntime", "openvino")
KINDS: dict[str, Literal["pixels", "score", "cosine"]] = {
    "boxes": "pixels", "landmarks": "pixels", "scores": "score", "scene": "score", "quality": "score",
    "embeddings": "cosine",
}  # fmt: skip
LIMITS = {"pixels": BOX_PX, "score": SCORE, "cosine": COSINE}


def parity(**values: float) -> Parity:
    """No difference but for those that are named."""
    none = {name: 1.0 if kind == "cosine" else 0.0 for name, kind in KINDS.items()}
    return Parity("some", 1, 1, {name: Gap(value, KINDS[name]) for name, value in (none | values).items()})


def write_noise(folder: Path, count: int, height: int, width: int) -> list[Path]:
    files = [folder / f"{height}x{width}_{number}.png" for number in range(count)]
    for file, pixels in zip(files, pictures(count, height, width), strict=True):
        # Soft blobs: a network says much the same of all pure noise.
        soft = cv2.resize(pixels[: height // 16 + 1, : width // 16 + 1], (width, height), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(file), soft)
    return files


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """More than one batch, of two shapes."""
    folder = tmp_path_factory.mktemp("frames")
    return write_noise(folder, 7, 80, 120) + write_noise(folder, 3, 100, 60)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_noise(tmp_path_factory.mktemp("faces"), 5, 64, 64)


def test_a_right_export_holds_on_every_backend(model: Model, frames: list[Path], faces: list[Path]) -> None:
    with open_engine(model, "frame", "torch", "f32") as engine:
        scores = engine.infer(pictures(2, 64, 96))["object_scores"]
    assert (scores > 0.1).all(), "every row is compared, so that this test can fail"
    found = check_parity(model, BACKENDS, frames, faces)
    assert [each.backend for each in found] == list(BACKENDS)
    for each in found:
        assert each.holds
        assert (each.pictures, each.faces) == (10, 5)
        assert each.gaps["boxes"].value < 0.05 and each.gaps["embeddings"].value > 0.99999


@pytest.mark.parametrize(
    ("part", "factor"),
    [
        ("objects.predict.0.bias", 1.2),
        ("faces.predict.1.bias", 1.2),
        ("scene.linear.weight", 1.5),
        ("trunk.stem.conv.weight", 1.1),
    ],
)
def test_weights_that_are_not_those_of_the_graph_are_refused(
    model: Model, frames: list[Path], faces: list[Path], tmp_path: Path, part: str, factor: float
) -> None:
    folder = shutil.copytree(model.path, tmp_path / "model")
    weights = torch.load(folder / "weights.pt", weights_only=True)
    weights["model"][part] *= factor
    torch.save(weights, folder / "weights.pt")
    with pytest.raises(EngineError, match=r"parity with PyTorch is broken beyond 0\.5 px, 0\.001 or cosine 0\.9999"):
        check_parity(load_model(folder), ["onnxruntime"], frames[:2], faces[:2])


def test_another_identity_layer_is_refused(model: Model, frames: list[Path], faces: list[Path], tmp_path: Path) -> None:
    folder = shutil.copytree(model.path, tmp_path / "model")
    weights = torch.load(folder / "weights.pt", weights_only=True)
    weights["model"]["identity.linear.weight"][::2] *= -1
    torch.save(weights, folder / "weights.pt")
    with pytest.raises(EngineError, match="parity with PyTorch is broken"):
        check_parity(load_model(folder), ["onnxruntime"], frames[:2], faces[:2])


@pytest.mark.parametrize(
    ("tasks", "compared"),
    [
        (("objects",), {"boxes", "scores"}),
        (("scene",), {"scene"}),
        (("identity",), {"quality", "embeddings"}),
        (("faces", "identity"), {"boxes", "landmarks", "scores", "quality", "embeddings"}),
    ],
    ids=["objects", "scene", "identity", "faces and identity"],
)
def test_only_what_a_model_has_is_compared(
    frames: list[Path], faces: list[Path], tmp_path: Path, tasks: tuple[TaskName, ...], compared: set[str]
) -> None:
    export(trained(msgspec.structs.replace(TINY, tasks=tasks)), tmp_path, (64, 64), Thresholds())
    needed = frames[:2] if set(tasks) != {"identity"} else [], faces[:3] if "identity" in tasks else []
    (found,) = check_parity(load_model(tmp_path), ["openvino"], *needed)
    assert found.holds
    assert found.summary.keys() == compared
    assert (found.pictures, found.faces) == tuple(map(len, needed))
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    weights["model"]["trunk.stem.conv.weight"] *= -1
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(EngineError, match="parity with PyTorch is broken"):
        check_parity(load_model(tmp_path), ["openvino"], *needed)


def test_a_picture_that_cannot_be_read_is_named(model: Model, faces: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        check_parity(model, ["onnxruntime"], [tmp_path / "broken.png"], faces)


def test_each_difference_has_its_limit() -> None:
    assert parity().holds
    assert parity(**{name: LIMITS[kind] for name, kind in KINDS.items()}).holds, "at the limit is within"
    for name, kind in KINDS.items():
        beyond = 0.999 if kind == "cosine" else 2 * LIMITS[kind]
        assert not parity(**{name: beyond}).holds, name


def test_what_is_not_there_breaks_nothing_and_is_not_told() -> None:
    alone = Parity("some", 0, 3, {"quality": Gap(0.0, "score"), "embeddings": Gap(1.0, "cosine")})
    assert alone.holds
    assert alone.summary == {"quality": "within 0.0e+00", "embeddings": "cosine at least 1.000000"}


@pytest.mark.parametrize("name", list(KINDS))
def test_what_is_not_a_number_is_within_no_limit(name: str) -> None:
    assert not parity(**{name: math.nan}).holds


@pytest.mark.parametrize(("kind", "worse"), [("pixels", 0.2), ("score", 0.2), ("cosine", 0.1)])
def test_of_two_tasks_differences_the_worse_one_counts(
    kind: Literal["pixels", "score", "cosine"], worse: float
) -> None:
    one, other, none = Gap(0.1, kind), Gap(0.2, kind), Gap(math.nan, kind)
    assert one.worse(other) == other.worse(one) == Gap(worse, kind)
    assert math.isnan(one.worse(none).value) and math.isnan(none.worse(one).value)


def outputs(boxes: list[list[float]], scores: list[float], labels: list[int]) -> dict[str, np.ndarray]:
    return {
        "object_boxes": np.array([boxes], np.float32),
        "object_scores": np.array([scores], np.float32),
        "object_labels": np.array([labels], np.int32),
    }


A, B = [0.0, 0, 10, 10], [50.0, 50, 60, 60]


@pytest.mark.parametrize(
    ("other", "box_gap", "score_gap"),
    [
        (outputs([A, B], [0.5, 0.4], [0, 1]), 0.0, 0.0),  # the same
        (outputs([B, A], [0.4, 0.5], [1, 0]), 0.0, 0.0),  # in another order
        (outputs([A, [50.0, 50, 60, 60.25]], [0.5, 0.4], [0, 1]), 0.25, 0.0),  # one side off
        (outputs([A, B], [0.5, 0.3], [0, 1]), 0.0, 0.1),  # another score
        (outputs([A, B], [0.5, 0.4], [0, 0]), math.inf, None),  # another label
        (outputs([A, B], [math.nan, 0.4], [0, 1]), 0.0, math.nan),  # no score at all
    ],
    ids=["same", "reordered", "box", "score", "label", "nan"],
)
def test_rows_are_compared_with_their_counterparts(
    other: dict[str, np.ndarray], box_gap: float, score_gap: float | None
) -> None:
    found = row_differences(outputs([A, B], [0.5, 0.4], [0, 1]), other, "object", MAX_OBJECTS)
    assert found[0] == pytest.approx(box_gap)
    if score_gap is not None:
        assert found[1] == pytest.approx(score_gap, nan_ok=True)


def test_rows_below_the_compared_score_do_not_count_but_those_without_a_score_do() -> None:
    quiet = outputs([A, B], [0.5, 0.04], [0, 1])
    assert row_differences(quiet, outputs([A, A], [0.5, 0.01], [0, 0]), "object", MAX_OBJECTS) == (0.0, 0.0, 0.0)
    silent = outputs([A, B], [math.nan, 0.04], [0, 1])
    assert math.isnan(row_differences(silent, quiet, "object", MAX_OBJECTS)[1])


def test_the_last_of_the_rows_that_were_cut_off_may_be_another_one() -> None:
    """Of two anchor points that are equally sure, either may be the last within the top-k."""
    boxes = [[float(k), 0.0, k + 10.0, 10.0] for k in range(MAX_OBJECTS)]
    scores = [0.9 - 0.002 * k for k in range(MAX_OBJECTS)]
    ours, theirs = (outputs([*boxes[:-1], last], scores, [0] * MAX_OBJECTS) for last in (boxes[-1], [900.0] * 4))
    assert row_differences(ours, theirs, "object", MAX_OBJECTS) == (0.0, 0.0, 0.0)
    wrong = outputs([[900.0] * 4, *boxes[1:]], scores, [0] * MAX_OBJECTS)
    assert row_differences(ours, wrong, "object", MAX_OBJECTS)[0] > 0.5, "but not the first"
