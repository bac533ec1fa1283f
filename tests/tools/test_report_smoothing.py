import json
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.errors import SourceError
from tests.pipeline.made_runs import dark_then_bright, write_model
from tools.report import app
from tools.smoothing import comparison
from tools.smoothing.comparison import SmoothingStudy, one_hot
from tools.smoothing.filters import OURS, PLAIN, MajorityVote, Unsmoothed, WindowMean, shown
from tools.smoothing.page import missed_floors, page_of
from tools.smoothing.recording import clips, recorded
from tools.smoothing.scoring import Figures, agreement, count_changes, score
from tools.smoothing.simulated import NOISES, Noise, Simulated, probabilities, simulate

CLEAN = Noise(name="clean", errors=0.0)
BAD = Noise(name="bad", errors=0.2, bursts_per_min=20.0, rates=(25.0, 5.0), dropped=0.2)
SIZE = (64, 48)


def made(truth: list[int], changes: list[tuple[float, int]]) -> Simulated:
    """One thing at 10 frames/s."""
    labels = np.array(truth)[:, None]
    since, to = np.array([at for at, _ in changes]), np.array([label for _, label in changes])
    return Simulated(
        CLEAN, np.arange(len(truth)) / 10, labels, labels, np.ones(labels.shape, np.float32), ((since, to),)
    )


def test_what_is_right_from_the_first_frame_on_has_no_faults() -> None:
    truth = made([0] * 10 + [1] * 10, [(1.0, 1)])
    assert score(truth, truth.truth) == Figures(wrong=0.0, unnamed=0.0, flicker=0.0, delay_s=0.0, delay_p95_s=0.0)


def test_a_change_shown_late_is_wrong_for_so_long_and_no_flicker() -> None:
    truth = made([0] * 10 + [1] * 11, [(1.0, 1)])
    found = score(truth, np.array([0] * 14 + [1] * 7)[:, None])
    assert (found.wrong, found.flicker, found.delay_s) == pytest.approx((0.2, 0.0, 0.4))


def test_a_change_that_is_never_shown_is_late_until_the_end() -> None:
    truth = made([0] * 10 + [1] * 11, [(1.0, 1)])
    assert score(truth, np.zeros((21, 1), np.int64)).delay_p95_s == pytest.approx(1.0)


def test_a_wrong_frame_is_two_changes() -> None:
    truth = made([0] * 31, [])
    shown_labels = np.zeros((31, 1), np.int64)
    shown_labels[10] = 2
    assert score(truth, shown_labels).flicker == pytest.approx(2 / 0.05)


def test_a_first_label_is_no_change_and_one_that_is_taken_back_is() -> None:
    assert count_changes(np.array([-1, -1, 3, 3, -1, 3])[:, None]) == 2


def test_frames_without_a_label_agree_with_nothing_and_disagree_with_nothing() -> None:
    assert agreement(np.array([-1, 2, 2, 1]), 2) == pytest.approx(2 / 3)
    assert agreement(np.array([-1, -1]), 2) == 1.0


def test_a_simulation_follows_from_its_seed() -> None:
    first, again, other = (simulate(BAD, seed, 3, 20.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(probabilities(first, 1), probabilities(again, 1))
    assert first.labels.shape != other.labels.shape or (first.labels != other.labels).any()


def test_without_errors_every_label_is_the_true_one() -> None:
    truth = simulate(CLEAN, 1, 4, 60.0)
    np.testing.assert_array_equal(truth.labels, truth.truth)
    changes = sum(int((column[1:] != column[:-1]).sum()) for column in truth.truth.T)
    assert changes == sum(len(since) for since, _ in truth.changes) > 0


@pytest.mark.parametrize("noise", [noise for noise in NOISES if not noise.bursts_per_min], ids=lambda it: it.name)
def test_as_many_frames_are_wrong_as_are_asked_for(noise: Noise) -> None:
    truth = simulate(noise, 3, 20, 60.0)
    assert np.mean(truth.labels != truth.truth) == pytest.approx(noise.errors, rel=0.2)


def test_paired_errors_are_always_the_same_other_label() -> None:
    truth = simulate(Noise(name="pairs", errors=0.3, paired=True), 1, 3, 20.0)
    assert set(np.unique((truth.labels - truth.truth) % CLEAN.classes)) == {0, 1}


def test_probabilities_add_up_to_1_and_mostly_favour_what_is_seen() -> None:
    truth = simulate(BAD, 1, 3, 20.0)
    found = probabilities(truth, 1)
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-5)
    assert np.mean(found.argmax(axis=-1) == truth.labels) > 0.9


def frames(*labels: int, score: float = 0.5) -> np.ndarray:
    return one_hot(np.array(labels)[:, None], np.full((len(labels), 1), score), 3)


def test_a_vote_and_an_average_see_their_window_and_no_more() -> None:
    times = np.arange(6) / 10
    for filtering in (MajorityVote(0.25), WindowMean(0.25)):
        labels = shown(filtering, times, frames(0, 0, 0, 1, 1, 1))[:, 0].tolist()
        assert labels == [0, 0, 0, 0, 1, 1]


def test_an_average_heeds_scores_and_a_vote_does_not() -> None:
    scores = np.concatenate([frames(0, 0, score=0.2), frames(1, score=0.9)])
    assert shown(WindowMean(1.0), np.arange(3) / 10, scores)[-1, 0] == 1
    assert shown(MajorityVote(1.0), np.arange(3) / 10, scores)[-1, 0] == 0


def test_no_smoothing_shows_every_frame() -> None:
    assert shown(Unsmoothed(), np.arange(3) / 10, frames(0, 2, 1))[:, 0].tolist() == [0, 2, 1]


def test_floors_that_are_missed_are_named() -> None:
    calm = Figures(wrong=0.01, unnamed=0.0, flicker=0.0, delay_s=0.2, delay_p95_s=0.4)
    wild = Figures(wrong=0.2, unnamed=0.0, flicker=50.0, delay_s=0.0, delay_p95_s=0.1)
    plain = dict.fromkeys(PLAIN, wild)
    assert missed_floors({**plain, OURS: calm}) == []
    late = Figures(wrong=0.3, unnamed=0.0, flicker=5.1, delay_s=0.2, delay_p95_s=0.6)
    assert missed_floors({**plain, OURS: late}) == [
        "flicker",
        "wrong time (none, majority vote, plain average)",
        "delay (95th percentile, its median holds)",
    ]
    silent = Figures(wrong=0.3, unnamed=0.2, flicker=0.0, delay_s=0.2, delay_p95_s=0.4)
    assert missed_floors({**plain, OURS: silent}) == [
        "wrong time (none, majority vote, plain average; not by wrong names)"
    ]


def write_clip(path: Path) -> None:
    draw = dark_then_bright(12, SIZE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(24):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(number), format="rgb24")))
        container.mux(stream.encode(None))


def test_what_a_model_saw_is_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "video" / "one.mp4")
    model = write_model(tmp_path / "model")
    (clip,) = clips(tmp_path)
    first = recorded(clip, model, tmp_path / "kept")
    assert (len(first.times_s), first.scenes.shape) == (24, (24, 2))
    assert set(first.labels.tolist()) == {0}
    assert len(first.ids) == len(first.frames) == len(first.scores) > 20
    monkeypatch.setattr("tools.smoothing.recording.open_engine", None)  # nothing is run again
    np.testing.assert_array_equal(recorded(clip, model, tmp_path / "kept").scenes, first.scenes)


def test_data_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="its folder video has no"):
        clips(tmp_path)


def test_the_pages_hold_every_filter_noise_and_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "video" / "one.mp4")
    write_model(tmp_path / "model")
    monkeypatch.setattr(comparison, "NOISES", (BAD,))
    monkeypatch.setattr(comparison, "HARD", (CLEAN,))
    monkeypatch.setattr(comparison, "THINGS", 2)
    monkeypatch.setattr(comparison, "SECONDS", 8.0)
    options = {"data": tmp_path, "model": tmp_path / "model", "out": tmp_path / "out", "work": tmp_path / "work"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    result = CliRunner().invoke(app, ["smoothing", *arguments])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "smoothing.json").read_text())
    filters = {*PLAIN, OURS}
    assert {row["filter"] for row in found["measured"]} == {row["filter"] for row in found["clips"]} == filters
    assert {(row["noise"], row["hard"]) for row in found["measured"]} == {("bad", False), ("clean", True)}
    assert (tmp_path / "out" / "smoothing.png").stat().st_size > 1000
    page = (tmp_path / "out" / "smoothing.md").read_text()
    assert all(f"| {name} | " in page for name in ("bad", "clean"))
    assert all(f"| {name} |" in page for name in (*filters, "one"))


def test_the_tables_of_the_committed_page_are_what_its_results_give() -> None:
    results = Path(__file__).parents[2] / "docs/results"
    found = msgspec.json.decode((results / "smoothing.json").read_bytes(), type=SmoothingStudy)
    page = page_of(found, "trunkline report smoothing --data DATA --model engines/zoo/n --out docs/results")
    committed = (results / "smoothing.md").read_text()
    tables, clips = committed[committed.index("* Floors") : committed.index("## Which")], committed.index("## Clips")
    assert page.endswith(f"{tables}{committed[clips:]}")
