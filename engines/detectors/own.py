"""The objects of a model of ours, as a detector's."""

from pathlib import Path

import numpy as np

from engines.arrays import Pixels
from engines.boxes import letterbox
from engines.decode import decode
from engines.detectors.detector import Found
from engines.engine import open_engine
from engines.pictures import letterbox_rgb
from engines.spec import load_model


class OwnDetector:
    """The frame entry of a model folder. Use it in a ``with`` block, or close it.

    Raises:
        ModelError: the folder is no model, or the model finds no objects.
    """

    def __init__(self, folder: Path, score: float) -> None:
        model = load_model(folder)
        model.require(("objects",), "data label")
        self.names, self.fingerprint = model.spec.objects, model.fingerprint
        self._thresholds = model.spec.thresholds.at(object_score=score)
        self._engine = open_engine(model, "frame", precision="f32")

    def __enter__(self) -> "OwnDetector":
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()

    def detect(self, picture: Pixels) -> Found:
        """Return the objects of a picture (H, W, 3) RGB, best first."""
        box = letterbox((picture.shape[1], picture.shape[0]), (self._engine.spec.width, self._engine.spec.height))
        (found,) = decode(self._engine.infer(letterbox_rgb(picture, box)[None]), [box], self._thresholds)
        order = np.argsort(-found.objects.scores, kind="stable")
        objects = found.objects
        return Found(objects.boxes[order], objects.scores[order], objects.labels[order].astype(np.int64))
