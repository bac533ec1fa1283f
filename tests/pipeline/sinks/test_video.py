import os
import subprocess
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
from engines.priority import NICE
from pipeline.frames.types import Counts, Result
from pipeline.settings.schema import RecordSettings, StreamSettings, ZoneSettings
from pipeline.sinks import video as record
from pipeline.sinks.recording import ROOM, Recording
from pipeline.sinks.segments import GB, RESERVE, SegmentFolder
from pipeline.sinks.video import RETRY_S, Recorder
from tests.pipeline.made_results import OBJECTS, SCENES, make_result
from tests.pipeline.made_runs import PATIENCE_S, video_of, videos_of


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as lines:
        yield lines


def result_of(stream: str = "door", seq: int = 0, time_s: float = 0.0, size: tuple[int, int] = (64, 48)):
    width, height = size
    pixels = np.full((height, width, 3), 90, dtype=np.uint8)
    return make_result(pixels, [(8, 16, 40, 40)], stream=stream, seq=seq, time_s=time_s)


def recorder_in(directory: Path, streams: tuple[StreamSettings, ...] = (), **more: object) -> Recorder:
    settings = {name: more.pop(name) for name in ("segment_s", "keep_days", "keep_gb", "min_free_gb") if name in more}
    return Recorder(RecordSettings(directory=str(directory), **settings), OBJECTS, SCENES, streams, **more)


class Disk:
    """What is free, and what time it is, as a test says."""

    def __init__(self, free_gb: float = 100.0) -> None:
        self.free_gb, self.now_s = free_gb, 1_795_425_247.12

    def clock(self) -> float:
        return self.now_s

    def free(self, folder: Path) -> int:
        return round(self.free_gb * GB)


def read(path: Path) -> tuple[tuple[int, int], list[float]]:
    """Size and the times, in seconds, of the frames of a video."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return (frames[0].width, frames[0].height), [frame.time for frame in frames]


def test_each_stream_gets_its_own_video(tmp_path: Path) -> None:
    with recorder_in(tmp_path / "new") as recorder:
        for seq in range(3):
            recorder.write(result_of("door", seq, seq / 25))
            recorder.write(result_of("yard", seq, seq / 10, (32, 32)))
    assert read(video_of(tmp_path / "new", "door")) == ((64, 48), pytest.approx([0, 0.04, 0.08], abs=1e-3))
    assert read(video_of(tmp_path / "new", "yard")) == ((32, 32), pytest.approx([0, 0.1, 0.2], abs=1e-3))


def test_zones_are_drawn_into_the_videos_of_their_stream(tmp_path: Path) -> None:
    zone = ZoneSettings(name="all", points=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)))
    door = StreamSettings(name="door", source="0", zones=(zone,))
    with recorder_in(tmp_path, (door,)) as recorder:
        recorder.write(result_of("door"), {"all": {"present": {"person": 1}}})
        recorder.write(result_of("yard"))
    assert video_of(tmp_path, "door").read_bytes() != video_of(tmp_path, "yard").read_bytes()


def test_gaps_in_time_stay_gaps_in_the_video(tmp_path: Path) -> None:
    times = [100.0, 100.04, 103.5, 103.54]  # a live source that was lost for three seconds
    with recorder_in(tmp_path) as recorder:
        for seq, time_s in enumerate(times):
            recorder.write(result_of(seq=seq, time_s=time_s))
    assert read(video_of(tmp_path, "door"))[1] == pytest.approx([time - 100 for time in times], abs=1e-3)


@pytest.mark.parametrize("rate", [10, 60])
def test_a_video_lasts_as_long_as_what_it_shows(tmp_path: Path, rate: int) -> None:
    with recorder_in(tmp_path) as recorder:
        for seq in range(30):
            recorder.write(result_of(seq=seq, time_s=seq / rate))
    with av.open(str(video_of(tmp_path, "door"))) as container:
        assert container.duration is not None
        assert container.duration / av.time_base == pytest.approx(30 / rate, abs=1e-3)


@pytest.mark.parametrize("times", [(1.0, 1.0, 1.0), (2.0, 1.9, 2.1)], ids=["standing still", "stepping back"])
def test_no_frame_is_lost_to_a_clock(tmp_path: Path, times: tuple[float, ...]) -> None:
    with recorder_in(tmp_path) as recorder:
        for seq, time_s in enumerate(times):
            recorder.write(result_of(seq=seq, time_s=time_s))
    assert len(read(video_of(tmp_path, "door"))[1]) == 3


def test_a_new_picture_size_starts_a_new_file(tmp_path: Path) -> None:
    with recorder_in(tmp_path) as recorder:
        recorder.write(result_of(seq=0, time_s=5.0))
        recorder.write(result_of(seq=1, time_s=5.1, size=(96, 64)))
    small, large = videos_of(tmp_path, "door")
    assert read(small) == ((64, 48), [0.0])
    assert read(large) == ((96, 64), [0.0])


def test_a_video_that_is_already_there_is_kept(tmp_path: Path) -> None:
    disk = Disk()
    for _ in range(3):  # begun in the same millisecond
        with recorder_in(tmp_path, clock=disk.clock) as recorder:
            recorder.write(result_of())
    assert [len(read(path)[1]) for path in videos_of(tmp_path, "door")] == [1, 1, 1]


def test_a_new_file_is_begun_after_the_stated_time_and_plays_alone(tmp_path: Path) -> None:
    with recorder_in(tmp_path, segment_s=2.0) as recorder:
        for seq in range(45):
            recorder.write(result_of(seq=seq, time_s=100 + seq / 10))
    found = [read(path)[1] for path in videos_of(tmp_path, "door")]
    assert [len(times) for times in found] == [20, 20, 5]
    assert all(times == pytest.approx([seq / 10 for seq in range(len(times))], abs=1e-3) for times in found)


def test_a_stream_whose_time_begins_again_gets_a_new_file(tmp_path: Path) -> None:
    with recorder_in(tmp_path) as recorder:
        for seq, time_s in enumerate((3600.0, 3600.1, 0.0, 0.1)):
            recorder.write(result_of(seq=seq, time_s=time_s))
    assert [len(read(path)[1]) for path in videos_of(tmp_path, "door")] == [2, 2]


def test_odd_sides_are_padded_by_one_pixel(tmp_path: Path) -> None:
    with recorder_in(tmp_path) as recorder:
        recorder.write(result_of(size=(65, 49)))
    assert read(video_of(tmp_path, "door"))[0] == (66, 50)


# What waits for the recorder.


class HeldRecorder:
    """A recorder that writes a frame only when it is let, and remembers which."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.written: list[tuple[str, int]] = []
        self.closed = False
        self._lets, self._fails_at = threading.Semaphore(0), fails_at
        self.let = self._lets.release

    def write(self, result: Result, counts: Mapping[str, Counts]) -> bool:
        self._lets.acquire()
        if len(self.written) == self._fails_at:
            raise ValueError("a picture that cannot be encoded")
        self.written.append((result.frame.stream, result.frame.seq))
        return True

    def missing(self, stream: str) -> int:
        return 0

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
    assert recording.left_out == {"door": ROOM + 5 - 2}
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
    recorder = recorder_in(tmp_path)
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
    assert read(video_of(tmp_path, "door"))[1] == pytest.approx(expected, abs=1e-3)


def test_an_interrupted_recording_finishes_the_videos(tmp_path: Path) -> None:
    recorder = recorder_in(tmp_path)
    recording = Recording(recorder, ("door",), ("door",), done=interrupt)
    recording.take(result_of(), {})
    with pytest.raises(KeyboardInterrupt):
        recording.run()
    assert len(read(video_of(tmp_path, "door"))[1]) == 1


def interrupt(result: Result) -> None:
    raise KeyboardInterrupt


KILLED = """
import sys
from pathlib import Path
from tests.pipeline.sinks.test_video import recorder_in, result_of
recorder = recorder_in(Path(sys.argv[1]), segment_s=4.0)
for seq in range(150):
    recorder.write(result_of(seq=seq, time_s=seq / 25))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.integration
def test_a_killed_run_leaves_files_that_play(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()
    done, written = videos_of(tmp_path, "door")
    assert len(read(done)[1]) == 100
    assert len(read(written)[1]) >= 20, "of two seconds, more than the last one is lost"


# What is kept.


def test_old_files_are_deleted_and_those_of_others_are_not(tmp_path: Path) -> None:
    disk = Disk()
    (tmp_path / "holiday.mp4").write_bytes(b"mine")
    (tmp_path / "99999999T999999.999Z_door.mp4").write_bytes(b"no date")
    with recorder_in(tmp_path, clock=disk.clock, keep_days=1.0) as recorder:
        recorder.write(result_of("door", 0))
        recorder.write(result_of("door", 1, size=(96, 64)))  # a new file
        kept = len(list(tmp_path.iterdir()))
        disk.now_s += 86_400 + 20
        recorder.write(result_of("yard", 0))
        assert kept == 4
        assert len(videos_of(tmp_path, "door")) == 2, "with the one that is being written, and the one of no date"
    assert (tmp_path / "holiday.mp4").read_bytes() == b"mine"


def test_the_oldest_are_deleted_beyond_the_size_that_is_kept(tmp_path: Path) -> None:
    disk = Disk()
    oldest, newer = "20261101T000000.000Z_gone.mp4", "20261102T000000.000Z_gone.mp4"
    for name in (oldest, newer):
        (tmp_path / name).write_bytes(bytes(60_000))
    with recorder_in(tmp_path, clock=disk.clock, keep_gb=0.0001) as recorder:
        recorder.write(result_of())
        assert not (tmp_path / oldest).exists()
        assert (tmp_path / newer).exists()
    assert len(read(video_of(tmp_path, "door"))[1]) == 1


def test_nothing_is_written_below_the_floor_and_it_is_told_once(tmp_path: Path, logs: list[EventDict]) -> None:
    disk = Disk()
    recorder = recorder_in(tmp_path, clock=disk.clock, free=disk.free, min_free_gb=5.0)
    assert recorder.write(result_of(seq=0, time_s=0.0))
    disk.free_gb = 5.0 + 0.9 * RESERVE / GB
    assert not any(recorder.write(result_of(seq=seq, time_s=seq / 25)) for seq in range(1, 10))
    assert len(read(video_of(tmp_path, "door"))[1]) == 1, "the file was finished"
    disk.free_gb = 5.0 + 1.5 * RESERVE / GB
    assert not recorder.write(result_of(seq=10, time_s=0.4)), "so little more is no reason to begin again"
    disk.free_gb = 6.0
    assert recorder.write(result_of(seq=11, time_s=0.44))
    recorder.close()
    assert [len(read(path)[1]) for path in videos_of(tmp_path, "door")] == [1, 1]
    assert [line["event"] for line in logs] == ["recording leaves frames out", "recording goes on"]
    assert logs[0]["cause"] == "less than 5 GB (record.min_free_gb) and 16 MB for each video would be free"


def test_many_videos_do_not_begin_and_end_by_turns_near_the_floor(tmp_path: Path, logs: list[EventDict]) -> None:
    disk = Disk()
    names = [f"s{index}" for index in range(6)]
    with recorder_in(tmp_path, clock=disk.clock, free=disk.free, min_free_gb=5.0) as recorder:
        for seq in range(10):
            for name in names:
                recorder.write(result_of(name, seq, seq / 25))
            disk.free_gb = 5.0 + 5 * RESERVE / GB  # for five of the six
    assert [line["event"] for line in logs] == ["recording leaves frames out"]
    assert len(list(tmp_path.iterdir())) == 6


def test_where_a_run_may_begin_it_records_all_its_streams(tmp_path: Path) -> None:
    disk = Disk(free_gb=5.0 + 3 * RESERVE / GB)
    settings = RecordSettings(directory=str(tmp_path), min_free_gb=5.0)
    SegmentFolder(settings, disk.clock, disk.free).check(3)
    with recorder_in(tmp_path, clock=disk.clock, free=disk.free, min_free_gb=5.0) as recorder:
        assert all(recorder.write(result_of(name, seq, seq / 25)) for seq in range(3) for name in ("a", "b", "c"))


def test_frames_that_find_no_room_on_the_disk_are_counted_and_given_back(tmp_path: Path) -> None:
    disk, done = Disk(free_gb=0.0), []
    recording = Recording(recorder_in(tmp_path, free=disk.free), ("door",), (), done.append)
    for seq in range(5):
        recording.take(result_of(seq=seq), {})
    recording.finish()
    recording.run()
    assert recording.left_out == {"door": 5}
    assert len(done) == 5
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_tried_again_later(
    tmp_path: Path, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    disk = Disk()
    recorder = recorder_in(tmp_path, clock=disk.clock)
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.sinks.video._Video", broken)
        assert not recorder.write(result_of(seq=0))
    assert not recorder.write(result_of(seq=1)), "not at each frame"
    assert not list(tmp_path.iterdir())
    disk.now_s += RETRY_S
    assert recorder.write(result_of(seq=2))
    recorder.close()
    assert len(read(video_of(tmp_path, "door"))[1]) == 1
    assert [line["event"] for line in logs] == ["recording leaves frames out", "recording goes on"]
    assert "Input/output error" in logs[0]["cause"]


def test_a_stream_that_cannot_be_encoded_costs_no_other_its_recording(
    tmp_path: Path, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = record._Video

    def picky(path: Path, width: int, height: int, start_s: float) -> object:
        if width > 64:
            raise av.FFmpegError(22, "Invalid argument")
        return real(path, width, height, start_s)

    monkeypatch.setattr(record, "_Video", picky)
    with recorder_in(tmp_path) as recorder:
        for seq in range(5):
            assert recorder.write(result_of("door", seq, seq / 25))
            assert not recorder.write(result_of("yard", seq, seq / 25, (96, 64)))
    assert len(read(video_of(tmp_path, "door"))[1]) == 5
    assert not videos_of(tmp_path, "yard")
    assert [(line["event"], line["stream"]) for line in logs] == [("recording leaves frames out", "yard")]


def test_old_files_that_cannot_be_deleted_are_told_once_and_stop_nothing(tmp_path: Path, logs: list[EventDict]) -> None:
    (tmp_path / "20261101T000000.000Z_gone.mp4").mkdir()  # which no file's deletion deletes
    disk = Disk()
    with recorder_in(tmp_path, clock=disk.clock, keep_days=1.0) as recorder:
        for seq in range(3):
            assert recorder.write(result_of(seq=seq, time_s=seq / 25))
            disk.now_s += 30
    assert [line["event"] for line in logs] == ["old recordings cannot be deleted"]


def test_a_folder_that_is_gone_and_comes_back_costs_the_frames_between(tmp_path: Path, logs: list[EventDict]) -> None:
    folder = tmp_path / "videos"
    recorder = recorder_in(folder)
    folder.rmdir()
    assert not recorder.write(result_of(seq=0))
    folder.mkdir()
    assert recorder.write(result_of(seq=1))
    recorder.close()
    assert len(read(video_of(folder, "door"))[1]) == 1
    assert "No such file or directory" in logs[0]["cause"]


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"record\.directory: cannot make .*file/videos"):
        recorder_in(tmp_path / "file" / "videos")
