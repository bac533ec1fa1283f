"""A YOLO26 of as many multiply-accumulates as a model folder's frame entry, at its input size, exported to OpenVINO.

Nothing is downloaded, so its weights are random: they do not change what it costs to run.
"""

import json
from argparse import ArgumentParser
from bisect import bisect_left
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.flop_counter import FlopCounterMode
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from tools.peers.macs import macs

BASE: Final = "yolo26.yaml"
WIDTHS: Final = tuple(width / 128 for width in range(8, 129))  # 0.25 is YOLO26's n, 1.0 its m
DEPTH: Final = 0.5  # of its n
CHANNELS: Final = 1024  # of its widest layer, times the width
HEAD_CHANNELS: Final = 64  # of an attention head
SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Target:
    """What the network has to equal."""

    macs: int
    size: int  # pixels of the square input
    labels: tuple[str, ...]


def target(folder: Path) -> Target:
    """Of a model folder's frame entry.

    Raises:
        SystemExit: its input is not square, as an Ultralytics export's is.
    """
    spec = json.loads((folder / "spec.json").read_text())
    frame = spec["frame"]
    if frame["width"] != frame["height"]:
        raise SystemExit(f"--model has an input of {frame['width']}x{frame['height']}, but must have a square one")
    return Target(macs(folder / frame["file"]), frame["width"], (*spec["objects"], "face"))


def equal_configuration(wanted: Target) -> dict[str, Any]:
    """The configuration of YOLO26 that comes closest: its n, wider or narrower."""
    base = {**yaml_model_load(BASE), "nc": len(wanted.labels)}

    def cost(width: float) -> int:
        return _macs_of(scaled(base, width), wanted.size)

    widths = [width for width in WIDTHS if heads_divide(width)]
    above = bisect_left(widths, wanted.macs, key=cost)  # wider costs more
    return scaled(base, min(widths[max(above - 1, 0) : above + 1], key=lambda width: abs(cost(width) - wanted.macs)))


def scaled(base: dict[str, Any], width: float) -> dict[str, Any]:
    """A configuration that has one scale, of this width."""
    return {**deepcopy(base), "scales": {"n": [DEPTH, width, CHANNELS]}, "scale": "n"}


def heads_divide(width: float) -> bool:
    """Whether the channels of the attention blocks, half of the widest layer's, divide by their number of heads."""
    channels = round(CHANNELS * width) // 2
    return channels % max(channels // HEAD_CHANNELS, 1) == 0


def network(config: dict[str, Any]) -> DetectionModel:
    """A network of random weights that needs no NMS."""
    torch.manual_seed(SEED)
    made = DetectionModel(config, verbose=False)
    made.end2end = True
    return made


def _macs_of(config: dict[str, Any], size: int) -> int:
    made = network(config).eval().fuse(verbose=False)  # not inside the counter: building runs it, too
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        made(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2


def export(config: dict[str, Any], wanted: Target, folder: Path) -> Path:
    """Ultralytics' own export, with the head that needs no NMS; the folder that it makes."""
    made = network(config)
    made.names = dict(enumerate(wanted.labels))
    weights = folder / "equal.pt"
    torch.save({"model": made}, weights)
    return Path(YOLO(weights).export(format="openvino", imgsz=wanted.size, nms=False, verbose=False))


def main() -> None:
    """Export; print one line of JSON."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--folder", type=Path, required=True, help="where the export goes")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    wanted = target(options.model)
    config = equal_configuration(wanted)
    exported = export(config, wanted, options.folder)
    made = {
        "weights": str(exported),
        "size": wanted.size,
        "width": config["scales"]["n"][1],
        "macs": macs(next(exported.glob("*.xml"))),
        "model_macs": wanted.macs,
    }
    print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
