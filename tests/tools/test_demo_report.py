from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import pytest

from pipeline.frames.clock import timestamp
from pipeline.wire.messages import (
    FaceMessage,
    FrameMessage,
    IdentityMessage,
    ObjectMessage,
    SceneMessage,
    TimingsMessage,
)
from tools.demo_report import (
    TILE_WIDTH,
    LiveEnrolment,
    Sightings,
    contact_sheet,
    sightings_table,
    summarise,
)

BEGAN = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
BOX = (0.0, 0.0, 10.0, 10.0)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def message(seconds: float, *, objects=(), names=(), scene=(), total: float = 10.0) -> FrameMessage:
    """A frame; ``names`` are (name or None, score) of its faces."""
    faces = [
        FaceMessage(1, None, 0.9, BOX, (), None if name is None else IdentityMessage(name, score))
        for name, score in names
    ]
    return FrameMessage(
        stream="demo",
        seq=round(seconds * 25),
        captured_at=timestamp(int(at(seconds).timestamp() * 1e9)),
        size=(64, 48),
        objects=tuple(ObjectMessage(1, label, score, BOX) for label, score in objects),
        faces=tuple(faces),
        scene=tuple(SceneMessage(label, score) for label, score in scene),
        timings_ms=TimingsMessage(1.0, 2.0, 3.0, total),
        dropped={},
    )


def seen(*messages: FrameMessage) -> Sightings:
    sightings = Sightings()
    for one in messages:
        sightings.see(one)
    return sightings


def write_run(path: Path, captured: int, published: int, dropped: dict[str, int]) -> Path:
    books = {"captured": captured, "published": published, "dropped": dropped}
    path.write_bytes(msgspec.json.encode({"streams": {"demo": books}, "stages_ms": {}}))
    return path


def test_a_label_has_its_first_and_last_time_its_frames_and_its_mean_score() -> None:
    sightings = seen(
        message(0.0), message(1.0, objects=[("cat", 0.5)]), message(2.0), message(3.0, objects=[("cat", 0.7)])
    )
    cat = sightings.named("object")["cat"]
    assert (cat.first_seen_s, cat.last_seen_s, cat.frames, cat.mean_score) == (1.0, 3.0, 2, 0.6)


def test_two_of_a_kind_in_one_frame_count_once_with_the_better_score() -> None:
    person = seen(message(0.0, objects=[("person", 0.4), ("person", 0.8)])).named("object")["person"]
    assert (person.frames, person.mean_score) == (1, 0.8)


def test_faces_without_a_name_are_kept_apart_from_names() -> None:
    sightings = seen(message(0.0, names=[(None, 0.0), ("Ada", 0.6)]))
    assert list(sightings.named("person")) == ["Ada"]
    assert sightings.unknown_faces.frames == 1


def test_only_the_leading_scene_counts() -> None:
    assert list(seen(message(0.0, scene=[("church", 0.8), ("cat", 0.1)])).named("scene")) == ["church"]


def test_nothing_seen_is_an_empty_report(tmp_path: Path) -> None:
    summary = summarise(write_run(tmp_path / "run.json", 0, 0, {}), "demo", "0", Sightings(), None)
    assert summary.balanced
    assert summary.identities == summary.objects == summary.scenes == summary.stages_ms == {}
    assert summary.unknown_faces is None
    assert sightings_table(summary).row_count == 0


@pytest.mark.parametrize(
    ("books", "balanced"),
    [
        pytest.param((10, 10, {}), True, id="all published"),
        pytest.param((10, 7, {"stale": 2, "shutdown": 1}), True, id="some dropped, each for a cause"),
        pytest.param((10, 9, {}), False, id="one lost"),
        pytest.param((10, 10, {"stale": 1}), False, id="one counted twice"),
    ],
)
def test_the_books_balance_when_every_frame_has_an_end(tmp_path: Path, books, balanced: bool) -> None:
    assert summarise(write_run(tmp_path / "run.json", *books), "demo", "0", Sightings(), None).balanced is balanced


@pytest.mark.parametrize(
    ("named_at", "after"),
    [
        pytest.param(18.5, 0.5, id="after the enrolment"),
        pytest.param(17.8, 0.0, id="in the moment before its command is over"),
        pytest.param(4.0, -14.0, id="before: a name that she could not have had"),
    ],
)
def test_how_long_a_person_enrolled_live_waits_for_the_name(tmp_path: Path, named_at: float, after: float) -> None:
    sightings = seen(message(0.0), message(named_at, names=[("Grace", 0.7)]))
    enrolment = LiveEnrolment("Grace", at(15.0), at(18.0))
    summary = summarise(write_run(tmp_path / "run.json", 2, 2, {}), "demo", "0", sightings, enrolment)
    assert summary.enrolled_live_at_s == 18.0
    assert summary.named_after_s == after


def test_a_person_enrolled_live_who_is_never_named(tmp_path: Path) -> None:
    enrolment = LiveEnrolment("Grace", at(15.0), at(18.0))
    summary = summarise(write_run(tmp_path / "run.json", 1, 1, {}), "demo", "0", seen(message(0.0)), enrolment)
    assert summary.named_after_s is None


def test_stage_times_are_percentiles_of_the_messages() -> None:
    stages = seen(*(message(number, total=float(number)) for number in range(101))).stages_ms()
    assert set(stages) == {"queue", "infer", "post", "total"}
    assert (stages["total"].p50, stages["total"].p90, stages["total"].p99) == (50.0, 90.0, 99.0)
    assert stages["infer"].p99 == 2.0


def write_video(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), number * 255 // frames, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def test_the_contact_sheet_spreads_over_the_whole_video(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", 64)
    contact_sheet(tmp_path / "video.mp4", tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (4 * 360, 4 * TILE_WIDTH, 3)
    middles = sheet[180::360, TILE_WIDTH // 2 :: TILE_WIDTH, 0].ravel().astype(int)
    assert (np.diff(middles) > 0).all()
    assert middles[0] < 20
    assert middles[-1] > 235


def test_a_video_shorter_than_the_sheet_leaves_tiles_empty(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", 5)
    contact_sheet(tmp_path / "video.mp4", tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (2 * 360, 4 * TILE_WIDTH, 3)


def test_a_video_of_one_frame_still_has_a_contact_sheet(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", 1)
    contact_sheet(tmp_path / "video.mp4", tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (360, 4 * TILE_WIDTH, 3)
