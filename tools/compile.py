"""``trunkline compile``: a checkpoint becomes a model folder, a model folder gets its int8 files."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engines.errors import BackendUnavailable, ConfigError

if TYPE_CHECKING:
    from engines.compiling.release import Released
    from engines.spec import Model

FRAME_SIZE = "320x320"


def compile_model(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="checkpoint.pt of a training run, or, for int8, a model folder."),
    ],
    data: Annotated[Path, typer.Option(help="Folder with the data: for thresholds, parity, calibration, figures.")],
    precision: Annotated[
        Literal["f32", "int8"],
        typer.Option(help="f32 makes a model folder of a checkpoint; int8 adds its quantised form to a model folder."),
    ] = "f32",
    out: Annotated[Path | None, typer.Option(help="f32: the model folder to make.")] = None,
    frame_size: Annotated[
        str | None,
        typer.Option(help=f"f32: width x height of the frame entry, multiples of 32; default {FRAME_SIZE}."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="f32: name of the model; default the training run's.")] = None,
    note: Annotated[str | None, typer.Option(help="f32: for the model card, what else one must know.")] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="int8: the share of any task's figure that may be lost; default 0.01."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="int8: training pictures to calibrate each entry on; default 256.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="int8: training configuration that says where its data is; default the standard folders."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came of it as JSON.")] = False,
) -> None:
    """Make a model folder: ONNX files, thresholds, parity with PyTorch, figures, card. Or add its int8 form.

    The folder is changed only when all checks hold: parity for f32, the accuracy gate for int8.

    Example: trunkline compile runs/n/checkpoint.pt --out runs/model --data DIR

    Example: trunkline compile runs/model --precision int8 --data DIR
    """
    of_f32: dict[str, object] = {"--out": out, "--frame-size": frame_size, "--name": name, "--note": note}
    of_int8: dict[str, object] = {"--tolerance": tolerance, "--images": images, "--config": config}
    if precision == "int8":
        _refuse_given(of_f32, "int8")
        if not source.is_dir():
            raise ConfigError(f"--precision int8 needs a model folder, {source} is none; make one with --precision f32")
        _show_int8(_int8(source, data, tolerance, images, config), as_json=as_json)
        return
    _refuse_given(of_int8, "f32")
    if source.is_dir():
        raise ConfigError(
            f"--precision f32 needs a checkpoint, {source} is a folder; a model's int8 is --precision int8"
        )
    if out is None:
        raise ConfigError("--out is missing: the model folder to make of the checkpoint")
    _show_f32(
        _f32(source, data, out, FRAME_SIZE if frame_size is None else frame_size, name, note or ""),
        out,
        as_json=as_json,
    )


def _refuse_given(options: Mapping[str, object], precision: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise ConfigError(f"{option} has no meaning with --precision {precision}")


def _f32(checkpoint: Path, data: Path, out: Path, frame_size: str, name: str | None, note: str) -> "Released":
    width, height = _size(frame_size)
    try:
        from engines.compiling.release import release
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return release(checkpoint, data, out, frame_size=(height, width), name=name, note=note, told=_tell)


def _int8(folder: Path, data: Path, tolerance: float | None, images: int | None, config: Path | None) -> "Model":
    try:
        from engines.compiling.gate import PICTURES, TOLERANCE, compile_int8
        from engines.training.settings import load_settings
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return compile_int8(
        folder,
        data,
        settings=load_settings(config) if config else None,
        tolerance=TOLERANCE if tolerance is None else tolerance,
        pictures=images or PICTURES,
        told=_tell,
    )


def _missing(error: ModuleNotFoundError) -> BackendUnavailable:
    return BackendUnavailable(f"compile needs {error.name}, not installed: pip install -e .[train]")


def _tell(text: str) -> None:
    typer.echo(f"{text} ...", err=True)


def _show_f32(done: "Released", out: Path, *, as_json: bool) -> None:
    if as_json:
        _print_json(
            {
                "model": str(out),
                "fingerprint": done.model.fingerprint,
                "parity": [dataclasses.asdict(each) for each in done.parity],
                "figures": done.report,
            }
        )
        return
    for each in done.parity:
        typer.echo(f"{each.backend}: {', '.join(f'{name} {gap}' for name, gap in each.summary.items())}")
    typer.echo(f"{out}: {done.model.fingerprint}")


def _show_int8(model: "Model", *, as_json: bool) -> None:
    int8 = model.spec.int8
    assert int8 is not None  # it was just made
    if as_json:
        _print_json({"model": str(model.path), "fingerprint": model.fingerprint, "int8": int8})
        return
    table = Table("task", "figure", "backend", "f32", "int8", "lost")
    for each in int8.figures:
        table.add_row(each.task, each.figure, each.backend, f"{each.f32:.4f}", f"{each.int8:.4f}", f"{each.loss:+.2%}")
    Console().print(table)
    for file in int8.files.values():
        kept = f", in float: {', '.join(file.float_layers)}" if file.float_layers else ""
        typer.echo(f"{file.file}: {file.layers - len(file.float_layers)} of {file.layers} layers in int8{kept}")


def _print_json(content: object) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())


def _size(text: str) -> tuple[int, int]:
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 and int(side) % 32 == 0 for side in sides):
        raise ConfigError(f"--frame-size is {text!r}, but must be WIDTHxHEIGHT in multiples of 32, such as 320x320")
    return int(sides[0]), int(sides[1])
