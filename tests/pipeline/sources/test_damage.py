"""Of all that a file has, nothing goes unsaid."""

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.sources.decode import is_hidden
from tests.pipeline.made_captures import Read
from tests.pipeline.made_clips import drawn, write_clip

# B-frames, and the last packets among the broken ones: what is held back in the end has to come out as well.
REORDERED = {"bf": "2", "g": "25", "sc_threshold": "0"}
HEVC = {"x265-params": "log-level=none:keyint=25:bframes=3:pools=1"}
BROKEN = (3, 8, 13, 18, 23, 28, 33, 38, 43, 48, 53, 57, 58, 59)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("damage") / "clip.mkv", 60, codec="libx265", options=HEVC, broken=BROKEN)


class TestDamagedPackets:
    """Every fifth packet is noise."""

    def test_all_packets_are_accounted_for(self, damaged: Path) -> None:
        read = Read(damaged)
        assert read.captured == 60
        assert read.missed["undecodable"] >= len(BROKEN)
        assert read.frames[-1].seq < 60
        assert [frame.seq for frame in read.frames] == sorted({frame.seq for frame in read.frames})
        cause, outcome = read.end
        assert outcome == "part"
        assert cause.startswith(f"end of the file after {len(read.frames)} frames; ")
        assert f"{read.missed['undecodable']} undecodable" in cause

    def test_frame_threads_lose_none(self, damaged: Path) -> None:
        threads, alone = Read(damaged), Read(damaged, pace="camera")  # a camera's pictures are not held back
        assert threads.times_s == alone.times_s
        assert threads.missed == alone.missed
        shown = Read(damaged, damaged="show"), Read(damaged, damaged="show", pace="camera")
        assert shown[0].times_s == shown[1].times_s

    def test_damaged_pictures_are_shown_if_that_is_wanted(self, damaged: Path) -> None:
        left_out, shown = Read(damaged), Read(damaged, damaged="show")
        assert left_out.missed["damaged"] == len(shown.frames) - len(left_out.frames) > 0
        assert not shown.missed["damaged"]
        assert shown.captured == 60
        assert "damaged pictures are shown" in shown.up
        assert f"{left_out.missed['damaged']} damaged ones shown" in shown.end[0]
        assert shown.end[1] == "part"

    @pytest.mark.parametrize("before", [1, 20, 40])
    def test_a_capture_that_goes_on_counts_on(self, damaged: Path, before: int) -> None:
        first = Read(damaged)
        later = Read(damaged, first_seq=before)
        assert later.captured == 60 - before
        told = {frame.seq: frame.time_s for frame in first.frames}
        assert later.frames
        for frame in later.frames:
            assert told[frame.seq] == frame.time_s


@pytest.mark.parametrize(("codec", "kept"), [("libx264", 5), ("mpeg4", 5), ("mpeg4", 0)])
def test_packets_of_other_codecs_are_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, kept: int
) -> None:
    monkeypatch.setattr("tests.pipeline.made_clips.KEPT", kept)
    clip = write_clip(tmp_path / "clip.mkv", 60, codec=codec, options=REORDERED, broken=BROKEN)
    threads, alone = Read(clip), Read(clip, pace="camera")
    assert threads.captured == alone.captured == 60
    assert threads.missed == alone.missed
    assert threads.times_s == alone.times_s


@pytest.mark.parametrize(
    ("codec", "start", "hidden"), [("vp8", 0x01, True), ("vp8", 0x11, False), ("h264", 0x01, False)]
)
def test_a_packet_that_is_only_referred_to_is_not_missed(codec: str, start: int, hidden: bool) -> None:
    assert is_hidden(codec, av.Packet(bytes([start, 2, 3]))) is hidden


def test_an_encrypted_file_is_read_to_nothing(tmp_path: Path) -> None:
    scheme = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    read = Read(write_clip(tmp_path / "clip.mp4", 6, container_options=scheme))
    assert (read.frames, read.missed) == ([], {"encrypted": 6})
    assert read.end == ("nothing could be decoded: it is encrypted; 6 encrypted", "nothing")
    assert Read(tmp_path / "clip.mp4", loop=True).end[1] == "nothing"  # and not for ever


def test_a_list_of_files_that_goes_on_with_sound_is_read_and_told(tmp_path: Path) -> None:
    write_clip(tmp_path / "first.mp4", 10)
    with av.open(str(tmp_path / "second.mp4"), "w") as container:
        video, sound = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=8000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(drawn(index, (64, 48)), "rgb24")))
        for index in range(8):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 8000, 1024 * index
            container.mux(sound.encode(silence))
        container.mux(video.encode())
        container.mux(sound.encode())
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile first.mp4\nfile second.mp4\n")
    read = Read(tmp_path / "list.ffconcat")
    assert len(read.frames) >= 10
    assert read.end[1] == "part"
    assert "is not whole: it goes on with streams that were not there before" in read.end[0]


def test_an_animated_webp_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "clip.webp"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libwebp_anim", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(drawn(index, (64, 48)), "rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert Read(path).end[0].startswith("is an animated WebP, which this FFmpeg cannot decode: convert it to ")
