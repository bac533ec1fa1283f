from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from engines.detectors import open_detector
from engines.detectors.layout import STRIDES
from engines.errors import ModelError
from engines.network.features import Grid, anchor_points
from engines.training.checkpoint import load_checkpoint
from engines.training.dense import DenseTeacher, unlikeness
from engines.training.loop import train
from engines.training.settings import DenseSettings, TrainingSettings
from tests.engines.training.made_data import dataset, tiny_settings

NAMES = ("person", "cat", "kite")  # a detector's; the data of these tests has persons and cats
WIDTH = 6  # of its maps
SIZE = (64, 96)  # height, width
CPU = torch.device("cpu")


def small_yolox(path: Path, names: tuple[str, ...] = NAMES, size: tuple[int, int] = SIZE) -> Path:
    """A YOLOX of one layer a level: three levels of stems, each read by box, objectness and class branches."""
    random, nodes, weights, levels = np.random.default_rng(0), [], [], []

    def weight(name: str, *shape: int) -> str:
        weights.append(numpy_helper.from_array(random.normal(0, 0.3, shape).astype(np.float32), name))
        return name

    def layer(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    weights.append(numpy_helper.from_array(np.array(1 / 128, np.float32), "scale"))
    scaled = layer("Mul", ["images", "scale"], "scaled")
    for stride in STRIDES[:3]:
        pooled = layer("AveragePool", [scaled], f"pool{stride}", kernel_shape=[stride] * 2, strides=[stride] * 2)
        stem = layer("Conv", [pooled, weight(f"w{stride}", WIDTH, 3, 1, 1)], f"stem{stride}")
        box = layer("Conv", [stem, weight(f"b{stride}", 4, WIDTH, 1, 1)], f"box{stride}")
        certain = layer("Conv", [stem, weight(f"o{stride}", 1, WIDTH, 1, 1)], f"certain{stride}")
        kinds = layer("Conv", [stem, weight(f"c{stride}", len(names), WIDTH, 1, 1)], f"kinds{stride}")
        scores = [layer("Sigmoid", [each], f"{each}_score") for each in (certain, kinds)]
        level = layer("Concat", [box, *scores], f"level{stride}", axis=1)
        weights.append(numpy_helper.from_array(np.array([1, 5 + len(names), -1]), f"flat{stride}"))
        levels.append(layer("Reshape", [level, f"flat{stride}"], f"cells{stride}"))
    layer("Transpose", [layer("Concat", levels, "joined", axis=2)], "output", perm=[0, 2, 1])
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES[:3])
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, cells, 5 + len(names)])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": str(dict(enumerate(names)))})
    onnx.save(model, path)
    return path


def grid_of(height: int, width: int) -> Grid:
    return anchor_points(height, width)


def teacher(path: Path, objects: tuple[str, ...] = NAMES, channels: str = "rgb") -> DenseTeacher:
    settings = DenseSettings(detector=path.name, channels=channels)  # type: ignore[arg-type]  # one of the two
    return DenseTeacher(path, settings, objects, threads=1)


def some(count: int, height: int, width: int) -> Tensor:
    return torch.randint(
        0, 256, (count, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_every_cell_says_what_the_file_itself_says(tmp_path: Path) -> None:
    file, pictures = small_yolox(tmp_path / "d.onnx"), some(2, *SIZE)
    said = teacher(file)(pictures, grid_of(*SIZE))
    detector = open_detector(file, layout="yolox", bgr=False, names=NAMES)
    for picture, boxes, scores in zip(pictures.numpy(), said.boxes, said.scores, strict=True):
        expected = detector.candidates(picture, detector.size)
        np.testing.assert_allclose(boxes, expected.boxes, atol=1e-3)
        np.testing.assert_allclose(scores, expected.scores, atol=1e-6)


def test_pictures_of_any_size_come_in_batches_and_as_each_would_alone(tmp_path: Path) -> None:
    said, pictures, grid = teacher(small_yolox(tmp_path / "d.onnx")), some(3, 128, 64), grid_of(128, 64)
    together = said(pictures, grid)
    assert [each.shape for each in together.features] == [(3, WIDTH, 128 // s, 64 // s) for s in STRIDES[:3]]
    for row in range(3):
        torch.testing.assert_close(said(pictures[row : row + 1], grid).boxes[0], together.boxes[row])


def test_blue_comes_first_where_the_settings_say_so(tmp_path: Path) -> None:
    file, pictures, grid = small_yolox(tmp_path / "d.onnx"), some(1, *SIZE), grid_of(*SIZE)
    turned = teacher(file, channels="bgr")(pictures.flip(-1), grid)
    torch.testing.assert_close(turned.scores, teacher(file)(pictures, grid).scores)


def test_classes_are_ours_and_those_that_it_does_not_know_are_left_out(tmp_path: Path) -> None:
    file, pictures, grid = small_yolox(tmp_path / "d.onnx"), some(1, *SIZE), grid_of(*SIZE)
    all_of_them, said = teacher(file)(pictures, grid), teacher(file, objects=("cat", "unicorn", "person"))
    assert said.known.tolist() == [0, 2]
    torch.testing.assert_close(said(pictures, grid).scores, all_of_them.scores[..., [1, 0]])


@pytest.mark.parametrize(
    ("objects", "sentence"), [(("unicorn",), "knows none of unicorn"), (NAMES, "tells 3 classes apart, but names 80")]
)
def test_a_detector_of_other_classes_is_refused(tmp_path: Path, objects: tuple[str, ...], sentence: str) -> None:
    file = small_yolox(tmp_path / "d.onnx")
    if objects == NAMES:
        model = onnx.load(file)
        del model.metadata_props[:]
        onnx.save(model, file)
    with pytest.raises(ModelError, match=sentence):
        teacher(file, objects)


def test_what_is_no_yolox_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ModelError, match="cannot be read"):
        teacher(tmp_path / "text.onnx")
    model = onnx.load(small_yolox(tmp_path / "d.onnx"))
    joined = next(node for node in model.graph.node if node.output[0] == "joined")
    del joined.input[2]
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(ModelError, match="is no YOLOX: no three levels of cells are joined"):
        teacher(tmp_path / "two.onnx")


def test_maps_are_alike_whatever_their_scale_and_offset() -> None:
    maps = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert unlikeness(maps * 3 + 7, maps).item() == pytest.approx(0.0, abs=1e-5)
    assert unlikeness(-maps, maps).item() == pytest.approx(2.0, abs=1e-5)
    assert 0.5 < unlikeness(torch.randn_like(maps), maps).item() < 1.5


def taught(**changes: object) -> TrainingSettings:
    dense = DenseSettings(detector="small.onnx", channels="rgb")
    return tiny_settings("detection", "face_landmarks", **{"dense": dense, **changes})


@pytest.fixture
def with_detector(data: Path) -> Path:
    if not (data / "small.onnx").is_file():
        small_yolox(data / "small.onnx")
    return data


def test_pictures_without_labels_of_objects_teach_them_too(with_detector: Path, tmp_path: Path) -> None:
    faces_alone = dataset("face_landmarks", weight=1000.0)
    settings = taught(datasets=(dataset("detection"), faces_alone), micro_batches=1)
    (first,) = train(settings, with_detector, tmp_path, resume=False, device=CPU, stop_at=1)
    assert {"objects.dense_class", "objects.dense_box", "objects.dense_maps"} <= set(first.losses)
    assert "objects.class" not in first.losses


def test_what_the_detector_says_is_learnt(with_detector: Path, tmp_path: Path) -> None:
    entry = dataset("detection", batch=4)
    settings = taught(datasets=(entry,), steps=60, warmup_steps=3, learning_rate=1e-2, micro_batches=1)
    seen = [each.losses for each in train(settings, with_detector, tmp_path, resume=False, device=CPU)]
    for part in ("dense_class", "dense_box", "dense_maps"):  # running means, which remember the beginning
        assert seen[-1][f"objects.{part}"] < 0.97 * seen[0][f"objects.{part}"], part


def test_a_run_with_a_detector_is_resumed_exactly_and_its_adapters_stay_in_it(
    with_detector: Path, tmp_path: Path
) -> None:
    settings = taught(steps=4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    list(train(settings, with_detector, whole, resume=False, device=CPU))
    list(train(settings, with_detector, parts, resume=False, device=CPU, stop_at=2))
    list(train(settings, with_detector, parts, resume=True, device=CPU))
    one, other = (load_checkpoint(folder / "checkpoint.pt") for folder in (whole, parts))
    assert one.criteria.keys() == other.criteria.keys() and any(name.startswith("dense.") for name in one.criteria)
    for name, value in {**one.ema, **one.criteria}.items():
        torch.testing.assert_close({**other.ema, **other.criteria}[name], value, rtol=0, atol=0)
    assert not any(name.startswith("dense.") for name in load_checkpoint(whole / "milestone.pt").criteria)


@pytest.mark.parametrize("before", [True, False])
def test_a_run_begins_with_one_that_had_a_detector_or_had_none(
    with_detector: Path, tmp_path: Path, before: bool
) -> None:
    with_it, without = taught(steps=1), taught(steps=1, dense=None)
    first, second = (with_it, without) if before else (without, with_it)
    list(train(first, with_detector, tmp_path / "first", resume=False, device=CPU))
    init = tmp_path / "first/milestone.pt"
    assert list(train(second, with_detector, tmp_path / "second", resume=False, device=CPU, init=init))
