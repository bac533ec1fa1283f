"""``trunkline report recognition``: names of tracks beside names of single frames."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import track as progress

from engines.errors import ConfigError
from engines.spec import load_model
from pipeline.settings.schema import ModelSettings


def recognition(
    data: Annotated[Path, typer.Option(help="Folder with the data; people are in its folder face_recognition.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path(ModelSettings().path),
    split: Annotated[str, typer.Option(help="People: val, or train, whom the network has learned from.")] = "val",
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("docs/results"),
    work: Annotated[
        Path, typer.Option(help="Folder where embeddings are kept for the next run; they tell of people: private.")
    ] = Path("runs/recognition"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare the pooled tracks of the pipeline with single frames and with a plain mean, on video frames.

    Example: trunkline report recognition --data DIR
    """
    if split not in ("train", "val"):
        raise ConfigError(f"--split is {split!r}, but must be train or val")
    opened = load_model(model)
    opened.require(["identity"], "report recognition")
    from tools.recognition.crops import read_crops
    from tools.recognition.page import write_pages
    from tools.recognition.study import STEPS, run

    crops = read_crops(opened, data, "train" if split == "train" else "val", work)
    steps = progress(run(crops, opened, split), "recognising", total=STEPS, console=Console(stderr=True))
    *_, found = steps
    assert found is not None  # the last of them is the study
    command = f"trunkline report recognition --data DATA --model {model} --split {split} --out {out}"
    page = write_pages(found, command, out)
    typer.echo(msgspec.json.encode(found) if as_json else page)
