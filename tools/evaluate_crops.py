"""``trunkline evaluate crops``: what crops of large pictures find beside the whole, and what they cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from engines.errors import ConfigError, DataError
from engines.spec import Precision, load_model
from tools.compile import size_of
from tools.enroll import BackendOption
from tools.output import print_json

if TYPE_CHECKING:
    from engines.data.coco import CocoSet
    from engines.engine import Engine
    from engines.spec import Thresholds
    from tools.crops.clips import ClipFigures
    from tools.crops.pictures import CropFigures


class CropReport(msgspec.Struct, frozen=True, kw_only=True):
    """All figures, and what they were measured with."""

    model: str
    backend: str
    precision: str
    network: tuple[int, int]  # width, height
    pictures: "list[CropFigures]" = []
    clips: "list[ClipFigures]" = []


def crops(
    model: Annotated[str, typer.Option(help="A released model's name, or a model folder.")] = "s",
    data: Annotated[Path | None, typer.Option(help="Folder with the validation data: its labelled pictures.")] = None,
    named: Annotated[Literal["cameras", "coco"], typer.Option("--set", help="Which of its sets.")] = "cameras",
    columns: Annotated[int, typer.Option(min=1, help="Make large pictures of some: so many side by side ...")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="... and so many below each other.")] = 1,
    sequence: Annotated[
        Path | None, typer.Option(help="In place of --data: pictures and boxes in MOTChallenge's layout.")
    ] = None,
    clip: Annotated[list[Path] | None, typer.Option(help="Video file without labels; repeatable.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Look at one frame of a clip in so many.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Look at this many pictures.")] = None,
    backend: BackendOption = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic; auto leaves it to the backend.")] = "auto",
    frame_size: Annotated[str | None, typer.Option(help="Width x height of the network's input.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Look at large pictures whole, with chosen crops and with tiles, and compare what is found (docs/crops.md).

    Example: trunkline evaluate crops --model s --data ../data --columns 4 --rows 3

    Example: trunkline evaluate crops --clip street.mp4
    """
    from engines.engine import open_engine
    from engines.sizes import at_size
    from pipeline.runtime.postprocess import low_score_thresholds
    from pipeline.settings.schema import TrackingSettings

    if data is None and sequence is None and not clip:
        raise ConfigError("--data, --sequence or --clip is missing: there is nothing to look at")
    loaded = load_model(model)
    if frame_size is not None:
        loaded = at_size(loaded, size_of(frame_size, "--frame-size"))
    sure = loaded.spec.thresholds
    weak = low_score_thresholds(sure, TrackingSettings().low_score_ratio)
    with open_engine(loaded, "frame", backend, precision) as engine:
        pictures, clips = list["CropFigures"](), list["ClipFigures"]()
        if data is not None or sequence is not None:
            truth = None if data is None else _truth(data, named, limit)
            pictures = _pictures(truth, sequence, (columns, rows), engine, sure, weak, loaded.spec.objects)
        for each in clip or ():
            clips += _clip(each, engine, sure, weak, every)
        network = engine.spec.width, engine.spec.height
        report = CropReport(
            model=loaded.spec.name,
            backend=engine.backend,
            precision=engine.precision,
            network=network,
            pictures=pictures,
            clips=clips,
        )
    if as_json:
        print_json(report)
    else:
        _show(report)


def _truth(data: Path, named: Literal["cameras", "coco"], limit: int | None) -> "CocoSet":
    from engines.evaluation.sets import NAMED_SETS
    from engines.evaluation.truth import labelled_truth

    truth = labelled_truth([NAMED_SETS[named]], data, limit).objects
    if truth is None:
        raise DataError(f"{data}: has no labelled pictures of the set {named!r}")
    return truth


def _pictures(
    truth: "CocoSet | None",
    sequence: Path | None,
    sheet: tuple[int, int],
    engine: "Engine",
    sure: "Thresholds",
    weak: "Thresholds",
    labels: Sequence[str],
) -> "list[CropFigures]":
    from tools.crops import pictures as steps
    from tools.crops.ways import WAYS, PictureLooker

    if truth is not None:
        shown, categories, total = steps.single(truth), truth.categories, len(truth.pictures)
    else:
        assert sequence is not None
        shown, categories = steps.sequence(sequence)
        total = len(list((sequence / "img1").glob("*.jpg")))
    if sheet != (1, 1):
        shown, total = steps.sheets(shown, *sheet), total // (sheet[0] * sheet[1])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("pictures", total=total)
        looker = PictureLooker(engine, sure, weak)
        return steps.measure(shown, categories, looker, labels, WAYS, lambda: progress.advance(bar))


def _clip(clip: Path, engine: "Engine", sure: "Thresholds", weak: "Thresholds", every: int) -> "list[ClipFigures]":
    from tools.crops.clips import measure_clip
    from tools.crops.ways import WAYS

    with Console(stderr=True).status(f"Looking at {clip.name}"):
        return measure_clip(str(clip), engine, sure, weak, WAYS, every)


def _show(report: CropReport) -> None:
    console = Console(width=120)
    if report.pictures:
        sizes = tuple(report.pictures[0].boxes)
        table = Table("way", "passes", "CPU ms", *(f"recall, {name}" for name in sizes), "precision", "wrong a picture")
        for each in report.pictures:
            shares = [f"{each.found[name]}/{each.boxes[name]}" for name in sizes]
            wrong = f"{each.wrong / each.pictures:.2f}"
            table.add_row(each.way, f"{each.passes:.2f}", f"{each.cpu_ms:.1f}", *shares, f"{each.precision:.3f}", wrong)
        console.print(table)
    if report.clips:
        columns = ("passes", "CPU ms", "objects", "faces", "of the last way's", "of its own")
        table = Table("clip", "way", *columns, title="a frame")
        for row in report.clips:
            both = ["" if share is None else f"{share:.2f}" for share in (row.of_reference, row.in_reference)]
            name = f"{Path(row.clip).stem} {row.size[0]}x{row.size[1]}, {row.frames} frames"
            found = (f"{row.objects:.2f}", f"{row.faces:.2f}")
            table.add_row(name, row.way, f"{row.passes:.2f}", f"{row.cpu_ms:.1f}", *found, *both)
        console.print(table)
    width, height = report.network
    console.print(f"{report.model}, {report.backend} {report.precision}, input {width}x{height}")
