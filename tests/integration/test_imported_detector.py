"""A public detector, imported: it finds what its own file finds, on photographs."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.boxes import iou_matrix
from engines.detectors import Found, open_detector
from engines.detectors.importing import import_detector
from engines.detectors.own import OwnDetector
from engines.pictures import read_rgb

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
DATA = Path(os.environ.get("TRUNKLINE_DATA") or SHARED / "data")
DETECTOR = SHARED / "teachers/yolox_nano.onnx"
PICTURES = 200 if os.environ.get("TRUNKLINE_DATA") else 60  # all take a minute
SCORE = 0.3

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not DETECTOR.is_file(), reason=f"needs a public detector as {DETECTOR}"),
]


def found_again(wanted: Found, found: Found, iou: float) -> list[bool]:
    """Of each wanted box, whether one of its class overlaps it so much and scores alike."""
    alike = iou_matrix(wanted.boxes, found.boxes) >= iou
    alike &= (wanted.labels[:, None] == found.labels) & (np.abs(wanted.scores[:, None] - found.scores) < 0.1)
    return [bool(each) for each in alike.any(1)]


def test_it_finds_what_its_own_file_finds(tmp_path: Path) -> None:
    import_detector(DETECTOR, tmp_path / "model", bgr=False)
    public = open_detector(DETECTOR, bgr=False, threads=1)
    public.layout = replace(public.layout, placement="centre")  # as ours are put, else all boxes move by a little
    pictures = sorted((DATA / "detection/images/val").glob("voc*"))[:PICTURES]
    again: list[bool] = []
    with OwnDetector(tmp_path / "model", SCORE) as imported:
        for path in pictures:
            photo = read_rgb(path)
            again += found_again(public.detect(photo, SCORE + 0.05, 0.45), imported.detect(photo), 0.8)
    print(f"{sum(again)} of {len(again)} boxes in {len(pictures)} pictures")
    assert len(pictures) == PICTURES and len(again) > PICTURES
    assert np.mean(again) > 0.95
