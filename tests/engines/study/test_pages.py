import csv
import json
from pathlib import Path

import cv2
import pytest

from engines.evaluation.bootstrap import Interval
from engines.study.improvement import Outcome, Step, declared_steps
from engines.study.joint import JointOutcome, SceneFigure
from engines.study.pages import Improvement, summarise, write_pages
from tests.engines.study.made_classes import colours

STEPS = declared_steps(colours())
JOINT = JointOutcome(
    model="made",
    fingerprint="0123456789abcdef",
    tasks=("objects", "scene"),
    size=(64, 32),
    as_it_is=SceneFigure(labels=3, top1=0.5, correct=10, pictures=20, interval=Interval(0.3, 0.7)),
    restricted=SceneFigure(labels=2, top1=0.75, correct=15, pictures=20, interval=None),
    parameters=1_000,
    macs=2_500_000,
    whole_parameters=1_500,
    whole_macs=3_000_000_000,
)


def outcome(step: Step, seed: int, correct: int) -> Outcome:
    return Outcome(
        key=f"{step.name} {seed}",
        step=step.name,
        seed=seed,
        top1=correct / 20,
        correct=correct,
        pictures=20,
        train_top1=1.0,
        size=8,
        epochs=2,
        parameters=999,
        macs=123_456,
        cpu_seconds=1.5,
    )


def improvement(seeds: int) -> Improvement:
    """The baseline has 10 right and one more for each further seed; each next step one more than that."""
    runs = tuple(outcome(step, seed, 10 + seed + place) for seed in range(seeds) for place, step in enumerate(STEPS))
    return Improvement(
        command="trunkline report improvement",
        train=("classes/train",),
        validation=("classes/val",),
        labels=("room", "street"),
        seeds=tuple(range(seeds)),
        summaries=summarise(STEPS, runs),
        joint=JOINT,
        runs=runs,
    )


def test_a_step_is_the_mean_and_the_deviation_over_its_seeds() -> None:
    baseline, first, *_ = improvement(3).summaries
    assert baseline.top1 == pytest.approx(11 / 20)
    assert baseline.top1_std == pytest.approx(1 / 20)  # of 10, 11 and 12 of 20
    assert baseline.gain == 0.0
    assert first.gain == pytest.approx(1 / 20)


def test_a_single_seed_has_no_deviation() -> None:
    assert {summary.top1_std for summary in improvement(1).summaries} == {None}


def test_the_page_has_a_line_for_every_step_and_two_for_the_model(tmp_path: Path) -> None:
    page = write_pages(improvement(3), tmp_path / "results").read_text()
    lines = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert [line[0].strip("| ") for line in lines[1:]] == [
        *(step.name for step in STEPS),
        "model made, all 3 scenes",
        "model made, these 2 scenes",
    ]
    assert lines[1][2:6] == ["0.550 ± 0.050", "+0.0", "1.000", "999"]
    assert lines[-2][2:4] == ["0.500 (0.300 to 0.700)", "-5.0"]
    assert lines[-1][2:4] == ["0.750", "+20.0"]
    assert "seeds 0, 1, 2" in page
    assert "standard error from having just 20 is 11.1 points" in " ".join(page.split())
    assert not [line for line in page.splitlines() if len(line) > 120 and not line.startswith("| ")]


def test_the_raw_results_are_all_there(tmp_path: Path) -> None:
    write_pages(improvement(2), tmp_path)
    with (tmp_path / "improvement.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["correct"]) for row in rows[:2]] == [("baseline", "10"), ("augmentation", "11")]
    assert len(rows) == 2 * len(STEPS) == len(json.loads((tmp_path / "improvement.json").read_text())["runs"])


def test_the_picture_is_one_and_nothing_unfinished_stays(tmp_path: Path) -> None:
    write_pages(improvement(2), tmp_path)
    assert cv2.imread(str(tmp_path / "improvement.png")) is not None
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".json", ".md", ".png"]
