"""Pictures as they are displayed: rotated, mirrored, with square pixels, cropped, whole."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engines.arrays import Pixels
from pipeline.sources.display import Tags
from tests.pipeline.made_captures import Read
from tests.pipeline.made_clips import ONE, drawn, write_clip

SIZE = (64, 48)
NEAR = 12  # levels, after encoding

# a, b, c, d of the display matrix: a point (x, y) of the picture is shown at (a x + c y, b x + d y).
ORIENTATIONS: list[tuple[str | None, tuple[int, int, int, int], Callable[[Pixels], Pixels]]] = [
    (None, (1, 0, 0, 1), lambda picture: picture),
    ("rotated by 90 degrees", (0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
    ("rotated by 180 degrees", (-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
    ("rotated by 270 degrees", (0, -1, 1, 0), lambda picture: np.rot90(picture)),
    ("mirrored", (-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
    ("mirrored upside down", (1, 0, 0, -1), lambda picture: picture[::-1]),
    ("mirrored and rotated by 270 degrees", (0, 1, 1, 0), lambda picture: np.rot90(picture[:, ::-1])),
    ("mirrored and rotated by 90 degrees", (0, -1, -1, 0), lambda picture: np.rot90(picture[:, ::-1], -1)),
]


def display_matrix(a: int, b: int, c: int, d: int) -> list[int]:
    return [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30]


def near(found: Pixels, wanted: Pixels) -> bool:
    """Whether two pictures are the same but for coding, away from edges."""
    if found.shape != wanted.shape:
        return False
    differs = np.abs(found.astype(int) - wanted).max(axis=2) > NEAR
    return float(differs.mean()) < 0.15


@pytest.mark.parametrize(("note", "numbers", "shown"), ORIENTATIONS)
def test_all_eight_orientations_are_put_right(
    tmp_path: Path, note: str | None, numbers: tuple[int, int, int, int], shown: Callable[[Pixels], Pixels]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 2, SIZE, matrix=display_matrix(*numbers))
    read = Read(clip)
    assert near(read.frames[0].picture.rgb(), shown(drawn(0, SIZE)))
    assert read.up.partition(" h264")[2] == ("" if note is None else f", {note}")


@pytest.mark.parametrize(("tag", "orientation"), list(enumerate((0, 4, 2, 5, 6, 1, 7, 3), start=1)))
def test_photos_are_put_right_as_their_exif_says(tmp_path: Path, tag: int, orientation: int) -> None:
    (tmp_path / "photo.jpg").write_bytes(with_exif(cv2.imencode(".jpg", drawn(0, SIZE)[..., ::-1])[1].tobytes(), tag))
    note, _, shown = ORIENTATIONS[orientation]
    read = Read(tmp_path / "photo.jpg")
    assert near(read.frames[0].picture.rgb(), shown(drawn(0, SIZE)))
    assert note is None or note in read.up


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with one EXIF tag: orientation (CIPA DC-008, 4.6.5)."""
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + tag + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize(
    ("aspect", "width"),
    [
        (Fraction(2), 128),
        (Fraction(1, 2), 32),
        (Fraction(16, 15), 68),
        (Fraction(1), 64),
        (None, 64),
        (Fraction(99), 64),
    ],
)
def test_pixels_are_square(tmp_path: Path, aspect: Fraction | None, width: int) -> None:
    read = Read(write_clip(tmp_path / "clip.mkv", 2, SIZE, aspect=aspect))
    picture = read.frames[0].picture
    assert (picture.width, picture.height) == (width, 48)
    assert near(picture.rgb(), drawn(0, (width, 48)))
    assert ("pixels" in read.up) == (width != 64)


def test_pixels_are_made_square_before_the_picture_is_turned(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 1, SIZE, aspect=Fraction(2), matrix=display_matrix(0, 1, -1, 0))
    (frame,) = Read(clip).frames
    assert near(frame.picture.rgb(), np.rot90(drawn(0, (128, 48)), -1))


def test_what_is_to_be_cropped_is_cropped_on_the_left_too(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", 2, (128, 96), options={"x264-params": "crop-rect=6,4,10,2"})
    (frame, _) = Read(clip).frames
    assert near(frame.picture.rgb(), drawn(0, (128, 96))[4:94, 6:118])


class TestInterlaced:
    """Two fields a frame."""

    @pytest.fixture(scope="class")
    @staticmethod
    def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
        def combed(index: int, size: tuple[int, int]) -> Pixels:
            pixels = np.zeros((size[1], size[0], 3), np.uint8)
            pixels[1::2] = 40 + 20 * (index % 2)  # the two fields of a frame are of two moments, the lower one first
            pixels[::2] = 200 + 20 * (index % 2)
            return pixels

        path = tmp_path_factory.mktemp("fields") / "clip.ts"
        return write_clip(path, 12, options={"flags": "+ildct+ilme", "qp": "4"}, draw=combed)

    def test_they_are_shown_as_they_are_and_told(self, clip: Path) -> None:
        read = Read(clip)
        assert len(read.frames) == 12
        assert read.up.endswith(", interlaced")
        rgb = read.frames[0].picture.rgb()
        assert rgb[21:29:2].mean() < 90 < 150 < rgb[20:28:2].mean()

    def test_bob_makes_a_picture_of_each_field(self, clip: Path) -> None:
        read = Read(clip, deinterlace="bob")
        assert read.times_s == pytest.approx([index / 50 for index in range(24)])
        levels = [frame.picture.rgb()[8:40].mean() for frame in read.frames]
        assert max(levels[::2]) < 90 and min(levels[1::2]) > 150

    def test_weave_makes_one_of_both(self, clip: Path) -> None:
        read = Read(clip, deinterlace="weave")
        assert read.times_s == pytest.approx([index / 25 for index in range(12)])

    def test_what_is_not_interlaced_is_left_alone(self, tmp_path: Path) -> None:
        clip = write_clip(tmp_path / "clip.mp4", 6)
        plain, bob = Read(clip), Read(clip, deinterlace="bob")
        assert bob.times_s == plain.times_s
        assert all(
            (one.picture.rgb() == other.picture.rgb()).all()
            for one, other in zip(plain.frames, bob.frames, strict=True)
        )


@pytest.mark.parametrize(
    ("codec", "pixel_format", "colour_space", "colour_range"),
    [
        ("libx264rgb", "rgb24", None, None),
        ("libx264", "yuv444p10le", 1, 1),
        ("libx264", "yuvj444p", 1, 2),
        ("libx264", "yuv422p", 9, 2),
        ("libx264", "yuv420p", 7, 1),
    ],
)
def test_colours_of_every_range_and_matrix_are_the_drawn_ones(
    tmp_path: Path, codec: str, pixel_format: str, colour_space: int | None, colour_range: int | None
) -> None:
    colour = np.array((200, 40, 60))
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixel_format
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), colour, np.uint8), "rgb24")
        if colour_space is not None and colour_range is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colour_space, colour_range
            frame = frame.reformat(
                format=pixel_format, dst_colorspace=colour_space, dst_color_range=colour_range, src_color_range=2
            )
        else:
            frame = frame.reformat(format=pixel_format)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (shown,) = Read(path).frames
    assert np.abs(shown.picture.rgb().astype(int) - colour).max() <= 6


@pytest.mark.parametrize(
    ("matrix", "transfer", "told"),
    [
        (9, 16, ", BT.2020, HDR (PQ) not mapped to SDR"),
        (9, 18, ", BT.2020, HDR (HLG) not mapped to SDR"),
        (8, 1, ", colour matrix 8 of H.273 taken for BT.601"),
        (1, 1, ""),
    ],
)
def test_colours_that_nothing_is_done_about_are_told(tmp_path: Path, matrix: int, transfer: int, told: str) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p10le"
        stream.codec_context.colorspace, stream.codec_context.color_trc = matrix, transfer
        frame = av.VideoFrame.from_ndarray(drawn(0, SIZE), "rgb24").reformat(format="yuv420p10le")
        frame.colorspace, frame.color_trc = matrix, transfer
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    read = Read(path)
    assert (len(read.frames), read.up) == (1, f"64x48 h264{told}")


def test_no_frame_is_kept_until_garbage_is_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A frame that is asked for its side data refers to itself from there on, and its buffer does not go back.
    asked = []
    real = Tags.of
    monkeypatch.setattr(Tags, "of", lambda frame: (asked.append(frame.pts), real(frame))[1])
    assert len(Read(write_clip(tmp_path / "clip.mp4", 30, SIZE, matrix=display_matrix(0, 1, -1, 0))).frames) == 30
    assert len(asked) == 1
