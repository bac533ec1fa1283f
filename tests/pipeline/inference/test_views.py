"""Where crops lie in the network's input, and what they show."""

from dataclasses import replace

import numpy as np
import pytest

from engines.boxes import letterbox
from pipeline.frames.letterboxing import letterbox_into
from pipeline.frames.picture import Picture
from pipeline.frames.types import Batch, CropsSeen, Frame
from pipeline.inference.preprocess import place_only, preprocess
from pipeline.inference.stage import Started, collect, detect
from pipeline.inference.views import CropChoices, placed
from tests.engines.test_merging import THRESHOLDS
from tests.pipeline.made_frames import make_frame

SIZE = (96, 128)  # height, width


def frame(seq: int, crops: int, stream: str = "door") -> Frame:
    luma = (60 + np.add.outer(np.arange(480) // 8, np.arange(640) // 8)).astype(np.uint8)
    chroma = (112 + np.add.outer(np.arange(240) // 16, np.arange(320) // 20)).astype(np.uint8)
    return replace(make_frame(stream, seq), picture=Picture((luma, chroma, chroma), 640, 480), crops=crops)


def test_without_crops_rows_are_whole_pictures() -> None:
    batch = Batch((frame(0, 0), frame(1, 0)), 0)
    whole = letterbox((640, 480), (128, 96))
    assert placed(batch, SIZE, CropChoices(), 8) == ((whole, whole), ())
    assert placed(Batch((frame(0, 4),), 0), SIZE, None, 8) == ((whole,), ())


def test_each_picture_is_followed_by_its_crops() -> None:
    batch = Batch((frame(0, 2, "a"), frame(1, 0, "b"), frame(2, 1, "c")), 0)
    (prepared,) = preprocess([batch], SIZE, crops=CropChoices(), most=8)
    assert prepared.views == (2, 1, 2)
    assert len(prepared.pixels) == len(prepared.letterboxes) == 5
    crop = prepared.letterboxes[1]
    assert crop.source < (640, 480) and crop.target == (128, 96)
    whole = np.empty((96, 128, 3), np.uint8)
    letterbox_into(batch.frames[0].picture, prepared.letterboxes[0], whole)
    assert np.array_equal(prepared.pixels[0], whole)
    (left, top), (width, height) = crop.origin, crop.source
    alone, _ = batch.frames[0].picture.crop((left, top, left + width, top + height))
    shown = np.empty((96, 128, 3), np.uint8)
    letterbox_into(Picture.from_rgb(alone), letterbox((width, height), (128, 96)), shown)
    assert np.abs(prepared.pixels[1].astype(int) - shown).mean() < 2.0, "planes are scaled, or RGB: nearly the same"


def test_a_batch_has_no_more_rows_than_it_may() -> None:
    batch = Batch((frame(0, 4, "a"), frame(1, 4, "b")), 0)
    choices = CropChoices()
    choices.choose(frame(0, 4, "a"), (128, 96), 1)
    boxes, views = placed(batch, SIZE, choices, 3)
    assert len(boxes) == sum(views) == 3
    assert placed(batch, SIZE, choices, 2)[1] == (1, 1)


def test_a_gpu_gets_the_same_parts() -> None:
    batch = Batch((frame(0, 1),), 0)
    (prepared,) = place_only([batch], SIZE, crops=CropChoices())
    assert prepared.views == (2,) and not len(prepared.pixels)
    planes = batch.frames[0].picture.placed(prepared.letterboxes[1])
    (left, top), (width, height) = prepared.letterboxes[1].origin, prepared.letterboxes[1].source
    assert [plane.shape for plane in planes.planes] == [(height, width)] + [((height + 1) // 2, (width + 1) // 2)] * 2
    assert np.array_equal(planes.planes[0], batch.frames[0].picture.planes[0][top : top + height, left : left + width])


def test_a_crop_must_lie_in_its_picture() -> None:
    with pytest.raises(ValueError, match="640x480 pixels, and begin at even ones of YUV, got 64x64 from 601, 0"):
        frame(0, 0).picture.part(letterbox((64, 64), (128, 96), (601, 0)))


def test_what_was_found_in_a_frames_crops_is_told_and_looked_at_again() -> None:
    choices, told = CropChoices(), list[CropsSeen]()

    class Running:
        def __init__(self, rows: int) -> None:
            self._rows = rows

        def outputs(self) -> dict[str, np.ndarray]:
            boxes = np.zeros((self._rows, 1, 4), np.float32)
            boxes[0] = (20, 20, 24, 26)  # in the whole picture alone: 100 to 120 and 100 to 130 source pixels
            scores = np.zeros((self._rows, 1), np.float32)
            scores[0] = 0.9
            return {
                "object_boxes": boxes,
                "object_scores": scores,
                "object_labels": np.zeros((self._rows, 1), np.int64),
            }

    def saw(seen: CropsSeen) -> None:
        told.append(seen)
        choices.saw(seen)

    def started(number: int) -> Started:
        (prepared,) = preprocess([Batch((frame(number, 1),), 0)], SIZE, crops=choices)
        return Started(prepared, Running(len(prepared.pixels)), 0)

    (first,), (second,) = (
        next(iter(detect(collect([started(number)]), lambda: THRESHOLDS, saw=saw))) for number in (0, 1)
    )
    assert first.detections.objects.boxes[0] == pytest.approx([100, 100, 120, 130])
    assert told[0].boxes[0] == pytest.approx([100, 100, 120, 130]) and len(told[0].crops) == 1
    (left, top, width, height) = told[1].crops[0]
    assert left < 100 and top < 100 and left + width > 120 and top + height > 130
    assert (width, height) == SIZE[::-1], "as large as the network's input"
    assert second.detections.objects.boxes[0] == pytest.approx([100, 100, 120, 130])


def test_what_is_known_of_streams_that_are_gone_goes() -> None:
    choices = CropChoices()
    choices.choose(replace(frame(0, 1, "old"), clock_ns=0), (128, 96), 1)
    choices.choose(replace(frame(0, 1, "new"), clock_ns=10**12), (128, 96), 1)
    assert set(choices._streams) == {"new"}
