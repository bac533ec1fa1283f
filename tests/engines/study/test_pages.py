"""Pages of studies: as they were committed, from the results beside them, and what small ones say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import pytest
from msgspec.structs import replace

from engines.study import comparison_page, crossval_page, improvement_page
from engines.study.comparison_page import MultiTask, summarise
from engines.study.crossval import FoldOutcome
from engines.study.crossval_page import CrossValidated
from engines.study.improvement import StepOutcome, declared_steps
from engines.study.improvement_page import Improvement
from engines.study.metrics import ScoredFigure
from tests.engines.study.made_classes import colours
from tests.engines.study.made_outcomes import outcomes
from tests.engines.training.made_data import tiny_settings

RESULTS = Path(__file__).parents[3] / "docs/results"
STEPS = declared_steps(colours())
CROSSVALIDATED = """\
# Cross-validation of tiny.toml

Written by the command below; a change by hand is lost with the next run of it.

```sh
trunkline crossval tiny.toml
```

![Mean and deviation of every figure](crossval.png)

| variant | figure | mean | deviation | fold 0 | fold 1 |
|---|---|---:|---:|---:|---:|
| a | scene.top1 | 0.5000 | 0.1414 | 0.4000 | 0.6000 |
| b | scene.top1 | 0.7000 | - | 0.7000 | - |

* The pictures are split with the seed 3 so that what shows the same thing is in one fold: a person, the frames that the
  configuration's `group` joins, and pictures that are nearly the same by their perceptual hashes. Held out in fold 0:
  scenes 4, people 2.
* Each fold's network was trained for 2 steps on the other folds, without validation and without an early end, and
  scored through its exported form on the held-out pictures, with their original labels; what a machine labelled is not
  scored. The thresholds are those that every model begins with.
* Identity: accuracy on pairs that are drawn among the held-out people, none of whom the network has seen.
* The deviation is the sample standard deviation over the folds: what other pictures do to a figure. The runs all have
  the configuration's seed, so what another seed does is not in it.

## Differences

Of each variant to `a`, paired by fold. A difference exceeds the spread where the 95% interval of its mean (Nadeau and
Bengio, 2003: the folds' training parts overlap) leaves 0 out. Nothing is corrected for how many are compared.

| variant | figure | mean difference | deviation | interval, ± | exceeds the spread |
|---|---|---:|---:|---:|---|
| b | scene.top1 | +0.3000 | - | - | no |

Everything: [crossval.json](crossval.json).
"""


@pytest.mark.parametrize(
    ("name", "kind", "page_of"),
    [
        ("multi-task", MultiTask, comparison_page.page_of),
        ("improvement", Improvement, improvement_page.page_of),
    ],
)
def test_a_committed_page_is_what_its_results_give(name: str, kind: Any, page_of: Callable[[Any], str]) -> None:
    found = msgspec.json.decode((RESULTS / f"{name}.json").read_bytes(), type=kind)
    assert page_of(found) == (RESULTS / f"{name}.md").read_text()


def test_a_cross_validation_is_a_page() -> None:
    runs = [
        FoldOutcome(
            name=variant,
            number=fold,
            steps=2,
            seconds=0.0,
            trained={},
            held_out={"scenes": 4, "people": 2},
            figures={"scene.top1": value} if value else {},
        )
        for variant, fold, value in (("a", 0, 0.4), ("a", 1, 0.6), ("b", 0, 0.7), ("b", 1, None))
    ]
    summaries = crossval_page.summarise(runs)
    found = CrossValidated(
        command="trunkline crossval tiny.toml",
        config="tiny.toml",
        folds=2,
        seed=3,
        stop_at=2,
        variants=("a", "b"),
        summaries=summaries,
        differences=crossval_page.differences(summaries, 2),
        outcomes=tuple(runs),
    )
    assert crossval_page.page_of(found) == CROSSVALIDATED
    alone = replace(found, differences=())
    assert "Differences" not in crossval_page.page_of(alone) and "\n\n\n" not in crossval_page.page_of(alone)


def compared(seeds: int = 3, steps: int = 10, **low: float) -> MultiTask:
    """A comparison; ``low`` are figures of the single-task networks that are other than the rest."""
    other = {key.replace("_", "."): ScoredFigure(value, None) for key, value in low.items()}
    runs = [
        replace(each, figures=each.figures | {key: it for key, it in other.items() if key.startswith(f"{each.name}.")})
        for each in outcomes(seeds)
    ]
    return summarise("trunkline evaluate multi-task tiny.toml", tiny_settings(steps=steps), runs)


def test_a_comparison_pairs_the_seeds() -> None:
    # Joint figures are 0.60, 0.61 and 0.62, single-task ones 0.5.
    summary = compared()
    row = next(row for row in summary.rows if row.figure == "scene.top1")
    assert row.joint is not None and row.single is not None and row.gain is not None
    assert (row.joint.mean, row.single.mean, row.single.std) == (pytest.approx(0.61), 0.5, 0.0)
    assert (row.gain.mean, row.gain.std) == (pytest.approx(0.22), pytest.approx(0.02))
    assert summary.delta_m is not None and summary.delta_m_landmarks is not None
    assert (summary.delta_m.mean, summary.delta_m.std) == (pytest.approx(0.22), pytest.approx(0.02))
    assert summary.delta_m_landmarks.mean == pytest.approx((4 * 0.22 - 0.22) / 5)  # a larger error is worse


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param(compared(), "15 runs of 10 steps, seeds 0, 1, 2.", id="runs"),
        pytest.param(compared(), "with 25% of their parameters and 32% of their multiply-accumulates", id="costs"),
        pytest.param(compared(1), "With fewer than three seeds, the deviation says little.", id="one seed"),
        pytest.param(compared(1), "**delta-m +20.0 %** (+12.0 %", id="no deviation"),
        pytest.param(compared(steps=40), "The runs are short: 10 of the 40 steps", id="short"),
        pytest.param(compared(objects_ap50=0.01), "delta-m with it. Here: objects.ap50.", id="low"),
        pytest.param(compared(scene_top1=0.0), "**no delta-m, since a figure is missing or 0**", id="nothing"),
        pytest.param(compared(scene_top1=0.0), "| scene.top1 | 0.610 ± 0.010 | 0.000 ± 0.000 | – |", id="no gain"),
    ],
)
def test_a_comparison_says_what_there_is_to_know(found: MultiTask, said: str) -> None:
    page = comparison_page.page_of(found)
    assert said in " ".join(page.split())
    assert not [line for line in page.splitlines() if len(line) > 120 and not line.startswith("| ")]


def test_all_of_a_comparison_is_there_and_nothing_unfinished_stays(tmp_path: Path) -> None:
    page = comparison_page.write_page(compared(), tmp_path).read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["multi-task.json", "multi-task.md", "multi-task.png"]
    assert cv2.imread(str(tmp_path / "multi-task.png")) is not None and "](multi-task.png)" in page
    assert len(json.loads((tmp_path / "multi-task.json").read_text())["runs"]) == 15


def improved(seeds: int) -> Improvement:
    """The baseline has 10 of 20 right and one more for each further seed; each next step one more than that."""
    runs = tuple(
        StepOutcome(
            name=step.name,
            number=seed,
            top1=(10 + seed + place) / 20,
            correct=10 + seed + place,
            pictures=20,
            train_top1=1.0,
            size=8,
            epochs=2,
            parameters=999,
            macs=123_456,
            cpu_seconds=1.5,
        )
        for seed in range(seeds)
        for place, step in enumerate(STEPS)
    )
    committed = msgspec.json.decode((RESULTS / "improvement.json").read_bytes(), type=Improvement)
    steps = {step.name: step.change for step in STEPS}
    return replace(committed, seeds=tuple(range(seeds)), steps=steps, runs=runs)


def test_a_step_is_the_mean_and_the_deviation_over_its_seeds() -> None:
    baseline, first = (improved(3).of(step.name, "top1") for step in STEPS[:2])
    assert (baseline.mean, baseline.std) == (pytest.approx(11 / 20), pytest.approx(1 / 20))  # 10, 11 and 12 of 20
    assert first.mean - baseline.mean == pytest.approx(1 / 20)
    assert {improved(1).of(step.name, "top1").std for step in STEPS} == {None}
    page = improvement_page.page_of(improved(1))
    assert "| 0.500 | +0.0 | 1.000 | 999 |" in page and "| 0.550 | +5.0 | 1.000 | 999 |" in page


def test_all_of_an_improvement_is_there_and_nothing_unfinished_stays(tmp_path: Path) -> None:
    improvement_page.write_page(improved(2), tmp_path)
    assert 2 * len(STEPS) == len(json.loads((tmp_path / "improvement.json").read_text())["runs"])
    assert cv2.imread(str(tmp_path / "improvement.png")) is not None
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".md", ".png"]
