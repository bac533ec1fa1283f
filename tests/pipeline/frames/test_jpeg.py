"""A JPEG shows the colours of the picture that it was made of, whatever its range and matrix."""

import av
import cv2
import numpy as np
import pytest

from pipeline.frames.jpeg import JpegEncoder, jpeg_planes
from pipeline.frames.picture import Matrix, Picture

COLOUR = (200, 40, 60)


@pytest.mark.parametrize(
    ("matrix", "number", "full_range"), [("bt601", 5, False), ("bt709", 1, False), ("bt2020", 9, True), (None, 0, True)]
)
def test_colours_are_the_pictures(matrix: Matrix | None, number: int, full_range: bool) -> None:
    rgb = np.full((48, 64, 3), COLOUR, np.uint8)
    picture = Picture.from_rgb(rgb)
    if matrix is not None:
        layout, colour_range = ("yuvj420p", 2) if full_range else ("yuv420p", 1)
        frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
            format=layout, dst_colorspace=number, dst_color_range=colour_range
        )
        planes = tuple(
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in frame.planes
        )
        picture = Picture(planes, 64, 48, full_range, matrix)
    shown = cv2.imdecode(np.frombuffer(JpegEncoder(90).encode(jpeg_planes(picture)), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(shown[..., ::-1].astype(int) - COLOUR).max() <= 6
