from pathlib import Path

import av
import numpy as np
import pytest

from engines.errors import ConfigError
from pipeline.config import ZoneSettings
from pipeline.record import Recorder, record
from pipeline.zones import Places
from tests.pipeline.made_results import OBJECTS, SCENES, make_result


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
    places = {"door": Places([zone], [], OBJECTS)}
    with Recorder(tmp_path, OBJECTS, SCENES, places) as recorder:
        recorder.write(result_of("door", 0, 0.0))
        recorder.write(result_of("yard", 0, 0.0))
    assert places["door"].counts() == {"all": {"present": {"person": 1}}}
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


def test_the_stage_passes_on_every_result_and_finishes_the_videos(tmp_path: Path) -> None:
    results = [result_of(seq=seq, time_s=seq / 25) for seq in range(4)]
    assert list(record(iter(results), Recorder(tmp_path, OBJECTS, SCENES))) == results
    assert len(read(tmp_path / "door.mp4")[1]) == 4


def test_an_interrupted_stage_finishes_the_videos(tmp_path: Path) -> None:
    def interrupted():
        yield result_of()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(record(interrupted(), Recorder(tmp_path, OBJECTS, SCENES)))
    assert len(read(tmp_path / "door.mp4")[1]) == 1


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
