"""Containers that crop: it is not done, but told."""

import struct
from pathlib import Path

import pytest

from pipeline.sources.cropping import crops
from tests.pipeline.made_captures import Captured
from tests.pipeline.made_clips import write_clip

WAY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")


def with_clap(path: Path, width: int, height: int) -> Path:
    """A clean aperture in the video of an MP4, whose index is at its end."""
    clap = struct.pack(">I4s8I", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)
    content = bytearray(path.read_bytes())
    begin = 0
    for kind in WAY:
        begin = content.index(kind, begin) - 4
        length = int.from_bytes(content[begin : begin + 4])
        content[begin : begin + 4] = (length + len(clap)).to_bytes(4)
    content[begin + length : begin + length] = clap
    path.write_bytes(content)
    return path


def test_a_file_that_is_cropped_by_its_container_says_so_when_it_comes_up(tmp_path: Path) -> None:
    captured = Captured(str(with_clap(write_clip(tmp_path / "clip.mp4", 3), 48, 40)))
    assert len(list(captured.frames)) == 3
    assert captured.health[0] == ("up", "64x48 h264, cropping of the container not applied")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.webm", "clip.ts", "clip.avi"])
def test_what_is_not_cropped_says_nothing(tmp_path: Path, name: str) -> None:
    codec = "libvpx" if name.endswith("webm") else "libx264"
    assert not crops(write_clip(tmp_path / name, 3, codec=codec))


def test_a_clean_aperture_of_the_whole_picture_is_none(tmp_path: Path) -> None:
    assert not crops(with_clap(write_clip(tmp_path / "clip.mp4", 3), 64, 48))


def element(kind: bytes, *parts: bytes) -> bytes:
    """Of Matroska; its length in eight bytes."""
    content = b"".join(parts)
    return kind + (1 << 56 | len(content)).to_bytes(8) + content


def matroska(crop: bytes) -> bytes:
    video = element(b"\xe0", element(b"\xb0", b"\x07\x80"), element(b"\xba", b"\x04\x40"), crop)
    tracks = element(b"\x16\x54\xae\x6b", element(b"\xae", element(b"\xd7", b"\1"), video))
    head = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"matroska"))
    cluster = element(b"\x1f\x43\xb6\x75", bytes(100))
    return head + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + element(b"\xec", bytes(9)) + tracks + cluster


@pytest.mark.parametrize(
    ("crop", "cropped"),
    [
        (element(b"\x54\xaa", b"\x08"), True),
        (element(b"\x54\xbb", b"\x01\x00"), True),
        (element(b"\x54\xcc", b"\x00"), False),
        (b"", False),
    ],
    ids=["bottom", "top", "left by 0", "none"],
)
def test_matroska(tmp_path: Path, crop: bytes, cropped: bool) -> None:
    (tmp_path / "clip.mkv").write_bytes(matroska(crop))
    assert crops(tmp_path / "clip.mkv") is cropped


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_header_that_is_cut_off_or_nonsense_is_no_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"clip.{kind}"
    if kind == "mp4":
        whole = with_clap(write_clip(path, 3), 48, 40).read_bytes()
    else:
        whole = matroska(element(b"\x54\xaa", b"\x08"))
    for length in range(0, len(whole), max(1, len(whole) // 50)):
        path.write_bytes(whole[:length])
        crops(path)
        path.write_bytes(whole[:length] + b"\xff" * (len(whole) - length))
        crops(path)
