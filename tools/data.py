"""``trunkline data``: look at the training data before training on it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from engines.errors import BackendUnavailable, ConfigError, DataError
from engines.files import write_whole
from tools.data_label import label

if TYPE_CHECKING:
    from engines.arrays import Pixels
    from engines.training.inspection import DataReport, Overlap, SetReport

EXIT_BROKEN = 1
PREVIEWED = 400  # pictures read of each set
SHOWN = 10  # broken rows

app = typer.Typer(
    no_args_is_help=True,
    help="Check and look at the training data, and label pictures by a detector.",
    epilog="Example: trunkline data check configs/training/n.toml --data DIR",
)

Config = Annotated[Path, typer.Argument(help="Training configuration (TOML).")]
Data = Annotated[Path, typer.Option(help="Folder with the training data.")]
Made = TypeVar("Made")


app.command("label")(label)


@app.command("check")
def check(
    config: Config,
    data: Data,
    against: Annotated[
        list[Path] | None, typer.Option(help="Folder of pictures that training must not know; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a contact sheet of each dataset.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count pictures and labels, list what is broken, find duplicates, and draw contact sheets.

    Exits with status 1 where training would refuse the data.

    Example: trunkline data check configs/training/n.toml --data DIR --against DIR/detection/images/val --out sheets
    """
    _need_torch()
    from engines.training.datasets import load_sets
    from engines.training.inspection import contact_sheet, inspect
    from engines.training.settings import load_settings

    settings = load_settings(config)
    loaded = _waiting("reading the data", lambda: load_sets(settings.datasets, data, strict=False))
    report = _waiting("looking for duplicates", lambda: inspect(loaded, against or ()))
    if out is not None:
        for each in loaded.sets:
            _write_png(out / f"{each.name}.png", contact_sheet(each, loaded))
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        _show(report)
    if report.refusals:
        raise typer.Exit(EXIT_BROKEN)


@app.command("preview")
def preview(
    config: Config,
    data: Data,
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset to show; default all.")] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="Show one augmentation at full strength by its name, or each in turn.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of each dataset.")] = 1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Draw what training really sees: augmented pictures with their labels.

    Example: trunkline data preview configs/training/n.toml --data DIR --out preview.png --augmentation each
    """
    _need_torch()
    from engines.training.datasets import load_sets
    from engines.training.preview import NAMES, preview, preview_each
    from engines.training.settings import load_settings

    entries = load_settings(config).datasets
    by_name = {entry.name: entry for entry in entries}
    if dataset is not None and dataset not in by_name:
        raise ConfigError(f"--dataset {dataset}: must be one of {', '.join(by_name)}")
    if augmentation not in (None, "each", *NAMES):
        raise ConfigError(f"--augmentation {augmentation}: must be each or one of {', '.join(NAMES)}")
    shown = [dataset] if dataset else list(by_name) if augmentation is None else [entries[0].name]
    needed = {*shown, *(by_name[name].faces_from for name in shown)}
    chosen = [entry for entry in entries if entry.name in needed]
    loaded = _waiting("reading the data", lambda: load_sets(chosen, data, limit=PREVIEWED))
    if augmentation is None:
        pixels = preview(chosen, loaded, shown, rows, seed)
    else:
        sets = {each.name: each for each in loaded.sets}
        entry = by_name[shown[0]]
        faces = sets.get(entry.faces_from or "")
        names = NAMES if augmentation == "each" else (augmentation,)
        pixels = preview_each(entry, sets[entry.name], loaded, faces, names * rows, seed)
    _write_png(out, pixels)
    typer.echo(f"{out}: {pixels.shape[1]}x{pixels.shape[0]} pixels")


def _need_torch() -> None:
    try:
        import torch  # noqa: F401  # whether it is there
    except ModuleNotFoundError as error:
        raise BackendUnavailable(
            "data needs PyTorch, which is not installed: pip install 'trunkline[train]'"
        ) from error


def _waiting(what: str, call: Callable[[], Made]) -> Made:
    """The result of a call that takes a while, with a sign on stderr that it does."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        return call()


def _write_png(path: Path, pixels: "Pixels") -> None:
    from engines.training.drawing import as_png

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, as_png(pixels))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _show(report: "DataReport") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("dataset", "pictures", "broken", "groups", "labels", "duplicates", title="training data")
    for each in report.datasets:
        counts = (str(each.pictures), str(len(each.broken)), str(each.groups))
        table.add_row(each.name, *counts, "\n".join(_labels(each)), str(each.duplicates.pairs))
    console.print(table)
    for each in report.datasets:
        for reason in each.broken[:SHOWN]:
            typer.echo(f"broken: {each.name}: {reason}")
        if len(each.broken) > SHOWN:
            typer.echo(f"broken: {each.name}: and {len(each.broken) - SHOWN} more")
    for kind, overlaps in (("duplicates", report.overlaps), ("warning: trained on and held out", report.leaks)):
        for overlap in overlaps:
            typer.echo(f"{kind}: {_sentence(overlap)}")
    for sentence in report.refusals:
        typer.echo(f"refused: {sentence}", err=True)


def _labels(each: "SetReport") -> list[str]:
    lines = []
    for task, boxes in (("objects", each.objects), ("faces", each.faces)):
        if boxes is not None:
            sizes = ", ".join(f"{count} {size}" for size, count in boxes.by_size.items())
            lines.append(f"{task}: {boxes.boxes} ({sizes}), {boxes.ignored} ignored")
            if task == "faces":
                lines.append(f"  {boxes.with_landmarks} with landmarks")
            else:
                lines.append("  " + ", ".join(f"{name} {count}" for name, count in boxes.by_class.items()))
    if each.kind == "identity":
        counts = sorted(each.by_label.values())
        least, middle, most = counts[0], counts[len(counts) // 2], counts[-1]
        lines.append(f"{len(counts)} people with {least} to {most} pictures, half of them {middle} or more")
    elif each.by_label:
        lines.append(", ".join(f"{name} {count}" for name, count in each.by_label.items()))
    return lines


def _sentence(overlap: "Overlap") -> str:
    first, second = overlap.examples[0]
    return f"{overlap.pairs} pairs in {overlap.first} and {overlap.second}, as {first} and {second}"
