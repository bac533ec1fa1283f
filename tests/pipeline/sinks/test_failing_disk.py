"""A recording whose disk fails while a file is written: in a process of its own, which must outlive it."""

import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pipeline.sinks import video
from tests.pipeline.made_runs import frames_in, video_of, videos_of
from tests.pipeline.sinks.test_video import read, recorder_in, result_of

RECORDS_ON_A_FAILING_DISK = """
import resource, sys, tempfile
from pathlib import Path
from pipeline.settings.schema import RecordSettings
from pipeline.sinks.video import Recorder
from tests.pipeline.made_results import OBJECTS, SCENES, make_result
from tests.pipeline.sinks.test_video import result_of
now = [1795425247.0]
folder = Path(sys.argv[1])
recorder = Recorder(RecordSettings(str(folder), min_free_gb=0.0), OBJECTS, SCENES, clock=lambda: now[0])
written = []
for seq in range(400):
    if seq % 40 in (10, 30):
        limit = 0 if seq % 40 == 10 else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    now[0] += 1.0
    written.append(recorder.write(result_of(seq=seq, time_s=seq / 4)))
recorder.close()
print(sum(written) - sum(recorder.unwritten.values()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the disk is made to fail by RLIMIT_FSIZE")
def test_a_disk_that_fails_in_the_middle_of_a_file_costs_frames_and_not_the_process(tmp_path: Path) -> None:
    """FFmpeg's MP4 muxer crashes when it is closed after a write that failed."""
    command = [sys.executable, "-c", RECORDS_ON_A_FAILING_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, (done.returncode, done.stderr)
    recorded = int(done.stdout.splitlines()[-1])
    assert 100 < recorded < 400
    videos = videos_of(tmp_path, "door")
    assert len(videos) > 3
    in_files = [frames_in(video) for video in videos]
    assert in_files[0] > 0, "what was written before plays"
    assert sum(in_files) == recorded


def test_a_video_whose_end_cannot_be_written_is_told_and_costs_no_other_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = recorder_in(tmp_path)
    for stream in ("door", "yard"):
        recorder.write(result_of(stream))
    real = video._Video.close

    def close(one: video._Video) -> None:
        real(one)
        if "door" in one.path.name:
            raise OSError("No space left on device")

    monkeypatch.setattr(video._Video, "close", close)
    with capture_logs() as logs:
        recorder.close()
    assert [entry["stream"] for entry in logs if "No space left" in entry.get("cause", "")] == ["door"]
    assert read(video_of(tmp_path, "yard"))[1] == [0.0]
