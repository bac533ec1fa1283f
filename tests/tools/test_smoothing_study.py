import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from tools.main import app
from tools.smoothing import comparison
from tools.smoothing.comparison import NO_SMOOTHING, OURS, PLAIN, SmoothingStudy, shown_by_all
from tools.smoothing.page import missed_floors, page_of
from tools.smoothing.scoring import Figures, count_changes, score
from tools.smoothing.simulated import NOISES, Noise, Simulated, probabilities, simulate

CLEAN = Noise(name="clean", errors=0.0)
BAD = Noise(name="bad", errors=0.2, bursts_per_min=20.0, rates=(25.0, 5.0), dropped=0.2)


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


def scores(*labels: int, score: float = 0.5) -> np.ndarray:
    """Of one thing with three labels, of which each frame has one."""
    return (np.eye(3)[list(labels)] * score)[:, None]


def test_a_vote_and_an_average_see_their_window_and_no_more() -> None:
    # The window is 0.577 s: at 4 frames a second it has three of them.
    found = shown_by_all("labels", np.arange(8) / 4, scores(0, 0, 0, 0, 1, 1, 1, 1))
    for name in PLAIN[1:]:
        assert found[name][:, 0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_an_average_heeds_scores_and_a_vote_does_not() -> None:
    found = shown_by_all("labels", np.arange(3) / 10, np.concatenate([scores(0, 0, score=0.2), scores(1, score=0.9)]))
    assert (found["plain average"][-1, 0], found["majority vote"][-1, 0]) == (1, 0)


def test_no_smoothing_shows_every_frame() -> None:
    assert shown_by_all("labels", np.arange(3) / 10, scores(0, 2, 1))[NO_SMOOTHING][:, 0].tolist() == [0, 2, 1]


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


def test_the_page_holds_every_filter_and_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "NOISES", (BAD,))
    monkeypatch.setattr(comparison, "HARD", (CLEAN,))
    monkeypatch.setattr(comparison, "THINGS", 2)
    monkeypatch.setattr(comparison, "SECONDS", 8.0)
    result = CliRunner().invoke(app, ["evaluate", "smoothing", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "smoothing.json").read_text())
    assert {row["filter"] for row in found["measured"]} == {*PLAIN, OURS}
    assert {(row["noise"], row["hard"]) for row in found["measured"]} == {("bad", False), ("clean", True)}
    assert (tmp_path / "smoothing.png").stat().st_size > 1000
    page = (tmp_path / "smoothing.md").read_text()
    assert all(f"| {name} | " in page for name in ("bad", "clean"))
    assert all(f" {name} |" in page for name in PLAIN)


def test_the_committed_page_is_what_its_results_give() -> None:
    results = Path(__file__).parents[2] / "docs/results"
    found = msgspec.json.decode((results / "smoothing.json").read_bytes(), type=SmoothingStudy)
    page = page_of(found, "trunkline evaluate smoothing --out docs/results")
    assert page == (results / "smoothing.md").read_text()
