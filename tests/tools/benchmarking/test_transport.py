import numpy as np
import pytest

from engines.errors import StageError
from pipeline.frames.picture import Picture
from tools.benchmarking import transport
from tools.benchmarking.transport import measure_transport


@pytest.mark.integration
def test_frames_of_an_odd_size_arrive_whole() -> None:
    figures = measure_transport((99, 51), seconds=0.2, repeats=2)
    assert (figures.width, figures.height) == (99, 51)
    assert figures.frames > 10
    assert len(figures.frames_per_s.values) == 2
    assert figures.frames_per_s.min > 0
    assert figures.writer_cpu_ms_per_frame.median > 0
    assert figures.reader_cpu_ms_per_frame.median > 0
    bytes_each = 99 * 51 + 2 * 50 * 26
    assert figures.gigabytes_per_s.median == pytest.approx(figures.frames_per_s.median * bytes_each / 1e9, rel=1e-3)


@pytest.mark.integration
def test_a_frame_that_arrives_with_other_pixels_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = transport.write_picture

    def spoiled(picture: Picture, *where: object) -> Picture:
        return honest(Picture(tuple(255 - plane for plane in picture.planes), picture.width, picture.height), *where)

    monkeypatch.setattr(transport, "write_picture", spoiled)
    with pytest.raises(StageError, match="other pixels"):
        measure_transport((64, 32), seconds=0.2)


def test_pictures_differ_and_are_the_same_every_time() -> None:
    one, other = transport._pictures((64, 32)), transport._pictures((64, 32))
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[0].planes[0], one[1].planes[0])
