"""A plain OpenCV loop with ONNX Runtime: what a user writes in an afternoon around the same ONNX file.

Read, scale, run, threshold, suppress, one frame after the other. No tracks, no names, no smoothing, no messages.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tools.peers.measuring import Meter, arguments, report

PACKAGES: Final = ("numpy", "onnxruntime", "opencv-python-headless")
GREY: Final = (114, 114, 114)
RECORDED_FRAMES: Final = 300
DECIMALS: Final = 3

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Detected:
    """What one frame shows, in source pixels."""

    boxes: Array  # (N, 4) xyxy, objects before faces
    scores: Array  # (N,)
    labels: Array  # (N,) of spec.json's objects; a face has the number after the last
    landmarks: Array  # (faces, 5, 2)


class Detector:
    """The frame entry of a model folder."""

    def __init__(self, folder: Path, file: str | None) -> None:
        spec = json.loads((folder / "spec.json").read_text())
        self._thresholds: dict[str, float] = spec["thresholds"]
        self._face_label = len(spec["objects"])
        self._size = spec["frame"]["width"], spec["frame"]["height"]
        self._session = ort.InferenceSession(
            folder / (file or spec["frame"]["file"]), providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, frame: Pixels) -> Detected:
        """Objects and faces of a BGR picture (H, W, 3)."""
        canvas, scale, left, top = letterbox(frame, self._size)
        image = cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB)
        values = self._session.run(self._names, {"images": image[None]})
        outputs = {name: np.asarray(value)[0] for name, value in zip(self._names, values, strict=True)}
        return self._decode(outputs, scale, np.array([left, top], np.float32))

    def _decode(self, outputs: dict[str, Array], scale: float, pad: Array) -> Detected:
        objects = outputs["object_scores"] >= self._thresholds["object_score"]
        boxes, scores, labels = (outputs[f"object_{what}"][objects] for what in ("boxes", "scores", "labels"))
        kept = _suppress(boxes, scores, self._thresholds["object_iou"], labels)
        faces = outputs["face_scores"] >= self._thresholds["face_score"]
        face_boxes, face_scores = outputs["face_boxes"][faces], outputs["face_scores"][faces]
        seen = _suppress(face_boxes, face_scores, self._thresholds["face_iou"])
        found = np.concatenate([boxes[kept], face_boxes[seen]])
        return Detected(
            boxes=(found.reshape(-1, 2, 2) - pad).reshape(-1, 4) / scale,
            scores=np.concatenate([scores[kept], face_scores[seen]]),
            labels=np.concatenate([labels[kept], np.full(len(seen), self._face_label, labels.dtype)]),
            landmarks=(outputs["face_landmarks"][faces][seen] - pad) / scale,
        )


def letterbox(frame: Pixels, size: tuple[int, int]) -> tuple[Pixels, float, int, int]:
    """A picture (H, W, 3) fitted into ``size`` (width, height) on grey, with its scale, left and top padding."""
    height, width = frame.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    small = cv2.resize(frame, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
    left, top = (size[0] - small.shape[1]) // 2, (size[1] - small.shape[0]) // 2
    right, bottom = size[0] - small.shape[1] - left, size[1] - small.shape[0] - top
    canvas = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_CONSTANT, value=GREY)
    return np.asarray(canvas, np.uint8), scale, left, top


def _suppress(boxes: Array, scores: Array, iou: float, labels: Array | None = None) -> Array:
    """Rows that non-maximum suppression keeps; of one label at a time where there are labels."""
    corners = boxes.copy()
    corners[:, 2:] -= corners[:, :2]  # OpenCV takes x, y, width, height
    if labels is None:
        kept = cv2.dnn.NMSBoxes(corners.tolist(), scores.tolist(), 0.0, iou)
    else:
        kept = cv2.dnn.NMSBoxesBatched(corners.tolist(), scores.tolist(), labels.tolist(), 0.0, iou)
    return np.asarray(kept, np.int64)


def frames(source: Path) -> Iterator[Pixels]:
    """BGR pictures of a video file, once.

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


def record(detector: Detector, source: Path, file: Path) -> None:
    """Write what the first frames show, a row (x0, y0, x1, y1, score, label) for each box, as JSON."""
    rows = []
    for frame in islice(frames(source), RECORDED_FRAMES):
        found = detector(frame)
        rows.append(np.column_stack([found.boxes, found.scores, found.labels]).round(DECIMALS).tolist())
    file.write_text(json.dumps(rows))


def loop(detector: Detector, source: Path, meter: Meter) -> None:
    """Run over the clip again and again until the measured time is over."""
    while True:
        for frame in frames(source):
            if not meter.count(len(detector(frame).boxes)):
                return


def main() -> None:
    """Measure the loop, or record what it finds."""
    parser = arguments(__doc__ or "", model=True)
    parser.add_argument("--file", help="ONNX file inside the model folder; left out: the frame entry of spec.json")
    parser.add_argument("--record", type=Path, help="write what the first frames show to this file; measure nothing")
    options = parser.parse_args()
    detector = Detector(options.model, options.file)
    if options.record:
        record(detector, options.source, options.record)
        return
    meter = Meter(options.seconds)
    loop(detector, options.source, meter)
    report(meter.measured(), PACKAGES)


if __name__ == "__main__":
    main()
