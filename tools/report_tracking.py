"""``trunkline report tracking``: our tracker and others on identical detections."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import track as progress

from tools.evaluate_tracking import gather, require


def tracking(
    data: Annotated[Path, typer.Option(help="Folder with the data; the sequences are in its folder tracking.")],
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("docs/results"),
    tune: Annotated[
        bool, typer.Option("--tune", help="Also try a grid of settings for each of the others, and show the best.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare our tracker with SORT, ByteTrack and OC-SORT of the package trackers, on real and simulated sequences.

    Example: trunkline report tracking --data DIR --tune
    """
    require("report tracking", "trackeval", "trackers", "matplotlib")
    from tools.tracking.comparison import TrackingStudy
    from tools.tracking.page import write_pages

    study = TrackingStudy(gather(data, simulated=True), tune=tune)
    steps = progress(study.run(), "comparing trackers", total=study.steps + 1, console=Console(stderr=True))
    *_, done = steps
    assert done is not None  # the last of them is the result
    command = f"trunkline report tracking --data DATA{' --tune' if tune else ''} --out {out}"
    page = write_pages(done, command, out)
    typer.echo(msgspec.json.encode(done) if as_json else page)
