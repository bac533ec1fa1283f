"""``trunkline report smoothing``: our smoothing of labels and scenes, and plain ways, on identical noise."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import track as progress

from engines.errors import ConfigError
from engines.spec import load_model


def smoothing(
    data: Annotated[Path, typer.Option(help="Folder with the data; the clips are in its folder video.")],
    model: Annotated[Path, typer.Option(help="Model folder whose labels of the clips are smoothed.")],
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("docs/results"),
    work: Annotated[Path, typer.Option(help="Folder where what the model saw is kept.")] = Path("runs/smoothing"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare our smoothing with none, a majority vote and a plain average, on simulated noise and on clips.

    Example: trunkline report smoothing --data DIR --model n
    """
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "report smoothing needs the package matplotlib, which is not installed: pip install 'trunkline[train]'"
        )
    from tools.smoothing.comparison import compare, steps
    from tools.smoothing.page import write_pages
    from tools.smoothing.recording import clips

    released = load_model(model)
    released.spec.entry("frame")
    videos = clips(data)
    study = compare(videos, released, work)
    *_, done = progress(study, "smoothing", total=steps(videos), console=Console(stderr=True))
    assert done is not None  # the last of them is the study
    page = write_pages(done, f"trunkline report smoothing --data DATA --model {model} --out {out}", out)
    typer.echo(msgspec.json.encode(done) if as_json else page)
