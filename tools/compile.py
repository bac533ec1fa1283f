"""``trunkline compile``: a checkpoint becomes a model folder."""

import dataclasses
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from engines.errors import BackendUnavailable, ConfigError


def compile_model(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a training run.")],
    out: Annotated[Path, typer.Option(help="The model folder to make.")],
    data: Annotated[Path, typer.Option(help="Folder with the validation data: thresholds, parity, figures.")],
    frame_size: Annotated[str, typer.Option(help="Width x height of the frame entry, multiples of 32.")] = "320x320",
    name: Annotated[str | None, typer.Option(help="Name of the model; default the training run's.")] = None,
    note: Annotated[str, typer.Option(help="For the model card: what else one must know of the training.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print parity and figures as JSON.")] = False,
) -> None:
    """Make a model folder: ONNX files, thresholds, parity with PyTorch, figures and the model card.

    Example: trunkline compile runs/n/checkpoint.pt --out engines/zoo/n --data DIR
    """
    width, height = _size(frame_size)
    try:
        from engines.compiling.release import release
    except ModuleNotFoundError as error:
        raise BackendUnavailable(f"compile needs {error.name}, not installed: pip install -e .[train]") from error

    done = release(
        checkpoint,
        data,
        out,
        frame_size=(height, width),
        name=name,
        note=note,
        told=lambda text: typer.echo(f"{text} ...", err=True),
    )
    if as_json:
        found = {
            "model": str(out),
            "fingerprint": done.model.fingerprint,
            "parity": [dataclasses.asdict(each) for each in done.parity],
            "figures": done.report,
        }
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for each in done.parity:
        typer.echo(
            f"{each.backend}: boxes within {each.boxes_px:.4f} px, scores within {each.scores:.1e}, "
            f"embeddings cosine at least {each.cosine:.6f}"
        )
    typer.echo(f"{out}: {done.model.fingerprint}")


def _size(text: str) -> tuple[int, int]:
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 and int(side) % 32 == 0 for side in sides):
        raise ConfigError(f"--frame-size is {text!r}, but must be WIDTHxHEIGHT in multiples of 32, such as 320x320")
    return int(sides[0]), int(sides[1])
