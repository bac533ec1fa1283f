"""A YOLO26 of as many multiply-accumulates as a model folder's frame entry, at its input size, exported to OpenVINO.

Nothing is downloaded, so its weights are random: they do not change what it costs to run. With ``--calibrate`` it is
int8, by Ultralytics' own quantisation.
"""

import json
from argparse import ArgumentParser
from bisect import bisect_left
from copy import deepcopy
from math import prod
from pathlib import Path
from typing import Any, Final

import cv2
import openvino as ov
import torch
from torch.utils.flop_counter import FlopCounterMode
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from tools.peers.measuring import stand_in_for_torchvision

BASE: Final = "yolo26.yaml"
WIDTHS: Final = tuple(width / 128 for width in range(8, 129))  # 0.25 is YOLO26's n, 1.0 its m
DEPTH: Final = 0.5  # of its n
CHANNELS: Final = 1024  # of its widest layer, times the width
CALIBRATED: Final = 64  # pictures: random weights have nothing to lose
HEAD_CHANNELS: Final = 64  # of an attention head
# Where a convolution's weights stop to be output channels: (out, in, ...) and (groups, out, in, ...).
SUMMED_FROM: Final = {"Convolution": 1, "GroupConvolution": 2}


def equal_configuration(labels: int, size: int, wanted_macs: int) -> dict[str, Any]:
    """Return the configuration of YOLO26 that comes closest: its n, wider or narrower."""
    base = {**yaml_model_load(BASE), "nc": labels}

    def scaled(width: float) -> dict[str, Any]:
        return {**deepcopy(base), "scales": {"n": [DEPTH, width, CHANNELS]}, "scale": "n"}

    def cost(width: float) -> int:
        made = network(scaled(width)).eval().fuse(verbose=False)  # not inside the counter: building runs it, too
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            made(torch.zeros(1, 3, size, size))
        return int(counter.get_total_flops()) // 2

    widths = [width for width in WIDTHS if heads_divide(width)]
    above = bisect_left(widths, wanted_macs, key=cost)  # wider costs more
    return scaled(min(widths[max(above - 1, 0) : above + 1], key=lambda width: abs(cost(width) - wanted_macs)))


def heads_divide(width: float) -> bool:
    """Return whether the channels of the attention blocks, half of the widest layer's, divide by their heads."""
    channels = round(CHANNELS * width) // 2
    return channels % max(channels // HEAD_CHANNELS, 1) == 0


def network(config: dict[str, Any]) -> DetectionModel:
    """Return a network of random weights that needs no NMS."""
    torch.manual_seed(0)
    made = DetectionModel(config, verbose=False)
    made.end2end = True
    return made


def macs(path: Path, size: int) -> int:
    """Return the multiply-accumulates of one picture: convolutions and matrix products; everything else is small.

    Args:
        path: an ONNX file or OpenVINO's XML, with one input, batch first; both are counted alike.
        size: pixels of a side of its input, where the file is for every size.
    """
    model = ov.Core().read_model(path)
    _batch, *picture = model.input(0).partial_shape
    model.reshape([1, *(side.get_length() if side.is_static else size for side in picture)])
    return sum(_of(node) for node in model.get_ops())


def _of(node: ov.Node) -> int:
    kind = node.get_type_name()
    if kind in SUMMED_FROM:
        summed = list(node.input(1).get_shape())[SUMMED_FROM[kind] :]
    elif kind == "MatMul":
        summed = [list(node.input(0).get_shape())[-2 if node.get_attributes()["transpose_a"] else -1]]
    else:
        return 0
    return prod([*node.output(0).get_shape(), *summed])


def calibration(source: Path, labels: list[str], folder: Path) -> dict[str, Any]:
    """Return what makes an export int8, calibrated on the first pictures of a video, which are put into ``folder``."""
    stand_in_for_torchvision()
    (pictures := folder / "pictures").mkdir()
    reader = cv2.VideoCapture(str(source))
    for number in range(CALIBRATED):
        there, picture = reader.read()
        if there:
            cv2.imwrite(str(pictures / f"{number:03}.jpg"), picture)
    data = {"path": str(folder), "train": "pictures", "val": "pictures", "names": dict(enumerate(labels))}
    (folder / "pictures.yaml").write_text(json.dumps(data))  # which is YAML, too
    return {"quantize": 8, "data": str(folder / "pictures.yaml")}


def main() -> None:
    """Export; print one line of JSON."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--folder", type=Path, required=True, help="where the export goes")
    parser.add_argument("--calibrate", type=Path, help="video whose pictures calibrate int8; left out: float")
    options = parser.parse_args()
    spec = json.loads((options.model / "spec.json").read_text())
    labels, size, height = [*spec["objects"], "face"], spec["frame"]["width"], spec["frame"]["height"]
    if size != height:
        raise SystemExit(f"--model has an input of {size}x{height}, but must have a square one")
    model_macs = macs(options.model / spec["frame"]["file"], size)
    config = equal_configuration(len(labels), size, model_macs)
    made = network(config)
    made.names = dict(enumerate(labels))
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": made}, options.folder / "equal.pt")
    int8 = calibration(options.calibrate, labels, options.folder) if options.calibrate else {}
    how = {"format": "openvino", "imgsz": size, "nms": False, "verbose": False, **int8}
    exported = Path(YOLO(options.folder / "equal.pt").export(**how))
    sizes = {"size": size, "width": config["scales"]["n"][1]}
    costs = {"macs": macs(next(exported.glob("*.xml")), size), "model_macs": model_macs}
    print(json.dumps({"weights": str(exported), **sizes, **costs}), flush=True)


if __name__ == "__main__":
    main()
