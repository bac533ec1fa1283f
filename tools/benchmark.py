"""``trunkline benchmark``: how fast this machine is, part by part and as a whole, and what changed since."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from engines.errors import BackendUnavailable
from tools.benchmarking.compare import compare
from tools.benchmarking.pages import changes_of, page_of, show, to_html
from tools.benchmarking.report import BenchmarkReport, load, measure_parts
from tools.benchmarking.wish import Wish
from tools.options import takes
from tools.output import json_of, print_json, write_file

EXIT_WORSE = 1


class Benchmark(TyperGroup):
    """``compare`` is a command of its own; every other word is a part to measure."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command that is meant."""
        if args[:1] == ["compare"]:
            return self.commands["compare"].make_context("compare", args[1:], parent, **extra)
        return self.commands["measure"].make_context(info_name, args, parent, **extra)


app = typer.Typer(cls=Benchmark, add_completion=False)


AsJsonOption = Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")]
HtmlOption = Annotated[Path | None, typer.Option(help="Write one page with tables and picture.")]
PlotOption = Annotated[Path | None, typer.Option(help="Write the figures as a PNG picture.")]
SaveOption = Annotated[Path | None, typer.Option(metavar="STEM", help="Write STEM.json, STEM.md and STEM.png.")]


@app.command(epilog="trunkline benchmark compare BEFORE.json AFTER.json says what changed from one report to another.")
@takes(Wish)
def measure(
    wish: Wish,
    as_json: AsJsonOption = False,
    html: HtmlOption = None,
    plot: PlotOption = None,
    save: SaveOption = None,
) -> None:
    """Measure how fast this machine is: parts alone, the whole pipeline against its limit, and how many streams.

    docs/benchmark.md says what each figure means, and how to get good ones.

    Example: trunkline benchmark pipeline --source street.mp4 --streams 8 --json
    """
    if html or plot or save:
        _require_matplotlib()
    with Console(stderr=True).status("") as status:
        report = measure_parts(wish, status.update)
    _write(report, html, plot, save)
    if as_json:
        print_json(report)
    else:
        show(page_of(report), Console())


@app.command("compare")
def compare_reports(
    before: Annotated[Path, typer.Argument(help="BenchmarkReport of an earlier --json.")],
    after: Annotated[Path, typer.Argument(help="BenchmarkReport of a later one.")],
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit with 1 if a figure got worse beyond the noise.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Say what changed from one report to another, and whether that is more than noise.

    Example: trunkline benchmark compare before.json after.json --fail-on-regression
    """
    comparison = compare(load(before), load(after))
    if as_json:
        print_json(comparison)
    else:
        show(changes_of(comparison), Console())
    if fail_on_regression and comparison.worse:
        raise typer.Exit(EXIT_WORSE)


def _require_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise BackendUnavailable("--plot, --html and --save need matplotlib; install it with: pip install matplotlib")


def _write(report: BenchmarkReport, html: Path | None, plot: Path | None, save: Path | None) -> None:
    """Write what was asked for; the picture is drawn once."""
    if not (html or plot or save):
        return
    from tools.benchmarking.plots import draw

    picture = draw(report)
    if plot:
        write_file(plot, picture)
    if html:
        write_file(html, to_html(report, picture).encode())
    if save:
        write_file(save.with_name(f"{save.name}.png"), picture)
        write_file(save.with_name(f"{save.name}.md"), page_of(report, f"{save.name}.png").encode())
        write_file(save.with_name(f"{save.name}.json"), f"{json_of(report)}\n".encode())
