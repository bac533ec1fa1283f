"""Decoding on a GPU's video decoder with FFmpeg's devices acted out; tests/gpu does the same with a real one."""

import re
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from av.video.stream import VideoStream

from engines.errors import BackendUnavailable, ConfigError, SourceError
from pipeline.frames.types import Frame, Health
from pipeline.settings.schema import StreamSettings
from pipeline.sources import hwaccel
from pipeline.sources.capture import capture, check_source
from pipeline.sources.hwaccel import HardwareDecoder, check_hardware

MakeClip = Callable[..., Path]


class Machine:
    """What a machine's video decoders do: they give NV12, as real ones, and fail as they are told."""

    def __init__(self) -> None:
        self.gpus = 1
        self.opened: list[tuple[str, str]] = []  # FFmpeg's type of device, and its path
        self.fails_at: int | None = None  # packet
        self.packets = 0

    def device(self, kind: str, path: str, *, allow_software_fallback: bool) -> "Accelerator":
        assert not allow_software_fallback, "FFmpeg would decode on the CPU where the device cannot"
        return Accelerator(self, kind, path)


class Accelerator:
    """In the place of PyAV's ``HWAccel``."""

    def __init__(self, machine: Machine, kind: str, path: str) -> None:
        self.machine, self.kind, self.path = machine, kind, path

    def create(self, codec: av.Codec) -> None:
        if not self.machine.gpus:
            raise av.PermissionError(1, "Operation not permitted")
        self.machine.opened.append((self.kind, self.path))


class OnDevice:
    """A packet that a device decodes: to what FFmpeg's own decoder gives, as NV12."""

    def __init__(self, machine: Machine, packet: "av.Packet[VideoStream]") -> None:
        self.machine, self.packet = machine, packet

    def decode(self) -> list[av.VideoFrame]:
        self.machine.packets += 1
        if self.machine.packets == self.machine.fails_at:
            raise av.ExternalError(542398533, "Generic error in an external library")
        return [self.nv12(frame) for frame in self.packet.decode()]

    def nv12(self, frame: av.VideoFrame) -> av.VideoFrame:
        rotated = frame.rotation
        down = frame.reformat(format="nv12")
        assert down.rotation == rotated, "a frame that comes down keeps its properties"
        return down


class Context:
    """A codec context that decodes on a device where it is H.264 or HEVC."""

    def __init__(self, real: Any) -> None:
        self.name, self.is_hwaccel = real.name, real.name in ("h264", "hevc")


class Stream:
    """A stream of a container that was opened with a device."""

    def __init__(self, real: VideoStream) -> None:
        self.codec_context = Context(real.codec_context)
        self.real = real

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "thread_type":
            self.real.thread_type = value
        else:
            super().__setattr__(name, value)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    real_open, real_init, real_decode = av.open, HardwareDecoder.__init__, HardwareDecoder.decode

    def opened(*args: Any, hwaccel: Any = None, **options: Any) -> Any:
        if hwaccel is not None:
            hwaccel.create(None)
        return real_open(*args, **options)

    monkeypatch.setattr(av, "open", opened)
    monkeypatch.setattr(hwaccel, "HWAccel", machine.device)
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["cuda", "vaapi"])
    monkeypatch.setattr(HardwareDecoder, "__init__", lambda self, stream, *rest: real_init(self, Stream(stream), *rest))
    monkeypatch.setattr(HardwareDecoder, "decode", lambda self, packet: real_decode(self, OnDevice(machine, packet)))
    return machine


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
    width, height = map(int, options.pop("size", "64x48").split("x"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = options.pop("pix_fmt", "yuv420p")
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
def test_pictures_and_their_looks_are_those_of_the_cpu(
    make_clip: MakeClip, tmp_path: Path, machine: Machine, matrix: str, full_range: bool
) -> None:
    same_as_ffmpeg(make_clip(tmp_path / "clip.mp4", frames=20, matrix=matrix, full_range=full_range))
    assert machine.opened == [("cuda", "0")]


@pytest.mark.parametrize(
    ("case", "name", "codec", "options"),
    [
        ("B-frames in MP4", "a.mp4", "libx264", {"bf": "3"}),
        ("start codes", "a.ts", "libx264", {}),
        ("HEVC", "a.mkv", "libx265", {"x265-params": "log-level=none"}),
        ("sides of an odd number of macroblocks", "odd.mp4", "libx264", {"size": "72x50"}),
    ],
)
def test_every_container_is_read_as_ever(
    tmp_path: Path, machine: Machine, case: str, name: str, codec: str, options: dict[str, str]
) -> None:
    same_as_ffmpeg(write_video(tmp_path / name, codec, **options))


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_picture_that_lies_on_its_side_is_put_upright(tmp_path: Path, machine: Machine, rotation: int) -> None:
    video = write_video(tmp_path / "phone.mp4", "libx264", rotation=rotation)
    same_as_ffmpeg(video)
    picture = captured(video)[0][0].picture
    assert (picture.width, picture.height) == ((64, 48) if rotation == 180 else (48, 64))


def test_a_file_plays_in_a_loop(make_clip: MakeClip, tmp_path: Path, machine: Machine) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=5)
    frames = capture(settings(clip, loop=True), stop=threading.Event(), health=lambda report: None)
    times = [next(frames).time_s for _ in range(12)]
    frames.close()
    assert times == sorted(set(times))
    assert len(machine.opened) == 3


@pytest.mark.parametrize(("decode", "device"), [("nvdec", ("cuda", "1")), ("vaapi", ("vaapi", "/dev/dri/renderD129"))])
def test_the_device_is_that_of_the_configuration(
    make_clip: MakeClip, tmp_path: Path, machine: Machine, decode: str, device: tuple[str, str]
) -> None:
    captured(make_clip(tmp_path / "clip.mp4", frames=3), decode=decode, decode_gpu=1)
    assert machine.opened == [device]


def test_a_broken_packet_costs_itself(make_clip: MakeClip, tmp_path: Path, machine: Machine) -> None:
    clip = make_clip(tmp_path / "clip.ts", frames=24)
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2 // 188 * 188
    data[middle + 20 : middle + 180] = bytes(160)
    (tmp_path / "broken.ts").write_bytes(data)
    frames, told = captured(tmp_path / "broken.ts")
    assert 10 <= len(frames) <= 24
    assert told[-1][1].startswith(f"end of the file after {len(frames)} frames")


@pytest.mark.parametrize(
    ("case", "harm", "cause"),
    [
        (
            "no such GPU",
            {"gpus": 0},
            r"cannot be decoded: NVDEC finds no GPU 0 \(.*not permitted\): .* missing",
        ),
        ("it fails on its way", {"fails_at": 7}, r"cannot be decoded by NVDEC on GPU 0: .*external library"),
    ],
)
def test_a_stream_that_cannot_be_decoded_ends_with_its_cause(
    make_clip: MakeClip, tmp_path: Path, machine: Machine, case: str, harm: dict[str, int], cause: str
) -> None:
    vars(machine).update(harm)
    _, told = captured(make_clip(tmp_path / "clip.mp4", frames=12))
    assert told[-1][0] == "ended"
    assert re.fullmatch(cause, told[-1][1]), told


def test_a_live_stream_goes_down_and_is_opened_again(make_clip: MakeClip, tmp_path: Path, machine: Machine) -> None:
    machine.fails_at = 3
    clip = make_clip(tmp_path / "clip.mp4", frames=12)
    stop, told = threading.Event(), list[Health]()

    def hear(report: Health) -> None:
        told.append(report)
        if len(told) == 3:
            stop.set()

    live = settings(clip, live=True, reconnect_min_s=0.01, reconnect_max_s=0.02)
    frames = list(capture(live, stop=stop, health=hear))
    assert len(frames) >= 3
    assert [report.state for report in told] == ["up", "down", "up"]
    assert told[1].cause.startswith("cannot be decoded by NVDEC on GPU 0: ")


def test_a_codec_that_the_device_does_not_decode_is_refused(tmp_path: Path, machine: Machine) -> None:
    with pytest.raises(SourceError, match=r"source '.*a.avi' is mjpeg, which FFmpeg does not decode on NVDEC on GPU 0"):
        check_source(settings(write_video(tmp_path / "a.avi", "mjpeg", pix_fmt="yuvj420p")))


@pytest.mark.parametrize("decode", ["nvdec", "vaapi"])
@pytest.mark.parametrize("source", ["0", "/dev/video3"])
def test_a_camera_has_no_packets(source: str, decode: str, machine: Machine) -> None:
    with pytest.raises(ConfigError, match=rf"stream 'door': decode is '{decode}', but must be 'ffmpeg' for '.+', whi"):
        check_source(settings(source, decode=decode))


def test_an_ffmpeg_without_such_devices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["drm", "cuda"])
    with pytest.raises(BackendUnavailable, match="this FFmpeg was built without VA-API: it has cuda, drm"):
        check_hardware("vaapi", 0)


def test_ffmpeg_itself_refuses_a_gpu_that_is_not_there(make_clip: MakeClip, tmp_path: Path) -> None:
    clip, sentence = make_clip(tmp_path / "clip.mp4", frames=2), r"cannot be decoded: NVDEC finds no GPU 99 \(.+\)"
    for source in (clip, "rtsp://127.0.0.1:1/nothing"):
        with pytest.raises(SourceError, match=sentence):
            check_source(settings(source, decode_gpu=99))
    [(state, cause)] = captured(clip, decode_gpu=99)[1]
    assert state == "ended"
    assert re.match(sentence, cause)
