from pathlib import Path

import cv2

from engines.training.curves import CurveLog, plot_log, read_log
from engines.training.loop import Progress


def progress(step: int) -> Progress:
    return Progress(step, 100, 2.0 * step, 0.5, 1e-3, {})


def test_a_log_is_read_back_and_what_was_written_twice_counts_once(tmp_path: Path) -> None:
    """A run that was killed repeats the steps after its last checkpoint."""
    log = tmp_path / "log.csv"
    for steps, value in (((10, 20, 30), 3.0), ((20, 30, 40), 1.0)):
        with log.open("a", newline="") as file:
            curves = CurveLog(file)
            for step in steps:
                curves.write(progress(step), {"scene.total": value, "score.mean": value / 10})
    found = read_log(log)
    assert found["scene.total"] == ([10, 20, 30, 40], [3.0, 1.0, 1.0, 1.0])
    assert found["learning rate"] == ([10, 20, 30, 40], [1e-3] * 4)
    assert log.read_text().count("step,seconds") == 1


def test_the_curves_are_a_picture(tmp_path: Path) -> None:
    log, picture = tmp_path / "log.csv", tmp_path / "curves.png"
    names = ("scene.total", "scene.top1", "faces.total", "score.mean", "gradient.faces", "gradient.faces.scene")
    with log.open("w", newline="") as file:
        curves = CurveLog(file)
        for step in (10, 20):
            curves.write(progress(step), {name: 1.0 / step for name in names})
    plot_log(log, picture)
    drawn = cv2.imread(str(picture))
    assert drawn is not None and drawn.std() > 5, "there is something on it"


def test_a_log_without_rows_gives_an_empty_picture_rather_than_an_error(tmp_path: Path) -> None:
    with (tmp_path / "log.csv").open("w", newline="") as file:
        CurveLog(file)
    plot_log(tmp_path / "log.csv", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()
