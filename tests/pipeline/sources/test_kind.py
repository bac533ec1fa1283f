"""What is a file and is read once, what is live, what can be read only once, and what is a row of pictures."""

import os
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler
from itertools import groupby, pairwise
from operator import add
from pathlib import Path

import av
import numpy as np
import pytest

from engines.arrays import Pixels
from engines.errors import ConfigError, SourceError
from pipeline.frames.types import Frame, Health
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture, check_source, mode, picture_bytes
from pipeline.sources.kind import is_live, settled
from tests.pipeline.made_captures import Read
from tests.pipeline.made_clips import drawn, write_clip
from tests.pipeline.made_http import Answer, Playlist, http_server

FRAMES = 20
SEGMENT_S = 1.0
CLOSES = {"Content-Length": "", "Connection": "close"}  # the length is not told


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(
        tmp_path_factory.mktemp("kinds") / "clip.mp4", FRAMES, container_options={"movflags": "faststart"}
    )


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("segments")
    options = {"bf": "0", "g": "25"}
    return [
        write_clip(folder / f"{n}.ts", 25, options=options, stamps=lambda index, n=n: 25 * n + index).read_bytes()
        for n in range(6)
    ]


def stream(source: str | Path, **settings: object) -> StreamSettings:
    return StreamSettings(name="door", source=str(source), **settings)  # type: ignore[arg-type]


class TestFiles:
    """Are read once, and then have ended."""

    def test_a_file_by_its_address(self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spaced = tmp_path / "front door.mp4"
        spaced.write_bytes(clip.read_bytes())
        monkeypatch.setenv("HOME", str(tmp_path))
        for source in (
            clip.as_uri(),
            clip.as_uri().replace("//", "", 1),
            spaced.as_uri(),
            f"file://{spaced}",
            "~/front door.mp4",
        ):
            check_source(stream(source))
            assert Read(source).end == (f"end of the file after {FRAMES} frames", "all")

    @pytest.mark.parametrize("ranges", [True, False])
    def test_a_file_of_a_web_server(self, clip: Path, ranges: bool) -> None:
        with http_server(lambda request: (200, clip.read_bytes(), {}), ranges) as address:
            source = f"{address}/watch?v=1"
            settings = settled(stream(source))
            assert (settings.live, mode(settings)) == (False, "bulk")
            check_source(settings)
            read = Read(source)
        assert [frame.seq for frame in read.frames] == list(range(FRAMES))
        assert read.end == (f"end of the file after {FRAMES} frames", "all")

    @pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
    def test_a_file_whose_index_stands_at_its_end(self, tmp_path: Path, version: str) -> None:
        """A server may close a connection without saying that it does."""
        content = write_clip(tmp_path / "clip.mp4", FRAMES).read_bytes()
        place = content.rindex(b"moov") - 4
        far = content[:place] + (2**18).to_bytes(4, "big") + b"free" + bytes(2**18 - 8) + content[place:]
        with http_server(lambda request: (200, far, {}), version=version) as address:
            read = Read(f"{address}/clip.mp4")
        assert read.end == (f"end of the file after {FRAMES} frames", "all")

    def test_a_playlist_with_an_end(self, segments: list[bytes]) -> None:
        with http_server(Playlist(segments, SEGMENT_S, ends=True)) as address:
            assert settled(stream(f"{address}/clip.m3u8")).live is False
            read = Read(f"{address}/clip.m3u8")
        assert len(read.frames) == 25 * len(segments)
        assert read.times_s == pytest.approx([index / 25 for index in range(len(read.frames))], abs=1e-3)
        assert read.end[1] == "all"

    @pytest.mark.parametrize("declared", [True, False])
    def test_a_web_server_that_breaks_off(self, tmp_path: Path, declared: bool) -> None:
        content = write_clip(tmp_path / "clip.mp4", 100, container_options={"movflags": "faststart"}).read_bytes()
        headers = {"Content-Length": str(len(content)) if declared else "", "Connection": "close"}
        with http_server(lambda request: (200, content[: len(content) // 2], headers), ranges=False) as address:
            read = Read(f"{address}/clip.mp4")
        assert 0 < len(read.frames) < 100
        assert read.end[1] == "part"
        assert "is not whole" in read.end[0]

    @pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
    def test_a_file_of_a_web_server_whose_sound_lasts_longer_is_whole(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            video, sound = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=8000)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for index in range(FRAMES):
                container.mux(video.encode(av.VideoFrame.from_ndarray(drawn(index, (64, 48)), "rgb24")))
            for index in range(30):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                silence.sample_rate, silence.pts = 8000, 1024 * index
                container.mux(sound.encode(silence))
            container.mux(video.encode())
            container.mux(sound.encode())
        with http_server(lambda request: (200, path.read_bytes(), {})) as address:
            assert Read(f"{address}/{name}").end == (f"end of the file after {FRAMES} frames", "all")

    def test_a_web_server_without_ranges_cannot_give_an_index_that_comes_last(self, tmp_path: Path) -> None:
        def noise(index: int, size: tuple[int, int]) -> Pixels:
            return np.random.default_rng(index).integers(0, 255, (size[1], size[0], 3), np.uint8)

        content = write_clip(tmp_path / "clip.mp4", 20, size=(160, 128), options={"qp": "10"}, draw=noise).read_bytes()
        assert len(content) > 100_000  # more than FFmpeg has in its buffer
        with http_server(lambda request: (200, content, {}), ranges=False, version="HTTP/1.1") as address:
            read = Read(f"{address}/clip.mp4", timeout_s=1.0)
        assert (read.frames, read.end[1]) == ([], "nothing")
        assert "a server without ranges gives an MP4 only if its index comes first: write it with fast" in read.end[0]

    def test_a_web_server_that_freezes(self, tmp_path: Path) -> None:
        content = write_clip(tmp_path / "clip.mp4", 100, container_options={"movflags": "faststart"}).read_bytes()

        def answer(request: BaseHTTPRequestHandler) -> tuple[int, bytes, dict[str, str]]:
            request.send_response(200)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content[: len(content) * 3 // 4])
            request.wfile.flush()
            time.sleep(3.0)
            raise ConnectionAbortedError

        with http_server(answer, ranges=False) as address:
            read = Read(f"{address}/clip.mp4", live=False, timeout_s=1.0)
        assert 0 < len(read.frames) < 100
        assert read.end[1] == "part"
        assert "is not whole: no data for 1 s" in read.end[0]

    @pytest.mark.parametrize("lacking", [{4, 5}, {0}, {2}], ids=["the last", "the first", "one in the middle"])
    def test_a_playlist_that_lacks_segments(self, segments: list[bytes], lacking: set[int]) -> None:
        whole = Playlist(segments, SEGMENT_S, ends=True)

        def answer(request: BaseHTTPRequestHandler) -> tuple[int, bytes, dict[str, str]]:
            return (404, b"", {}) if request.path in {f"/{number}.ts" for number in lacking} else whole(request)

        with http_server(answer) as address:
            read = Read(f"{address}/clip.m3u8")
        frames, seconds = 25 * (6 - len(lacking)), 6 - len(lacking)
        cause = f"end of the file after {frames} frames; is not whole: {seconds}.0 of 6.0 s came"
        assert (len(read.frames), read.end) == (frames, (cause, "part"))

    @pytest.mark.parametrize("live", [False, True])
    def test_of_a_playlist_of_several_the_best_is_read_and_no_other(self, tmp_path: Path, live: bool) -> None:
        lines, asked = ["#EXTM3U"], list[str]()
        for name, size in (("small", (64, 48)), ("large", (128, 96)), ("middle", (96, 64))):
            lines += [f"#EXT-X-STREAM-INF:BANDWIDTH={1000 * size[0]},RESOLUTION={size[0]}x{size[1]}", f"{name}.m3u8"]
            for number in range(8):
                stamps = partial(add, 25 * number)
                write_clip(tmp_path / f"{name}{number}.ts", 25, size, options={"bf": "0"}, stamps=stamps)
            parts = "".join(f"#EXTINF:1.0,\n{name}{number}.ts\n" for number in range(8))
            end = "" if live else "#EXT-X-ENDLIST\n"
            (tmp_path / f"{name}.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{parts}{end}")
        (tmp_path / "all.m3u8").write_text("\n".join(lines))

        def answer(request: BaseHTTPRequestHandler) -> tuple[int, bytes, dict[str, str]]:
            asked.append(request.path)
            return 200, (tmp_path / request.path[1:]).read_bytes(), {}

        stop = threading.Event()
        with http_server(answer) as address:
            settings = settled(stream(f"{address}/all.m3u8"))
            assert settings.live is live
            asked.clear()
            for count, frame in enumerate(capture(settings, stop=stop, health=lambda report: None), 1):
                assert (frame.picture.width, frame.picture.height) == (128, 96)
                if count == 60:
                    stop.set()
        assert sum(path.startswith("/small") for path in asked) < sum(path.startswith("/large") for path in asked)

    def test_a_file_that_a_web_server_does_not_have_is_refused_at_once(self) -> None:
        with (
            http_server(lambda request: (404, b"", {})) as address,
            pytest.raises(SourceError, match="there is no such file"),
        ):
            check_source(stream(f"{address}/clip.mp4"))


class TestLive:
    """Are opened again whenever they end."""

    def test_a_web_servers_stream_without_a_length(self, segments: list[bytes]) -> None:
        with http_server(lambda request: (200, segments[0], CLOSES), ranges=False) as address:
            assert is_live(stream(f"{address}/camera"))

    @pytest.mark.parametrize("kind", ["image/jpeg", "image/jpg", "image/jpeg; charset=binary"])
    def test_jpegs_whose_parts_are_named_oddly(self, tmp_path: Path, kind: str) -> None:
        path = write_clip(tmp_path / "clip.mjpeg", 5, codec="mjpeg", options={"strict": "unofficial"})
        with av.open(str(path)) as container:
            pictures = [bytes(packet) for packet in container.demux() if packet.size]
        parts = [f"--edge\r\nContent-Type: {kind}\r\n\r\n".encode() + each + b"\r\n" for each in pictures]
        headers = {
            "Content-Type": "multipart/x-mixed-replace; boundary=edge",
            "Content-Length": "",
            "Connection": "close",
        }
        stop, told = threading.Event(), list[Health]()
        with http_server(lambda request: (200, b"".join(4 * parts), headers | CLOSES), ranges=False) as address:
            settings = stream(f"{address}/camera", live=True)
            for count, _ in enumerate(capture(settings, stop=stop, health=told.append), 1):
                if count == 12:
                    stop.set()
        assert [report.state for report in told] == ["up"]

    def test_flv_without_sound_is_shown_at_once(self, tmp_path: Path) -> None:
        content = write_clip(tmp_path / "clip.flv", 100, options={"bf": "0"}).read_bytes()
        parts = [content[start : start + len(content) // 100] for start in range(0, len(content), len(content) // 100)]
        sent, stop = list[int](), threading.Event()

        def answer(request: BaseHTTPRequestHandler) -> tuple[int, bytes, dict[str, str]]:
            request.send_response(200)
            request.end_headers()
            for part in parts:
                request.wfile.write(part)
                sent.append(1)
                time.sleep(1 / 25)
            raise ConnectionAbortedError

        with http_server(answer, ranges=False) as address:
            settings = stream(f"{address}/camera.flv", live=True, timeout_s=2.0)
            for _ in capture(settings, stop=stop, health=lambda report: None):
                stop.set()
                assert len(sent) < 35, "FFmpeg waited until it was interrupted"

    def test_what_the_settings_say_is_true(self, clip: Path) -> None:
        assert is_live(stream(clip, live=True))
        assert not is_live(stream("rtsp://127.0.0.1:9/clip", live=False))

    def test_a_live_playlist_is_shown_by_its_own_times(self, segments: list[bytes]) -> None:
        stop, told, came = threading.Event(), list[Health](), list[tuple[float, float]]()
        with http_server(Playlist(segments, SEGMENT_S, ends=False)) as address:
            settings = stream(f"{address}/live.m3u8")
            assert is_live(settings)
            for frame in capture(settings, stop=stop, health=told.append):
                came.append((time.monotonic(), frame.time_s))
                if len(came) == 100:  # three segments were there at once, the fourth a second later
                    stop.set()
        steps_s = [later - earlier for (_, earlier), (_, later) in pairwise(came)]
        assert np.median(steps_s) == pytest.approx(1 / 25, abs=1e-3)
        assert came[-1][0] - came[0][0] > 3.0
        assert "buffered by " in told[0].cause

    def test_what_a_live_playlist_still_lists_when_it_is_opened_again_is_not_shown_again(
        self, segments: list[bytes]
    ) -> None:
        """It stopped growing, or has an end by now."""
        stop, told, frames, opened = threading.Event(), list[Health](), list[Frame](), 0
        listed = segments[:1]

        def answer(request: BaseHTTPRequestHandler) -> Answer:
            nonlocal opened, listed
            opened += request.path == "/live.m3u8"
            listed = segments[:2] if opened > 3 else listed
            if opened > 6:
                stop.set()
            return Playlist(listed, SEGMENT_S, ends=True)(request)

        with http_server(answer) as address:
            settings = stream(f"{address}/live.m3u8", live=True, reconnect_min_s=0.05, reconnect_max_s=0.05)
            frames.extend(capture(settings, stop=stop, health=told.append))
        assert len(frames) == 50
        assert [state for state, _ in groupby(report.state for report in told)] == ["up", "down", "up", "down"]


class TestPipe:
    """Can be read once."""

    def test_it_is_read_from_the_first_byte_to_the_last(self, tmp_path: Path) -> None:
        content = write_clip(tmp_path / "clip.mkv", FRAMES).read_bytes()
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        settings = stream(pipe)
        check_source(settings)  # nobody writes to it yet
        assert picture_bytes(settings, (64, 48)) == 64 * 48 * 3 // 2
        writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
        writer.start()
        assert Read(pipe).end == (f"end of the file after {FRAMES} frames", "all")
        writer.join()

    def test_the_standard_input(self, tmp_path: Path) -> None:
        content = write_clip(tmp_path / "clip.ts", FRAMES, options={"bf": "0"})
        before, file = os.dup(0), os.open(content, os.O_RDONLY)
        try:
            os.dup2(file, 0)
            assert Read("-").end == (f"end of the file after {FRAMES} frames", "all")
        finally:
            os.dup2(before, 0)
            os.close(before)
            os.close(file)

    def test_a_stop_ends_it_while_nobody_writes(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        stop = threading.Event()
        threading.Timer(0.2, stop.set).start()
        began_s = time.monotonic()
        assert list(capture(stream(tmp_path / "pipe"), stop=stop, health=lambda report: None)) == []
        assert time.monotonic() - began_s < 10

    def test_it_cannot_be_read_again(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError, match=r"loop is true, but must be false for '.*pipe', a pipe"):
            check_source(stream(tmp_path / "pipe", loop=True))
        read = Read(tmp_path / "pipe", first_seq=7)
        assert read.end == ("is a pipe, which cannot be read again after a crash", "part")


class TestPictures:
    """In a folder, or of a pattern of names."""

    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("pictures")
        for number in (9, 10, 100):
            write_picture(folder / f"shot-{number}.png", number)
        (folder / "shot-11.png").write_bytes(b"no picture")
        (folder / "notes.txt").write_text("of the holiday")
        return folder

    @pytest.mark.parametrize("pattern", ["", "shot-%d.png"])
    def test_they_are_shown_in_order_at_a_stated_rate(self, folder: Path, pattern: str) -> None:
        source = folder / pattern if pattern else folder
        check_source(stream(source))
        read = Read(source, rate_hz=2.0)
        greens = [int(frame.picture.rgb()[2, 2, 1]) for frame in read.frames]
        assert greens == pytest.approx([30 + 5 * number % 200 for number in (9, 10, 100)], abs=8)
        assert read.times_s == [0.0, 0.5, 1.5]
        assert (read.missed, read.end[1]) == ({"undecodable": 1}, "part")

    def test_digits_of_a_pattern_may_be_padded(self, folder: Path) -> None:
        assert len(Read(folder / "shot-%03d.png").frames) == 1

    def test_a_single_picture(self, folder: Path) -> None:
        read = Read(folder / "shot-9.png")
        assert (len(read.frames), read.end[1]) == (1, "all")
        assert picture_bytes(stream(folder), (1, 1)) == 64 * 48 * 3 // 2

    def test_a_pattern_of_nothing_is_refused(self, folder: Path) -> None:
        with pytest.raises(SourceError, match="is a pattern that no file has the name of"):
            check_source(stream(folder / "none-%04d.png"))


def write_picture(path: Path, number: int) -> None:
    with av.open(str(path), "w", format="image2") as container:
        encoded = container.add_stream("png", rate=1)
        encoded.width, encoded.height, encoded.pix_fmt = 64, 48, "rgb24"
        container.mux(encoded.encode(av.VideoFrame.from_ndarray(drawn(number, (64, 48)), "rgb24")))
        container.mux(encoded.encode())
