"""A plain OpenCV loop with ONNX Runtime: what a user writes in an afternoon around the same ONNX file.

Read, scale, run, threshold, suppress, one frame after the other. No tracks, no names, no smoothing, no messages.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tools.peers.measuring import Meter, arguments

PACKAGES: Final = ("numpy", "onnxruntime", "opencv-python-headless")
RECORDED_FRAMES: Final = 300

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]


class Detector:
    """The frame entry of a model folder."""

    def __init__(self, folder: Path, file: str | None) -> None:
        spec = json.loads((folder / "spec.json").read_text())
        self._overlap: dict[str, float] = {what: spec["thresholds"][f"{what}_iou"] for what in ("object", "face")}
        self._face_label = len(spec["objects"])
        self._least = np.append(*least_scores(spec["thresholds"], self._face_label))  # of each label, faces last
        self._size = spec["frame"]["width"], spec["frame"]["height"]
        path = folder / (file or spec["frame"]["file"])
        self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, frame: Pixels) -> Array:
        """Return (N, 6) of a BGR picture (H, W, 3), objects before faces: xyxy in its pixels, score and label.

        Labels are numbers of spec.json's objects; a face has the one after the last.
        """
        canvas, scale, left, top = letterbox(frame, self._size)
        values = self._session.run(self._names, {"images": cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB)[None]})
        outputs = {name: np.asarray(value)[0] for name, value in zip(self._names, values, strict=True)}
        found = np.concatenate([self._kept("object", outputs), self._kept("face", outputs)])
        found[:, :4] = (found[:, :4] - (left, top, left, top)) / scale
        return found

    def _kept(self, what: str, outputs: dict[str, Array]) -> Array:
        """What is above the threshold and survives suppression, of one label at a time, in pixels of the input."""
        scores = outputs[f"{what}_scores"]
        labels = outputs["object_labels"] if what == "object" else np.full(len(scores), self._face_label)
        sure = scores >= self._least[labels]
        boxes, scores, labels = outputs[f"{what}_boxes"][sure], scores[sure], labels[sure]
        sides = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])  # OpenCV takes x, y, width, height
        kept = cv2.dnn.NMSBoxesBatched(sides.tolist(), scores.tolist(), labels.tolist(), 0.0, self._overlap[what])
        return np.column_stack([boxes, scores, labels])[np.asarray(kept, np.int64)]


def least_scores(thresholds: dict[str, Any], objects: int) -> tuple[Array, Array]:
    """Return the network's scores (objects,) and (1,) from which detections count, for each label of objects and faces.

    Thresholds are probabilities where there are curves, which say what each of the network's scores means.
    """
    found = []
    for what, labels, curves in (("object", objects, "object_curves"), ("face", 1, "face_curve")):
        least = thresholds.get(f"{what}_scores") or [thresholds[f"{what}_score"]] * labels
        curve = thresholds.get(curves)
        if curve is not None:
            least = [np.interp(x, row, curve["knots"]) for x, row in zip(least, curve["values"], strict=True)]
        found.append(np.asarray(least, np.float32))
    return found[0], found[1]


def letterbox(frame: Pixels, size: tuple[int, int]) -> tuple[Pixels, float, int, int]:
    """Return a picture (H, W, 3) fitted into ``size`` (width, height) on grey, its scale, left and top padding."""
    height, width = frame.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    small = cv2.resize(frame, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
    left, top = (size[0] - small.shape[1]) // 2, (size[1] - small.shape[0]) // 2
    right, bottom = size[0] - small.shape[1] - left, size[1] - small.shape[0] - top
    canvas = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return np.asarray(canvas, np.uint8), scale, left, top


def frames(source: Path) -> Iterator[Pixels]:
    """Give the BGR pictures of a video file, once.

    Raises:
        SystemExit: OpenCV finds no picture in it.
    """
    capture = cv2.VideoCapture(str(source))
    try:
        read, frame = capture.read()
        if not read:
            raise SystemExit(f"--source is {str(source)!r}, which OpenCV cannot read")
        while read:
            yield np.asarray(frame, np.uint8)
            read, frame = capture.read()
    finally:
        capture.release()


def main() -> None:
    """Measure the loop over the clip, again and again, or record what it finds."""
    parser = arguments(__doc__, model=True)
    parser.add_argument("--file", help="ONNX file inside the model folder; left out: the frame entry of spec.json")
    parser.add_argument("--record", type=Path, help="write what the first frames show to this file; measure nothing")
    options = parser.parse_args()
    detector = Detector(options.model, options.file)
    if options.record:
        rows = [detector(frame).round(3).tolist() for frame in islice(frames(options.source), RECORDED_FRAMES)]
        options.record.write_text(json.dumps(rows))
        return
    meter, going = Meter(options.seconds), True
    while going:
        for frame in frames(options.source):
            going = meter.count(len(detector(frame)))
            if not going:
                break
    meter.report(PACKAGES)


if __name__ == "__main__":
    main()
