import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from engines.errors import DataError, TrunklineError
from tools.evaluate import app
from tools.tracking.sequences import Rows, read_rows, read_sequence, text_of

pytest.importorskip("trackeval", reason="scores need the package trackeval")

INFO = "[Sequence]\nframeRate=10\nimWidth=640\nimHeight=360\n"


def write_sequence(folder: Path, detections: Rows, truth: Rows) -> None:
    for name, rows in (("det", detections), ("gt", truth)):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.txt").write_text(text_of(rows))
    (folder / "seqinfo.ini").write_text(INFO)


def walks(*classes: int, frames: int = 20, flags: float = 1.0) -> Rows:
    """One thing of each class, below each other, walking to the right."""
    times, kinds = np.repeat(np.arange(1, frames + 1), len(classes)), np.tile(classes, frames)
    left, top = 10.0 + 5 * times, 100.0 * np.tile(np.arange(len(classes)), frames)
    boxes = np.stack([left, top, left + 40, top + 80], axis=1).astype(np.float32)
    ids = np.tile(np.arange(1, len(classes) + 1), frames)
    return Rows(times, ids, boxes, np.full(len(times), flags, np.float32), kinds.astype(np.int32))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_sequence(tmp_path / "tracking" / "walks", walks(1, 3), walks(1, 3))
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["tracking", *arguments])
    if isinstance(result.exception, TrunklineError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_class_of_a_sequence_is_scored(data: Path) -> None:
    report = json.loads(run("--data", str(data), "--json"))
    assert [(row["sequence"], row["label"]) for row in report["sequences"]] == [
        ("walks", "pedestrian"),
        ("walks", "car"),
    ]
    assert all(row["scores"]["switches"] == 0 for row in report["sequences"])
    assert report["mean_hota"] > 90


def test_tracks_are_written_with_their_class_in_the_eighth_column(data: Path, tmp_path: Path) -> None:
    run("--data", str(data), "--out", str(tmp_path / "out"))
    rows = read_rows(tmp_path / "out" / "walks.txt")
    assert set(rows.classes.tolist()) == {1, 3}
    assert len({(frame, track) for frame, track in zip(rows.frames.tolist(), rows.ids.tolist(), strict=True)}) == len(
        rows
    )
    assert (np.diff(rows.frames) >= 0).all()
    first = rows.where(rows.classes == 1)
    true = walks(1)
    np.testing.assert_allclose(first.boxes, true.boxes[-len(first) :], atol=6)


def test_a_class_that_was_never_detected_scores_nothing(tmp_path: Path) -> None:
    write_sequence(tmp_path / "tracking" / "blind", walks(1), walks(1, 3))
    report = json.loads(run("--data", str(tmp_path), "--json"))
    assert [row["scores"]["hota"] > 0 for row in report["sequences"]] == [True, False]


def test_what_lies_on_a_box_that_does_not_count_is_not_wrong(tmp_path: Path) -> None:
    ignored = walks(1, 12)
    ignored.scores[ignored.classes == 12] = 0.0
    seen = walks(1, 1)
    write_sequence(tmp_path / "tracking" / "vans", seen, ignored)
    report = json.loads(run("--data", str(tmp_path), "--json"))
    assert report["sequences"][0]["scores"]["false_positives"] == 0


def test_a_folder_without_sequences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no sequence with detections"):
        run("--data", str(tmp_path))


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("seqinfo.ini", "[Sequence]\nframeRate=ten\n", "must have the numbers"),
        ("seqinfo.ini", INFO.replace("10", "0"), "frameRate is 0"),
        ("det/det.txt", "1,2,three\n", "eight numbers"),
    ],
)
def test_a_damaged_sequence_is_refused(data: Path, file: str, content: str, sentence: str) -> None:
    folder = data / "tracking" / "walks"
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=sentence):
        read_sequence(folder)
