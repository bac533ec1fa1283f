"""Decoding on a GPU with PyNvVideoCodec acted out; tests/gpu does the same with the real one."""

import builtins
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest

from engines.errors import BackendUnavailable, ConfigError, SourceError
from pipeline.frames.types import Frame, Health
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture, check_source
from pipeline.sources.nvdec import video_decoders
from tests.fakes.pynv_double import Driver, Pixel_Format, installed

MakeClip = Callable[..., Path]


@pytest.fixture
def driver() -> Iterator[Driver]:
    with installed(Driver()) as driver:
        yield driver


def settings(source: Path | str, **values: object) -> StreamSettings:
    return msgspec.convert({"name": "door", "source": str(source), "decode": "nvdec", **values}, StreamSettings)


def captured(source: Path | str, **values: object) -> tuple[list[Frame], list[tuple[str, str]]]:
    """All frames of a file, and what was told of it."""
    told: list[Health] = []
    frames = list(capture(settings(source, **values), stop=threading.Event(), health=told.append))
    return frames, [(report.state, report.cause) for report in told]


def write_video(path: Path, codec: str, frames: int = 8, rotation: int = 0, **options: str) -> Path:
    """Noise, so that no two pictures are alike."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, options.pop("pix_fmt", "yuv420p")
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            pixels = random.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def same_as_ffmpeg(source: Path, **values: object) -> None:
    found, wanted = captured(source, **values)[0], captured(source, decode="ffmpeg", **values)[0]
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert (one.seq, one.time_s) == (other.seq, pytest.approx(other.time_s))
        picture, like = one.picture, other.picture
        looks = (picture.width, picture.height, picture.full_range, picture.matrix)
        assert looks == (like.width, like.height, like.full_range, like.matrix)
        for plane, wanted_plane in zip(picture.planes, like.planes, strict=True):
            np.testing.assert_array_equal(plane, wanted_plane)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full_range", [False, True])
def test_pictures_and_their_looks_are_those_of_ffmpeg(
    make_clip: MakeClip, tmp_path: Path, driver: Driver, matrix: str, full_range: bool
) -> None:
    same_as_ffmpeg(make_clip(tmp_path / "clip.mp4", frames=20, matrix=matrix, full_range=full_range))
    assert driver.made == [{"gpu": 0, "codec": "H264", "latency": "NATIVE"}]


@pytest.mark.parametrize(
    ("case", "name", "codec", "options"),
    [
        ("no marks between the parts of a packet, and B-frames", "a.mp4", "libx264", {"bf": "3"}),
        ("marks already", "a.ts", "libx264", {}),
        ("another codec with parts", "a.mkv", "libx265", {"x265-params": "log-level=none"}),
        ("a codec without parts", "a.mpg", "mpeg2video", {}),
    ],
)
def test_what_a_container_does_to_packets_is_undone(
    tmp_path: Path, driver: Driver, case: str, name: str, codec: str, options: dict[str, str]
) -> None:
    same_as_ffmpeg(write_video(tmp_path / name, codec, **options))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_picture_that_lies_on_its_side_is_put_upright(tmp_path: Path, driver: Driver, rotation: int) -> None:
    video = write_video(tmp_path / "phone.mp4", "libx264", rotation=rotation)
    same_as_ffmpeg(video)
    picture = captured(video)[0][0].picture
    assert (picture.width, picture.height) == ((64, 48) if rotation == 180 else (48, 64))


def test_lines_may_be_longer_than_the_picture_is_wide(make_clip: MakeClip, tmp_path: Path, driver: Driver) -> None:
    driver.pad = 32
    same_as_ffmpeg(make_clip(tmp_path / "clip.mp4", frames=8))


def test_a_file_plays_in_a_loop(make_clip: MakeClip, tmp_path: Path, driver: Driver) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=5)
    frames = capture(settings(clip, loop=True), stop=threading.Event(), health=lambda report: None)
    times = [next(frames).time_s for _ in range(12)]
    frames.close()
    assert times == sorted(set(times))
    assert len(driver.made) == 3


def test_what_waits_for_nobody_gets_every_picture_at_once(make_clip: MakeClip, tmp_path: Path, driver: Driver) -> None:
    captured(make_clip(tmp_path / "clip.mp4", frames=3), pace="camera")
    captured(write_video(tmp_path / "b.mp4", "libx264", bf="3"), pace="camera")
    assert [made["latency"] for made in driver.made] == ["LOW", "NATIVE"], "NATIVE where pictures are reordered"


def test_the_gpu_is_that_of_the_configuration(make_clip: MakeClip, tmp_path: Path, driver: Driver) -> None:
    driver.gpus = 2
    captured(make_clip(tmp_path / "clip.mp4", frames=3), decode_gpu=1)
    assert driver.made[0]["gpu"] == 1


def test_a_broken_packet_costs_itself(make_clip: MakeClip, tmp_path: Path, driver: Driver) -> None:
    clip = make_clip(tmp_path / "clip.ts", frames=24)
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2 // 188 * 188
    data[middle + 20 : middle + 180] = bytes(160)
    (tmp_path / "broken.ts").write_bytes(data)
    frames, told = captured(tmp_path / "broken.ts")
    assert 10 <= len(frames) <= 24
    assert told[-1] == ("ended", f"end of the file after {len(frames)} frames")


@pytest.mark.parametrize(
    ("case", "harm", "cause"),
    [
        (
            "no such GPU",
            lambda driver: setattr(driver, "gpus", 0),
            r"cannot be decoded by NVDEC on GPU 0: GPU ordinal out of range. Should be within \[0, -1\]",
        ),
        (
            "a GPU too old for it",
            lambda driver: setattr(driver, "unsupported", True),
            "cannot be decoded by NVDEC on GPU 0: NvDecoder : Codec not supported on this GPU at line 1",
        ),
        (
            "it fails on its way",
            lambda driver: setattr(driver, "fails_at", 7),
            "cannot be decoded by NVDEC on GPU 0: cuvidDecodePicture returned error 700",
        ),
        (
            "pictures of another kind from some moment on",
            lambda driver: setattr(driver, "format", Pixel_Format.P016),
            "has pictures in P016 now, and NVDEC gives NV12 only",
        ),
    ],
)
def test_a_stream_that_cannot_be_decoded_ends_with_its_cause(
    make_clip: MakeClip, tmp_path: Path, driver: Driver, case: str, harm: Callable[[Driver], None], cause: str
) -> None:
    harm(driver)
    _, told = captured(make_clip(tmp_path / "clip.mp4", frames=12))
    assert told[-1][0] == "ended"
    assert re.fullmatch(cause, told[-1][1]), told


def test_a_live_stream_goes_down_and_is_opened_again(make_clip: MakeClip, tmp_path: Path, driver: Driver) -> None:
    driver.fails_at = 3
    clip = make_clip(tmp_path / "clip.mp4", frames=12)
    stop, told = threading.Event(), list[Health]()

    def hear(report: Health) -> None:
        told.append(report)
        if len(told) == 3:
            stop.set()

    live = settings(f"file://{clip}", reconnect_min_s=0.01, reconnect_max_s=0.02)
    frames = list(capture(live, stop=stop, health=hear))
    assert len(frames) >= 3
    states = [(report.state, report.cause) for report in told]
    assert states == [
        ("up", "320x240 h264"),
        ("down", "cannot be decoded by NVDEC on GPU 0: cuvidDecodePicture returned error 700"),
        ("up", "320x240 h264"),
    ]


def test_what_nvdec_is_not_given(tmp_path: Path, driver: Driver) -> None:
    with pytest.raises(SourceError, match=r"stream 'door': source '.*a.avi' is mjpeg, which NVDEC is not given: that"):
        check_source(settings(write_video(tmp_path / "a.avi", "mjpeg", pix_fmt="yuvj420p")))
    deep = write_video(tmp_path / "deep.mp4", "libx265", **{"x265-params": "log-level=none", "pix_fmt": "yuv420p10le"})
    with pytest.raises(SourceError, match="has pictures in yuv420p10le, and NVDEC is given 8-bit 4:2:0 only"):
        check_source(settings(deep))


@pytest.mark.parametrize("source", ["0", "/dev/video3"])
def test_a_camera_has_no_packets(source: str, driver: Driver) -> None:
    with pytest.raises(ConfigError, match=r"stream 'door': decode is 'nvdec', but must be 'ffmpeg' for '.+', which"):
        check_source(settings(source))


def test_without_the_library_the_run_is_refused_with_what_installs_it(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    sentence = (
        r"cannot be decoded by NVDEC: the package PyNvVideoCodec cannot be imported .*pip install 'trunkline\[nvdec\]'"
    )
    for source in (clip, "rtsp://127.0.0.1:1/nothing"):
        with pytest.raises(SourceError, match=sentence):
            check_source(settings(source))
    assert captured(clip)[1][0][0] == "ended"


def test_without_a_driver_its_page_of_advice_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "PyNvVideoCodec", raising=False)
    real: Any = builtins.__import__

    def refuse(name: str) -> Any:
        if name == "PyNvVideoCodec":
            raise RuntimeError("Failed to load NVENC library: libnvidia-encode.so.1: ...\n\n=== TROUBLESHOOTING STEPS")
        return real(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(
        BackendUnavailable, match=r"NVIDIA's driver for videos is not there \(Failed .*so\.1: \.\.\.\)$"
    ):
        video_decoders(0)


def test_the_number_of_decoders(driver: Driver) -> None:
    assert video_decoders(0) == 3
    with pytest.raises(BackendUnavailable, match="GPU 1 cannot be used: GPU ordinal out of range"):
        video_decoders(1)


def test_nothing_of_it_is_imported_unless_asked_for() -> None:
    program = (
        "import sys, pipeline.service.run; print([name for name in sys.modules if 'nvdec' in name or 'PyNv' in name])"
    )
    checkout = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=checkout, timeout=100)
    assert done.stdout.strip() == "[]", done.stderr
