"""Trunkline beside what a user would pick instead: same clip, same machine, everyone in turn, one table.

Run from the checkout, in Trunkline's own environment: ``python tools/peers/compare.py --source street.mp4``.
"""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
if not __package__:
    sys.path[0] = str(CHECKOUT)  # run as a file, Python looks for imports beside it, where none are

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown

from engines.engine import Precision
from engines.errors import TrunklineError
from engines.spec import load_model
from engines.zoo import model_folder
from pipeline.settings.schema import ModelSettings
from tools.benchmarking.clip import check_file, describe, lengthen
from tools.benchmarking.report import begin
from tools.benchmarking.writing import write
from tools.peers.contestants import Settings, contestants
from tools.peers.figures import PeerComparison, to_markdown
from tools.peers.harness import play
from tools.peers.peers import PEERS, chosen

EXIT_REFUSED = 2
ENVIRONMENTS = CHECKOUT / ".peers"
RECORD = CHECKOUT / "docs" / "benchmarks" / "peers.json"


def compare(
    source: Annotated[Path, typer.Option(help="Video file.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path(ModelSettings().path),
    precision: Annotated[
        Precision, typer.Option(help="Trunkline's arithmetic; int8: the loop runs that file, too.")
    ] = ("auto"),
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each run is measured.")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often everyone runs.")] = 3,
    only: Annotated[
        str | None, typer.Option(help=f"Peers, with commas: {', '.join(peer.name for peer in PEERS)}.")
    ] = None,
    json_file: Annotated[
        Path, typer.Option("--json", metavar="FILE", help="Where the figures go, and beside them a page (.md).")
    ] = RECORD,
) -> None:
    """Measure Trunkline and its peers on one clip, in turn, and write a table with ratios.

    Example: python tools/peers/compare.py --source street.mp4 --model n
    """
    console = Console()
    try:
        comparison = _compare(source, model_folder(model).resolve(), precision, seconds, rounds, only)
        page = to_markdown(comparison)
        write(json_file, msgspec.json.format(msgspec.json.encode(comparison)) + b"\n")
        write(json_file.with_suffix(".md"), page.encode())
    except TrunklineError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        raise typer.Exit(EXIT_REFUSED) from None
    console.print(Markdown(page))


def _compare(
    source: Path, model: Path, precision: Precision, seconds: float, rounds: int, only: str | None
) -> PeerComparison:
    peers = chosen(only)
    check_file(str(source))
    about = begin(load_model(model), seconds, rounds)
    assert about.model is not None
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-peers-") as folder,
        Console(stderr=True).status("Repeating the clip") as status,
    ):
        clip = Path(lengthen(str(source), Path(folder) / "clip.mkv"))
        settings = Settings(clip.resolve(), model, precision, seconds, ENVIRONMENTS, Path(folder))
        groups = play(contestants(peers, settings), rounds, status.update)
    return PeerComparison(
        at=about.at,
        machine=about.machine,
        clip=msgspec.structs.replace(describe(str(source), made=False), source=source.name),
        model=msgspec.structs.replace(about.model, path=model.name),
        precision=precision,
        seconds=seconds,
        rounds=rounds,
        groups=groups,
    )


if __name__ == "__main__":
    typer.run(compare)
