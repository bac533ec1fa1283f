"""Whole runs that are recorded, and people who are named."""

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import av
import pytest
from structlog.typing import EventDict

from engines.spec import Model
from pipeline.frames.types import Counts, Result
from pipeline.gallery.gallery import Gallery
from pipeline.sinks.video import Recorder
from tests.pipeline.made_cuts import cut_clip, known, nothing_survives
from tests.pipeline.made_runs import (
    EMBEDDING,
    Run,
    check_books,
    frames_in,
    make_config,
    video_of,
)
from tests.pipeline.service.made_faults import FRAMES

pytestmark = pytest.mark.usefixtures("logs", "no_thread_is_left")


def test_annotated_videos_hold_every_published_frame(
    model: Model, clip: Path, other_clip: Path, tmp_path: Path
) -> None:
    run = Run(make_config(model, {"door": clip, "yard": other_clip}, record={"directory": str(tmp_path / "videos")}))
    run.end()
    for name, count in (("door", FRAMES), ("yard", 23)):
        with av.open(str(video_of(tmp_path / "videos", name))) as container:
            assert sum(1 for _ in container.decode(video=0)) == count


def slow_down_recording(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    real = Recorder.write

    def write(recorder: Recorder, result: Result, counts: Mapping[str, Counts]) -> bool:
        time.sleep(seconds)
        return real(recorder, result, counts)

    monkeypatch.setattr(Recorder, "write", write)


def test_a_slow_recorder_costs_a_live_stream_frames_of_the_recording_alone(
    model: Model, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down_recording(monkeypatch, 0.2)
    run = Run(make_config(model, {"door": {"source": clip, "pace": "camera"}}, record={"directory": str(tmp_path)}))
    summary = run.end()
    check_books(run, summary)
    published, left_out = summary.streams["door"].published, (summary.left_out or {})["door"]
    assert left_out > published / 4
    assert frames_in(video_of(tmp_path, "door")) == published - left_out
    assert summary.to_json()["recording"] == {"left_out": {"door": left_out}}
    assert summary.to_json()["sinks"]["record"] == {"sent": published - left_out, "lost": {"full": left_out}}
    assert run.health("door")[-1].sinks["record"]["full"] > 0


def test_a_slow_recorder_still_has_all_of_a_file_and_a_camera_beside_it_goes_on(
    model: Model, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_down_recording(monkeypatch, 0.06)
    streams: dict[str, Any] = {"tape": clip, "door": {"source": clip, "pace": "camera"}}
    run = Run(make_config(model, streams, record={"directory": str(tmp_path)}))
    summary = run.end()
    check_books(run, summary)
    assert frames_in(video_of(tmp_path, "tape")) == FRAMES
    published, left_out = summary.streams["door"].published, (summary.left_out or {})["door"]
    assert published > FRAMES / 2, "at the pace of the recorder a quarter of them would have come"
    assert frames_in(video_of(tmp_path, "door")) == published - left_out


@pytest.mark.parametrize("closing_fails_too", [False, True])
def test_a_recorder_that_fails_does_not_stop_the_messages(
    model: Model,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logs: list[EventDict],
    closing_fails_too: bool,
) -> None:
    real, numbers = Recorder.write, itertools.count()

    def write(recorder: Recorder, result: Result, counts: Mapping[str, Counts]) -> bool:
        if next(numbers) == 3:
            raise OSError(28, "No space left on device")
        real(recorder, result, counts)

    def close(recorder: Recorder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Recorder, "write", write)
    if closing_fails_too:
        monkeypatch.setattr(Recorder, "close", close)
    run = Run(make_config(model, {"door": clip}, record={"directory": str(tmp_path / "videos")}))
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].published == FRAMES
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["recording failed"]


def test_people_in_the_gallery_are_named(model: Model, clip: Path, tmp_path: Path) -> None:
    file = tmp_path / "people.sqlite"
    with Gallery(file, model.fingerprint) as gallery:
        gallery.enroll("Ada", EMBEDDING, ["ada.jpg"])
    run = Run(make_config(model, {"door": clip}, identity={"gallery": str(file), "min_face_px": 10}))
    summary = run.end()
    check_books(run, summary)
    names = [[face.identity and face.identity.name for face in frame.faces] for frame in run.frames("door")]
    assert names[-1] == ["Ada"]
    assert 3 <= summary.face_crops < FRAMES
    assert 3 <= summary.face_runs <= summary.face_crops


def test_no_name_and_no_track_survives_a_hard_cut(model: Model, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = cut_clip(make_clip, tmp_path / "cuts.mp4")
    run = Run(make_config(model, {"door": clip}, identity=known(tmp_path / "people.sqlite", model)))
    check_books(run, run.end())
    nothing_survives(run, "door")
