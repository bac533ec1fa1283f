"""``trunkline evaluate tracking``: score the tracker on sequences of detections."""

import statistics
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table

from engines.errors import ConfigError
from engines.files import write_whole
from tools.output import make_folder, print_json

if TYPE_CHECKING:
    from tools.tracking.evaluation import ClassScores

COLUMNS = ("hota", "det_a", "ass_a", "idf1", "mota", "switches", "true_boxes")


def tracking(
    data: Annotated[Path, typer.Option(help="Folder with the data; the sequences are in its folder tracking.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the tracks into this folder, SEQUENCE.txt in MOTChallenge's text.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Look at so many frames a second, and predict tracks between.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Score the tracker, class by class, on the detections of each sequence under DATA/tracking (docs/tracking.md).

    Example: trunkline evaluate tracking --data DIR --out tracks
    """
    if find_spec("trackeval") is None:
        raise ConfigError(
            "evaluate tracking needs the package trackeval, which is not installed; install it with: "
            "pip install 'trunkline[tracking]'"
        )
    from tools.tracking.evaluation import TrackingReport, evaluate_sequence
    from tools.tracking.sequences import read_sequences, text_of

    sequences = read_sequences(data / "tracking")
    if out is not None:
        make_folder(out, "--out")
    outcomes: list[ClassScores] = []
    for sequence in progress(sequences, "tracking, sequences", console=Console(stderr=True), transient=True):
        found, rows = evaluate_sequence(sequence, fps)
        outcomes.extend(found)
        if out is not None:
            write_whole(out / f"{sequence.name}.txt", text_of(rows).encode())
    mean = statistics.fmean(each.scores.hota for each in outcomes)
    if as_json:
        print_json(TrackingReport(sequences=tuple(outcomes), mean_hota=mean))
    else:
        _show(outcomes, mean)


def _show(outcomes: Sequence["ClassScores"], mean: float) -> None:
    table = Table("sequence", "class", *COLUMNS, "CPU ms/frame")
    for each in outcomes:
        values = (getattr(each.scores, name) for name in COLUMNS)
        figures = (str(value) if isinstance(value, int) else f"{value:.1f}" for value in values)
        table.add_row(each.sequence, each.label, *figures, f"{each.cpu_ms_per_frame:.3f}")
    table.add_row("mean", "", f"{mean:.1f}", *[""] * len(COLUMNS))
    Console().print(table)
