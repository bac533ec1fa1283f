"""``trunkline evaluate rates``: what is saved and what is lost where clips are inferred at lower rates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from engines.errors import ConfigError
from engines.spec import load_model
from pipeline.settings.schema import ModelSettings
from tools.output import print_json

if TYPE_CHECKING:
    from pipeline.settings.schema import InferenceRate
    from tools.tracking.rates import RateFigures

RATES = "2,5,10,15,25,auto"


def rates(
    clips: Annotated[list[Path], typer.Argument(help="Video files.")],
    model: Annotated[str, typer.Option(help="A released model's name, or a model folder.")] = ModelSettings().path,
    fps: Annotated[str, typer.Option(help="Inference rates, separated by commas: numbers, full or auto.")] = RATES,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Follow clips at several inference rates, and hold what is found against the full rate (docs/rates.md).

    Example: trunkline evaluate rates street.mp4 door.mp4 --fps 5,10,auto
    """
    from pipeline.settings.schema import Config, ModelSettings, StreamSettings
    from tools.tracking.rates import measure_clip

    wanted = [_rate(word) for word in fps.split(",")]
    loaded = load_model(model)
    config = Config(streams=(StreamSettings(name="clip", source=str(clips[0])),), model=ModelSettings(path=model))
    console, found = Console(stderr=True), list["RateFigures"]()
    for clip in clips:
        with console.status(f"Following {clip.name}"):
            found += measure_clip(str(clip), loaded, config, wanted)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _rate(word: str) -> "InferenceRate":
    if word in ("full", "auto"):
        return "full" if word == "full" else "auto"
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise ConfigError(f"--fps has {word!r}, but must be numbers above 0, full or auto, separated by commas")
    return number


def _show(found: list["RateFigures"]) -> None:
    columns = ("inferred", "CPU ms/s", "network", "boxes", "tracks", "events", "added", "delay s")
    table = Table("clip", "fps", *columns, title="Against the full rate")
    for each in found:
        table.add_row(
            f"{Path(each.clip).stem} ({each.clip_fps:g})",
            each.fps if isinstance(each.fps, str) else f"{each.fps:g}",
            f"{each.inferred}/{each.frames}",
            f"{each.cpu_ms_per_s:.0f}",
            f"{each.network_ms_per_s:.0f}",
            f"{each.boxes_found}/{each.boxes}",
            f"{each.tracks_found}/{each.tracks}",
            f"{each.events_found}/{each.events}",
            str(each.events_added),
            "" if each.delay_s is None else f"{each.delay_s:.2f}",
        )
    Console().print(table)
