import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, cast

import av
import numpy as np
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from engines.errors import ConfigError
from pipeline.config import StreamSettings, ZoneSettings
from pipeline.record import NICE, ROOM, Recorder, Recording
from pipeline.types import Result
from pipeline.zones import Counts
from tests.pipeline.made_results import OBJECTS, SCENES, make_result
from tests.pipeline.made_runs import PATIENCE_S


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as lines:
        yield lines


def result_of(stream: str = "door", seq: int = 0, time_s: float = 0.0, size: tuple[int, int] = (64, 48)):
    width, height = size
    pixels = np.full((height, width, 3), 90, dtype=np.uint8)
    return make_result(pixels, [(8, 16, 40, 40)], stream=stream, seq=seq, time_s=time_s)


def read(path: Path) -> tuple[tuple[int, int], list[float]]:
    """Size and the times, in seconds, of the frames of a video."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return (frames[0].width, frames[0].height), [frame.time for frame in frames]


def test_each_stream_gets_its_own_video(tmp_path: Path) -> None:
    with Recorder(tmp_path / "new", OBJECTS, SCENES) as recorder:
        for seq in range(3):
            recorder.write(result_of("door", seq, seq / 25))
            recorder.write(result_of("yard", seq, seq / 10, (32, 32)))
    assert read(tmp_path / "new" / "door.mp4") == ((64, 48), pytest.approx([0, 0.04, 0.08], abs=1e-3))
    assert read(tmp_path / "new" / "yard.mp4") == ((32, 32), pytest.approx([0, 0.1, 0.2], abs=1e-3))


def test_zones_are_drawn_into_the_videos_of_their_stream(tmp_path: Path) -> None:
    zone = ZoneSettings(name="all", points=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)))
    door = StreamSettings(name="door", source="0", zones=(zone,))
    with Recorder(tmp_path, OBJECTS, SCENES, [door]) as recorder:
        recorder.write(result_of("door"), {"all": {"present": {"person": 1}}})
        recorder.write(result_of("yard"))
    assert (tmp_path / "door.mp4").read_bytes() != (tmp_path / "yard.mp4").read_bytes()


def test_gaps_in_time_stay_gaps_in_the_video(tmp_path: Path) -> None:
    times = [100.0, 100.04, 103.5, 103.54]  # a live source that was lost for three seconds
    with Recorder(tmp_path, OBJECTS, SCENES) as recorder:
        for seq, time_s in enumerate(times):
            recorder.write(result_of(seq=seq, time_s=time_s))
    assert read(tmp_path / "door.mp4")[1] == pytest.approx([time - 100 for time in times], abs=1e-3)


@pytest.mark.parametrize("times", [(1.0, 1.0, 1.0), (2.0, 1.9, 2.1)], ids=["standing still", "stepping back"])
def test_no_frame_is_lost_to_a_clock(tmp_path: Path, times: tuple[float, ...]) -> None:
    with Recorder(tmp_path, OBJECTS, SCENES) as recorder:
        for seq, time_s in enumerate(times):
            recorder.write(result_of(seq=seq, time_s=time_s))
    assert len(read(tmp_path / "door.mp4")[1]) == 3


def test_a_new_picture_size_starts_a_new_file(tmp_path: Path) -> None:
    with Recorder(tmp_path, OBJECTS, SCENES) as recorder:
        recorder.write(result_of(seq=0, time_s=5.0))
        recorder.write(result_of(seq=1, time_s=5.1, size=(96, 64)))
    assert read(tmp_path / "door.mp4") == ((64, 48), [0.0])
    assert read(tmp_path / "door-2.mp4") == ((96, 64), [0.0])


def test_a_video_that_is_already_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "door.mp4").write_bytes(b"of yesterday")
    with Recorder(tmp_path, OBJECTS, SCENES) as recorder:
        recorder.write(result_of())
    assert (tmp_path / "door.mp4").read_bytes() == b"of yesterday"
    assert len(read(tmp_path / "door-2.mp4")[1]) == 1


def test_odd_sides_are_padded_by_one_pixel(tmp_path: Path) -> None:
    with Recorder(tmp_path, OBJECTS, SCENES) as recorder:
        recorder.write(result_of(size=(65, 49)))
    assert read(tmp_path / "door.mp4")[0] == (66, 50)


# What waits for the recorder.


class HeldRecorder:
    """A recorder that writes a frame only when it is let, and remembers which."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.written: list[tuple[str, int]] = []
        self.closed = False
        self._lets, self._fails_at = threading.Semaphore(0), fails_at

    def let(self, frames: int) -> None:
        self._lets.release(frames)

    def write(self, result: Result, counts: Mapping[str, Counts]) -> None:
        self._lets.acquire()
        if len(self.written) == self._fails_at:
            raise OSError(28, "No space left on device")
        self.written.append((result.frame.stream, result.frame.seq))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True


def recording_of(
    recorder: HeldRecorder, streams: tuple[str, ...], live: tuple[str, ...], done: list[Result]
) -> tuple[Recording, threading.Thread]:
    recording = Recording(cast(Recorder, recorder), streams, live, done.append)
    thread = threading.Thread(target=recording.run, daemon=True)
    thread.start()
    return recording, thread


def ended(recording: Recording, thread: threading.Thread) -> None:
    recording.finish()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_slow_recorder_leaves_live_frames_out_and_counts_them(logs: list[EventDict]) -> None:
    recorder, done = HeldRecorder(), []
    recording, thread = recording_of(recorder, ("door",), ("door",), done)
    for seq in range(30):
        recording.take(result_of(seq=seq), {})  # would wait for ever if it waited
    assert len(done) == recording.left_out["door"]
    recorder.let(30)
    ended(recording, thread)
    assert len(recorder.written) in (ROOM, ROOM + 1)  # one more if the recorder had begun before the room was full
    assert recording.left_out == {"door": 30 - len(recorder.written)}
    assert len(done) == 30, "a result was not given back"
    assert [line["event"] for line in logs] == ["recording leaves frames out"]


def test_a_recorder_that_keeps_up_leaves_nothing_out() -> None:
    recorder, done = HeldRecorder(), []
    recording, thread = recording_of(recorder, ("door",), ("door",), done)
    recorder.let(100)
    for seq in range(100):
        recording.take(result_of(seq=seq), {})
        while len(done) <= seq:
            time.sleep(0.0005)
    ended(recording, thread)
    assert recording.left_out == {}
    assert recorder.written == [("door", seq) for seq in range(100)]


def test_a_live_stream_does_not_take_the_room_of_another() -> None:
    recorder, done = HeldRecorder(), []
    recording, thread = recording_of(recorder, ("door", "yard"), ("door", "yard"), done)
    for seq in range(30):
        recording.take(result_of("door", seq), {})
    for seq in range(3):
        recording.take(result_of("yard", seq), {})
    recorder.let(33)
    ended(recording, thread)
    assert recording.left_out.keys() == {"door"}
    assert [seq for stream, seq in recorder.written if stream == "yard"] == [0, 1, 2]


def test_a_file_is_recorded_completely_and_its_source_waits() -> None:
    recorder, done = HeldRecorder(), []
    recording, thread = recording_of(recorder, ("door",), (), done)
    admitted = []

    def source() -> None:
        for seq in range(40):
            recording.await_room("door")
            admitted.append(seq)
            recording.take(result_of(seq=seq), {})

    reading = threading.Thread(target=source, daemon=True)
    reading.start()
    reading.join(0.2)
    assert ROOM <= len(admitted) <= ROOM + 1
    recorder.let(40)
    reading.join(PATIENCE_S)
    ended(recording, thread)
    assert recorder.written == [("door", seq) for seq in range(40)]
    assert recording.left_out == {}


def test_a_file_never_holds_a_live_stream_up() -> None:
    recorder, done = HeldRecorder(), []
    recording, thread = recording_of(recorder, ("file", "door"), ("door",), done)
    for seq in range(20):  # under way already when the recorder fell behind
        recording.take(result_of("file", seq), {})
    recording.await_room("door")
    recording.take(result_of("door", 0), {})
    recorder.let(21)
    ended(recording, thread)
    assert ("door", 0) in recorder.written
    assert recording.left_out == {}


def test_a_recording_that_fails_gives_everything_back_and_lets_the_source_go(logs: list[EventDict]) -> None:
    recorder, done = HeldRecorder(fails_at=2), []
    recording, thread = recording_of(recorder, ("door",), (), done)
    for seq in range(ROOM + 4):
        recording.take(result_of(seq=seq), {})
    recorder.let(100)
    thread.join(PATIENCE_S)
    recording.await_room("door")
    recording.take(result_of(seq=99), {})
    assert len(done) == ROOM + 5
    assert recorder.closed
    assert recording.left_out == {}, "nothing was left out for want of time"
    assert [line["event"] for line in logs] == ["recording failed"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
@pytest.mark.parametrize(("live", "nice"), [(("door",), NICE), ((), 0)], ids=["beside a live stream", "of files"])
def test_a_recorder_gives_way_to_the_messages_of_live_streams(live: tuple[str, ...], nice: int) -> None:
    seen = []

    def note(result: Result) -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    recorder, before = HeldRecorder(), os.getpriority(os.PRIO_PROCESS, 0)
    recording = Recording(cast(Recorder, recorder), ("door",), live, note)
    thread = threading.Thread(target=recording.run, daemon=True)
    thread.start()
    recording.take(result_of(), {})
    recorder.let(1)
    ended(recording, thread)
    assert seen == [min(19, before + nice)]


def test_what_is_left_out_is_a_gap_in_time(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, OBJECTS, SCENES)
    done: list[Result] = []
    recording = Recording(recorder, ("door",), ("door",), done.append)
    for seq in range(30):  # nobody records yet: all but the first find no room
        recording.take(result_of(seq=seq, time_s=seq / 25), {})
    thread = threading.Thread(target=recording.run, daemon=True)
    thread.start()
    while len(done) < 30:
        time.sleep(0.001)
    recording.take(result_of(seq=30, time_s=30 / 25), {})
    ended(recording, thread)
    expected = [seq / 25 for seq in (*range(ROOM), 30)]
    assert read(tmp_path / "door.mp4")[1] == pytest.approx(expected, abs=1e-3)


def test_an_interrupted_recording_finishes_the_videos(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, OBJECTS, SCENES)
    recording = Recording(recorder, ("door",), ("door",), done=interrupt)
    recording.take(result_of(), {})
    with pytest.raises(KeyboardInterrupt):
        recording.run()
    assert len(read(tmp_path / "door.mp4")[1]) == 1


def interrupt(result: Result) -> None:
    raise KeyboardInterrupt


def test_a_killed_run_leaves_a_video_that_plays(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, OBJECTS, SCENES)
    for seq in range(600):  # two key frame intervals: what is after the last of them is lost
        recorder.write(result_of(seq=seq, time_s=seq / 25))
    half_written = tmp_path / "copy.mp4"
    half_written.write_bytes((tmp_path / "door.mp4").read_bytes())
    recorder.close()
    assert len(read(half_written)[1]) >= 250


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"record\.directory: cannot make .*file/videos"):
        Recorder(tmp_path / "file" / "videos", OBJECTS, SCENES)
