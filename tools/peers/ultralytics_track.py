"""Ultralytics ``track(stream=True)`` with ByteTrack on its OpenVINO export.

``ultralytics_export.py`` makes the export. Its weights are random and show nothing, so each frame's boxes are replaced
by those that the model finds there (``opencv_loop.py --record``): ByteTrack has what it would have with trained ones.
"""

import json
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import torch
from ultralytics import YOLO

from tools.peers.measuring import Meter, arguments, stand_in_for_torchvision

PACKAGES: Final = ("lap", "nncf", "numpy", "opencv-python", "openvino", "torch", "ultralytics")
COLUMNS: Final = 6  # x0, y0, x1, y1, score, label


def with_boxes(weights: Path, frames: list[list[list[float]]]) -> YOLO:
    """Return a model whose results have these boxes, frame after frame, over and over, before they are tracked."""
    model = YOLO(weights, task="detect")
    following = cycle([torch.tensor(rows, dtype=torch.float32).reshape(-1, COLUMNS) for rows in frames])

    def replace(predictor: Any) -> None:
        for result in predictor.results:
            result.update(boxes=next(following).clone())

    model.add_callback("on_predict_postprocess_end", replace)  # before the tracker's own, which track() adds
    return model


def main() -> None:
    """Track over the clip again and again."""
    parser = arguments(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="OpenVINO export")
    parser.add_argument("--size", type=int, required=True, help="pixels of its square input")
    parser.add_argument("--boxes", type=Path, required=True, help="what opencv_loop.py recorded of the clip")
    options = parser.parse_args()
    stand_in_for_torchvision()
    model = with_boxes(options.weights, json.loads(options.boxes.read_text()))
    how = {"stream": True, "tracker": "bytetrack.yaml", "imgsz": options.size, "verbose": False}
    meter, going = Meter(options.seconds), True
    while going:
        for result in model.track(str(options.source), **how):
            going = meter.count(len(result.boxes))
            if not going:
                break
    meter.report(PACKAGES)


if __name__ == "__main__":
    main()
