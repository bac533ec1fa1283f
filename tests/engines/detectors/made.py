"""Detectors of every layout, made by hand: each finds one dog in a picture that is twice as wide as high."""

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.arrays import Float, Pixels
from engines.detectors import LayoutName

SIDE = 128  # of the made detectors' input, pixels
CELLS = 16 * 16 + 8 * 8 + 4 * 4
NAMES = ("person", "dog", "kite")
PICTURE: Pixels = np.zeros((100, 200, 3), np.uint8)  # twice as wide as high
DOG = [50.0, 20.0, 150.0, 80.0]  # in it, xyxy
INPUT_OF = {  # the same box in the input, by how the picture is fitted
    "corner": [32.0, 12.8, 96.0, 51.2],
    "centre": [32.0, 44.8, 96.0, 83.2],
    "stretch": [32.0, 25.6, 96.0, 102.4],
}
PLACEMENTS = {"yolox": "corner", "yolov5": "centre", "yolov8": "centre", "end2end": "centre"}


def middle(box: list[float]) -> list[float]:
    """Corners -> centre and size."""
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]


def detector(
    path: Path,
    outputs: dict[str, Float],
    inputs: int = 1,
    metadata: dict[str, str] | None = None,
    sides: tuple[int, int] = (SIDE, SIDE),
) -> Path:
    """A file that gives these outputs for each picture, whatever it sees."""
    taken = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *sides[::-1]])]
    if inputs > 1:
        taken.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]))
    nodes, given, constants = [], [], []
    nodes.append(helper.make_node("Shape", ["images"], ["batch"], start=0, end=1))
    for name, value in outputs.items():
        rest = np.ones(value.ndim - 1, np.int64)
        constants += [numpy_helper.from_array(value, f"{name}_value"), numpy_helper.from_array(rest, f"{name}_rest")]
        nodes.append(helper.make_node("Concat", ["batch", f"{name}_rest"], [f"{name}_shape"], axis=0))
        nodes.append(helper.make_node("Expand", [f"{name}_value", f"{name}_shape"], [name]))
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        given.append(helper.make_tensor_value_info(name, kind, list(value.shape)))
    graph = helper.make_graph(nodes, "made", taken, given, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def rows(count: int, columns: int) -> Float:
    return np.zeros((1, count, columns), np.float32)


def yolox(box: list[float], *, raw: bool = False) -> dict[str, Float]:
    values, at = rows(CELLS, 8), 16 * 16 + 8 * 3 + 4  # the cell at (4, 3), stride 16
    x, y, w, h = middle(box)
    if not raw:
        values[0, :, 0] = np.linspace(0, SIDE, CELLS)
    values[0, at, :4] = [x / 16 - 4, y / 16 - 3, math.log(w / 16), math.log(h / 16)] if raw else [x, y, w, h]
    values[0, at, 4:] = [0.9, 0.1, 0.8, 0.1]
    return {"output": values}


def nanodet(box: list[float]) -> dict[str, Float]:
    values, at = rows(CELLS, 3 + 32), 16 * 16 + 8 * 3 + 4  # the middle of its cell is at (72, 56)
    values[0, at, :3] = [0.1, 0.72, 0.1]
    for side, distance in enumerate(np.array([72 - box[0], 56 - box[1], box[2] - 72, box[3] - 56]) / 16):
        low = int(distance)  # all weight on the two whole numbers around it
        spread = np.full(8, -30.0)
        spread[low], spread[low + 1] = (math.log(max(share, 1e-9)) for share in (low + 1 - distance, distance - low))
        values[0, at, 3 + 8 * side : 11 + 8 * side] = spread
    return {"output": values}


def outputs_of(name: LayoutName) -> dict[str, Float]:
    """A dog of score 0.72."""
    box = INPUT_OF[PLACEMENTS.get(name, "stretch")]
    match name:
        case "yolox":
            return yolox(box)
        case "yolov5":
            values = rows(3 * CELLS, 8)
            values[0, 77] = [*middle(box), 0.9, 0.1, 0.8, 0.1]
        case "yolov8":
            values = rows(7, CELLS)
            values[0, :, 77] = [*middle(box), 0.1, 0.72, 0.1]
        case "end2end":
            values = rows(30, 6)
            values[0, 3] = [*box, 0.72, 1]
        case "detr":
            logits, boxes = rows(30, 3) - 9, rows(30, 4)
            logits[0, 3, 1], boxes[0, 3] = math.log(0.72 / 0.28), np.array(middle(box)) / SIDE
            return {"logits": logits, "pred_boxes": boxes}
        case "rtdetr":
            labels, scores, boxes = np.zeros((1, 30), np.int64), np.zeros((1, 30), np.float32), rows(30, 4)
            labels[0, 3], scores[0, 3], boxes[0, 3] = 1, 0.72, DOG
            return {"labels": labels, "boxes": boxes, "scores": scores}
        case "nanodet":
            return nanodet(box)
    return {"output": values}
