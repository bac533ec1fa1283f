"""A disk that is full while a video begins must not end the program: FFmpeg crashed on it."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.sinks.output_file import OutputFile

ROOT = Path(__file__).parents[3]
FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from pipeline.sinks.video import _Video

picture = np.zeros((48, 64, 3), np.uint8)
for number, before in enumerate((0, 1, 3, 40)):
    path = Path(sys.argv[1]) / f"{number}.mp4"
    path.touch()
    video = _Video(path, 64, 48, 0.0)
    for frame in range(before):
        video.write(picture, frame / 10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    refused = []
    for act in [lambda at=at: video.write(picture, 10 + at / 10) for at in range(200)] + [video.close]:
        try:
            act()
        except OSError as error:
            refused.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert refused and all(f"{number}.mp4" in each for each in refused), refused
print("here")
"""


def test_a_video_that_cannot_be_written_is_an_error_and_no_crash(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr[-2000:]


def test_the_first_error_is_kept_and_nothing_is_written_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"what was there")
    file = OutputFile(path)
    assert file.write(b"head") == 4 and file.tell() == 4
    file.check()
    file.close()
    assert path.read_bytes() == b"head"
    with pytest.raises(OSError, match="/dev/full"):
        full = OutputFile(Path("/dev/full"))
        full.write(b"x")
        full.check()
