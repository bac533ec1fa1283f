import json
from pathlib import Path

import cv2
import pytest
from msgspec.structs import replace

from engines.study.comparison_page import write_pages
from engines.study.comparison_results import MultiTask, summarise
from engines.study.metrics import Figure
from tests.engines.study.made_outcomes import PACE, SPEED, outcomes
from tests.engines.training.made_data import tiny_settings


def found(seeds: int = 3) -> MultiTask:
    return summarise("trunkline report multi-task tiny.toml", tiny_settings(), 5.0, outcomes(seeds), SPEED, PACE)


def table(page: str, title: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    lines = page.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def test_the_summary_pairs_the_seeds() -> None:
    # Joint figures are 0.60, 0.61 and 0.62, single-task ones 0.5.
    summary = found()
    row = next(row for row in summary.rows if row.key == "scene.top1")
    assert row.joint is not None and row.single is not None and row.gain is not None
    assert (row.joint.mean, row.single.mean, row.single.std) == (pytest.approx(0.61), 0.5, 0.0)
    assert (row.gain.mean, row.gain.std) == (pytest.approx(0.22), pytest.approx(0.02))
    assert summary.delta_m is not None and summary.delta_m_landmarks is not None
    assert (summary.delta_m.mean, summary.delta_m.std) == (pytest.approx(0.22), pytest.approx(0.02))
    assert summary.delta_m_landmarks.mean == pytest.approx((4 * 0.22 - 0.22) / 5)  # a larger error is worse


def test_the_page_says_what_was_measured(tmp_path: Path) -> None:
    page = write_pages(found(), tmp_path).read_text()
    text = " ".join(page.split())
    assert "delta-m +22.0 % ± 2.0" in text
    assert "with 25% of their parameters, 32% of their multiply-accumulates and 100% of their training time" in text
    assert "10 steps a run (chosen by a trial so that all runs end in 5 h), 15 runs, seeds 0, 1, 2" in text
    assert "A processor, 2 usable cores, PyTorch 2.0, 2 threads" in text
    rows = {row[0]: row for row in table(page, "Every metric")}
    assert rows["scene top-1"][1:] == [
        "0.610 ± 0.010",
        "0.500 ± 0.000",
        "+22.0 % ± 2.0",
        "0.500 to 0.700",
        "0.400 to 0.600",
    ]
    assert rows["scene ECE (lower is better)"][3] == "-22.0 % ± 2.0"
    costs = {row[0]: row for row in table(page, "What it costs")}
    assert costs["joint"][1:] == ["1 M", "400 M", "800 (700 to 900)", "", "120"]
    assert costs["one for each, together"][1:] == ["4 M", "1.24 G", "333", "", "120"]
    assert "12 min of training in all" in text  # ten steps of three seeds
    assert "3 of each over all phases, on A processor" in text
    seen = {row[0]: row for row in table(page, "What each network saw")}
    assert seen["joint"][1:] == ["10", "10", "20", "960"]
    assert seen["identity"][1:] == ["10", "10", "", "640"]
    assert "The least is -0.250, of faces and identity." in text
    assert not [line for line in page.splitlines() if len(line) > 120 and not line.startswith("| ")]


def test_all_pictures_are_there_and_nothing_unfinished_stays(tmp_path: Path) -> None:
    page = write_pages(found(), tmp_path).read_text()
    names = ["multi-task-curves.png", "multi-task-gradients.png", "multi-task.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "multi-task.json", "multi-task.md"])
    for name in names:
        assert cv2.imread(str(tmp_path / name)) is not None
        assert f"]({name})" in page
    assert len(json.loads((tmp_path / "multi-task.json").read_text())["runs"]) == 15


def test_a_single_seed_of_two_tasks_has_no_deviation_and_says_so(tmp_path: Path) -> None:
    runs = [replace(each, cosines={}, curves={}) for each in outcomes(1, ("scene", "identity"))]
    page = write_pages(summarise("command", tiny_settings(), None, runs, SPEED, PACE), tmp_path).read_text()
    assert "**delta-m +20.0 %**" in page
    assert "With fewer than three seeds, the deviation says little." in page
    assert "10 steps a run (as asked for)" in page
    assert "-gradients.png" not in page  # no gradients were measured


def test_without_a_figure_to_compare_with_there_is_no_delta_m(tmp_path: Path) -> None:
    nothing = {"scene.top1": Figure(0.0, None)}
    runs = [replace(each, figures=each.figures | nothing) if each.name == "scene" else each for each in outcomes(2)]
    summary = summarise("command", tiny_settings(), None, runs, SPEED, PACE)
    page = write_pages(summary, tmp_path).read_text()
    assert summary.delta_m is None
    assert "no delta-m, since a figure is missing or 0" in " ".join(page.split())
    assert {row[0]: row[3] for row in table(page, "Every metric")}["scene top-1"] == "–"


def test_the_page_says_when_runs_are_short_or_figures_low(tmp_path: Path) -> None:
    low = {"objects.ap50": Figure(0.01, None)}
    runs = [replace(each, figures=each.figures | low) if each.name == "objects" else each for each in outcomes(1)]
    page = write_pages(summarise("command", tiny_settings(steps=40), None, runs, SPEED, PACE), tmp_path).read_text()
    assert "The runs are short: 10 of the 40 steps" in page
    assert "mostly chance, and delta-m with it. Here: objects AP50." in " ".join(page.split())
    usual = write_pages(found(), tmp_path).read_text()
    assert "The runs are short" not in usual and "mostly chance" not in usual
