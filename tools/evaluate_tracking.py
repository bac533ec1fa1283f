"""``trunkline evaluate --task tracking``: score the tracker on sequences of detections."""

import statistics
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from engines.errors import ConfigError
from engines.study.writing import write_text
from tools.output import make_folder, print_json

if TYPE_CHECKING:
    from tools.tracking.evaluation import ClassScores
    from tools.tracking.sequences import Sequence

MISSING = (
    "{verb} needs the package {package}, which is not installed; install it with: pip install 'trunkline[tracking]'"
)
COLUMNS = ("hota", "det_a", "ass_a", "idf1", "mota", "switches", "true_boxes")


def require(verb: str, *packages: str) -> None:
    """Refuse to go on without packages of the extra ``tracking``.

    Raises:
        ConfigError: one is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise ConfigError(MISSING.format(verb=verb, package=package))


def evaluate_tracking(data: Path | None, *, simulated: bool, as_json: bool, out: Path | None) -> None:
    """Track every sequence, class by class, and show how good that was.

    Args:
        data: folder that has the sequences in ``tracking``; they are looked for nowhere else.
        simulated: take the simulated sequences, too.
        as_json: print all figures as JSON rather than a table.
        out: folder for the tracks, ``SEQUENCE.txt`` in MOTChallenge's text.
    """
    require("evaluate --task tracking", "trackeval")
    from tools.tracking.evaluation import TrackingReport, evaluate_sequence
    from tools.tracking.sequences import text_of

    sequences = gather(data, simulated=simulated)
    if out is not None:
        make_folder(out, "--out")
    console = Console(stderr=True)
    outcomes: list[ClassScores] = []
    for sequence in progress(sequences, "tracking, sequences", console=console, transient=True):
        found, rows = evaluate_sequence(sequence)
        outcomes.extend(found)
        if out is not None:
            write_text(out / f"{sequence.name}.txt", text_of(rows))
    if as_json:
        report = TrackingReport(
            sequences=tuple(outcomes), mean_hota=statistics.fmean(each.scores.hota for each in outcomes)
        )
        print_json(report)
    else:
        _show(outcomes)


def gather(data: Path | None, *, simulated: bool) -> list["Sequence"]:
    """The sequences under ``data``/tracking, and the simulated ones.

    Raises:
        ConfigError: neither was asked for.
        DataError: a sequence cannot be read, or there is none.
    """
    from tools.tracking.sequences import read_sequences
    from tools.tracking.simulated import SCENES, simulate

    if data is None and not simulated:
        raise ConfigError("evaluate --task tracking needs --data DIR, --simulated, or both")
    found = [] if data is None else read_sequences(data / "tracking")
    return found + ([simulate(scene) for scene in SCENES] if simulated else [])


def _show(outcomes: list["ClassScores"]) -> None:
    table = Table("sequence", "class", *COLUMNS, "CPU ms/frame")
    for row in _rows(outcomes):
        table.add_row(*row)
    Console().print(table)


def _rows(outcomes: list["ClassScores"]) -> Iterator[tuple[str, ...]]:
    for each in outcomes:
        values = (getattr(each.scores, name) for name in COLUMNS)
        figures = (str(value) if isinstance(value, int) else f"{value:.1f}" for value in values)
        yield each.sequence, each.label, *figures, f"{each.cpu_ms_per_frame:.3f}"
    yield "mean", "", f"{statistics.fmean(each.scores.hota for each in outcomes):.1f}", *[""] * (len(COLUMNS) - 1), ""
