"""Of a file without its end that is told, also where it comes through a pipe."""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.sources.pipe import PipeReader
from pipeline.sources.whole import WholeStream, cut_short
from tests.pipeline.made_captures import Read
from tests.pipeline.made_clips import drawn, write_clip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("whole") / "clip.mp4", 40, options={"bf": "2", "g": "25"})


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One clip of each container, and pictures."""
    folder = tmp_path_factory.mktemp("clips")
    made = [write_clip(folder / f"clip.{suffix}", 30, codec=CODECS.get(f".{suffix}", "libx264")) for suffix in SUFFIXES]
    made += [
        write_clip(folder / "live.mkv", 30, container_options={"live": "1"}),
        folder / "clip.gif",
        folder / "clip.jpg",
    ]
    for path in made[-2:]:
        Image.effect_noise((64, 48), 90).save(path)
    return made


CODECS = {".webm": "libvpx", ".avi": "mpeg4", ".wmv": "wmv2", ".ogg": "libvpx", ".ivf": "libvpx"}
SUFFIXES = ("mkv", "webm", "avi", "flv", "wmv", "ogg", "ivf", "ts", "m2ts")


def piped(folder: Path, content: bytes) -> Read:
    """What is read of a pipe that gives this content."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    read = Read(pipe)
    writer.join()
    pipe.unlink()
    return read


def fed(content: bytes) -> Read:
    """What is read of the standard input, which is a file here."""
    before = os.dup(0)
    try:
        with TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            os.dup2(file.fileno(), 0)
            return Read("-")
    finally:
        os.dup2(before, 0)
        os.close(before)


def streamed(folder: Path, name: str) -> bytes:
    """A clip that was written to a pipe, so that no length could be written once it was known."""
    os.mkfifo(folder / name)
    with ThreadPoolExecutor() as reads:
        content = reads.submit((folder / name).read_bytes)
        write_clip(folder / name, 60, codec=CODECS.get(Path(name).suffix, "libx264"))
        return content.result()


def is_cut(read: Read) -> bool:
    """Whether a part of 60 frames was read and it was told."""
    return 0 < len(read.frames) < 60 and read.end[1] == "part" and "is not whole: " in read.end[0]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("clip.mp4", {"movflags": "+faststart"}),
        ("clip.mp4", {"movflags": "+frag_keyframe+empty_moov"}),
        ("clip.mov", {"movflags": "+faststart"}),
        *((f"clip.{suffix}", {}) for suffix in SUFFIXES),
        ("clip.flv", {"flvflags": "no_duration_filesize"}),
        ("clip.webm", {"live": "1"}),  # nothing has a length
        ("clip.mkv", {"live": "1"}),
        ("clip.mkv", {"live": "1", "cluster_time_limit": "100"}),
    ],
)
def test_the_first_half_of_a_file_is_played_and_told(tmp_path: Path, name: str, written: dict[str, str]) -> None:
    """Also where it comes through a pipe or the standard input."""
    path = tmp_path / name
    options, codec = {"g": "10"}, CODECS.get(path.suffix, "libx264")
    content = write_clip(path, 60, codec=codec, options=options, container_options=written).read_bytes()
    for read in (Read(path), piped(tmp_path, content), fed(content)):
        assert (len(read.frames), read.end) == (60, ("end of the file after 60 frames", "all"))
    half = content[: len(content) * 2 // 3 | 1]  # not at the end of a packet of MPEG-TS
    path.write_bytes(half)
    read = Read(path)
    assert is_cut(read)
    assert piped(tmp_path, half).end == fed(half).end == read.end


@pytest.mark.parametrize("suffix", [*SUFFIXES, "nut"])
def test_a_clip_that_was_written_to_a_pipe_is_told_as_it_is(tmp_path: Path, suffix: str) -> None:
    content = streamed(tmp_path, f"clip.{suffix}")
    read = piped(tmp_path, content)
    assert (len(read.frames), read.end) == (60, ("end of the file after 60 frames", "all"))
    if suffix != "nut":
        assert is_cut(piped(tmp_path, content[: len(content) * 2 // 3 | 1]))


def test_a_pipe_that_is_stopped_lacks_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    stop = threading.Event()
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    os.write(writer, b"RIFF\xff\xff\0\0AVI ")
    with PipeReader(tmp_path / "pipe", stop, None) as reader:
        assert reader.read(100)
        stop.set()
        assert (reader.read(100), reader.missing) == (b"", None)
        stop.clear()
        os.close(writer)
        assert reader.read(100) == b""
        assert reader.missing == "is not whole: at least 65532 of 65544 bytes are missing at its end"


@given(st.data())
def test_bytes_that_come_in_any_pieces_tell_what_their_file_tells(clips: list[Path], data: st.DataObject) -> None:
    content, cut = data.draw(st.sampled_from(clips)).read_bytes(), clips[0].with_name("cut")
    content = content[: data.draw(st.integers(0, len(content)))]
    pieces = data.draw(st.lists(st.integers(1, 3000), max_size=20))
    cut.write_bytes(content)
    stream, rest = WholeStream(), content
    for size in pieces:
        stream.took(rest[:size])
        rest = rest[size:]
    stream.took(rest)
    assert stream.end() == cut_short(cut)


@pytest.mark.parametrize("suffix", ["gif", "jpg"])
def test_pictures_without_their_end_are_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    view = Image.effect_noise((64, 48), 90)
    exif = Image.Exif()
    exif[0x010E] = "a small picture ends before the large one: \xff\xd9"
    view.save(path, exif=exif)
    assert Read(path).end[1] == "all"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    assert Read(path).end[1] in ("part", "nothing")
    assert "is not whole: its end is missing" in Read(path).end[0]


@pytest.mark.parametrize(("rate", "size"), [(25, (720, 576)), (30, (720, 480))])
def test_dv_without_the_end_of_its_last_picture_is_told(tmp_path: Path, rate: int, size: tuple[int, int]) -> None:
    path = tmp_path / "clip.dv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("dvvideo", rate=Fraction(30000, 1001) if rate == 30 else rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv411p" if rate == 30 else "yuv420p"
        for index in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn(index, size), "rgb24")))
        container.mux(stream.encode())
    assert cut_short(path) is None
    path.write_bytes(path.read_bytes()[:-1000])
    assert Read(path).end[1] == "part"
    assert "is not whole: its last picture is cut off" in Read(path).end[0]


def test_an_mp4_without_its_end_has_no_index(whole: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    told = "is not whole: its index (moov), which stands at its end, is missing"
    assert (cut_short(half), cut_short(whole)) == (told, None)
    assert Read(half).end == piped(tmp_path, half.read_bytes()).end == (told, "nothing")


def test_a_file_with_bytes_after_its_end_is_whole(whole: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer.mp4"
    longer.write_bytes(whole.read_bytes() + bytes(1000))
    assert cut_short(longer) is None


STARTS = (
    *(b"\x1a\x45\xdf\xa3", b"RIFF", b"\0\0\0\x20ftyp", b"\x47", b"OggS", b"\xff\xd8\xff", b"GIF8", b"\x1f\x07\0"),
    bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
)


@pytest.mark.parametrize("seed", range(40))
def test_noise_tells_nothing_and_breaks_nothing(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    start = generator.choice([b"", *STARTS])
    path = tmp_path / "noise.ts"
    path.write_bytes(start + generator.randbytes(generator.randrange(200)))
    missing = cut_short(path)
    assert missing is None or missing.startswith("is not whole")
