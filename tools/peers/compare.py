"""Trunkline beside what a user would pick instead: same clip, same machine, everyone in turn, one table.

Run from the checkout, in Trunkline's own environment: ``python tools/peers/compare.py --source street.mp4``.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

CHECKOUT: Final = Path(__file__).resolve().parents[2]
if not __package__:
    sys.path[0] = str(CHECKOUT)  # run as a file, Python looks for imports beside it, where none are

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown

from engines.engine import Precision
from engines.errors import TrunklineError
from engines.pages import render
from engines.spec import load_model
from engines.zoo import model_folder
from pipeline.settings.schema import ModelSettings
from tools.benchmarking.clip import BenchmarkClip, check_file, describe, lengthen
from tools.benchmarking.report import BenchmarkMachine, ModelIdentity, begin
from tools.output import json_of, write_file
from tools.peers.harness import (
    Contestant,
    Failed,
    Measure,
    PeerResult,
    PeerRow,
    PeerRun,
    environment,
    last_json,
    play,
    said,
)
from tools.peers.peers import HEADINGS, OPENCV_LOOP, PEERS, TRUNKLINE, ULTRALYTICS, Group, Peer, chosen

EXIT_REFUSED = 2
ENVIRONMENTS = CHECKOUT / ".peers"
RECORD = CHECKOUT / "docs" / "benchmarks" / "peers.json"
START_S: Final = 120.0  # to open, on a slow machine
TIMES: Final = 10.0  # the measured time: warm-ups, and for Trunkline the limit and the pace of cameras, too
PREPARE_S: Final = 900.0  # to export a network


class PeerComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody, on what, and with what."""

    format: Literal[1] = 1
    at: str  # RFC 3339, UTC
    machine: BenchmarkMachine
    clip: BenchmarkClip
    model: ModelIdentity
    precision: Precision  # that Trunkline was asked for
    seconds: float  # of each run
    rounds: int
    groups: Mapping[Group, tuple[PeerRow, ...]]  # Trunkline's line first


@dataclass(frozen=True, slots=True)
class Settings:
    """What everybody is measured on."""

    source: Path  # long enough to be read for a while
    model: Path
    precision: Precision
    seconds: float  # of each run
    environments: Path  # folder of the peers' environments
    work: Path  # folder for what is made on the way

    @property
    def limit_s(self) -> float:
        """What a run may take."""
        return START_S + TIMES * self.seconds


def compare(
    source: Annotated[Path, typer.Option(help="Video file.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path(ModelSettings().path),
    precision: Annotated[Precision, typer.Option(help="Trunkline's arithmetic; int8: the others', too.")] = ("auto"),
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
    try:
        comparison = _compare(source, model_folder(model).resolve(), precision, seconds, rounds, chosen(only))
        page = to_markdown(comparison)
        write_file(json_file, f"{json_of(comparison)}\n".encode())
        write_file(json_file.with_suffix(".md"), page.encode())
    except TrunklineError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        raise typer.Exit(EXIT_REFUSED) from None
    Console().print(Markdown(page))


def _compare(
    source: Path, model: Path, precision: Precision, seconds: float, rounds: int, peers: Sequence[Peer]
) -> PeerComparison:
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


def contestants(peers: Sequence[Peer], settings: Settings) -> list[Contestant]:
    """Return, group by group, Trunkline and the peers."""
    ready = {OPENCV_LOOP: _ready_opencv_loop, ULTRALYTICS: _ready_ultralytics}
    found = []
    for group in Group:
        within = [peer for peer in peers if peer.group is group]
        if within:
            prepare: Callable[[], Measure] = partial(_ready_trunkline, group, settings)
            found.append(Contestant(f"trunkline-{group}", "Trunkline", group, TRUNKLINE[group], prepare))
        for peer in within:
            prepare = partial(ready.get(peer, _ready), peer, settings)
            found.append(Contestant(peer.name, peer.title, peer.group, peer.remark, prepare))
    return found


def _ready_trunkline(group: Group, settings: Settings) -> Measure:
    command = [sys.executable, "-m", "tools.main", "benchmark", group, "--json", "--repeats", "1"]
    command += ["--seconds", str(settings.seconds)]
    if group is not Group.transport:  # which moves frames of its own
        command += ["--source", str(settings.source), "--model", str(settings.model), "--precision", settings.precision]
    return lambda: of_trunkline(group, json.loads(said(command, settings.limit_s)))


def of_trunkline(group: Group, report: Mapping[str, Any]) -> PeerResult:
    """Return a run from what ``trunkline benchmark --json`` prints of one repeat.

    Raises:
        Failed: the report has no such part.
    """
    try:
        part, peak, boxes = report[group], None, None
        if group is Group.pipeline:
            part = part["throughput"]
            peak = part["memory"]["peak_mib"]["median"]
            boxes = part["objects_per_frame"] + part["faces_per_frame"]
        ends = ("writer_cpu_ms_per_frame", "reader_cpu_ms_per_frame")
        cpu_ms = sum(part[name]["median"] for name in (ends if group is Group.transport else ("cpu_ms_per_frame",)))
        return PeerResult(PeerRun(part["frames_per_s"]["median"], cpu_ms, peak, boxes), report["versions"])
    except KeyError as error:
        raise Failed(f"trunkline benchmark {group} --json has no {error}") from None


def of_peer(line: Mapping[str, Any], facts: Mapping[str, Any]) -> PeerResult:
    """Return a run from the line that a peer prints."""
    return PeerResult(PeerRun(*(line[name] for name in PeerRun.__struct_fields__)), line["versions"], facts)


def _ready(peer: Peer, settings: Settings) -> Measure:
    return _measure(peer, settings, [] if peer.group is Group.transport else ["--source", str(settings.source)])


def _ready_opencv_loop(peer: Peer, settings: Settings) -> Measure:
    arguments = ["--source", str(settings.source), "--model", str(settings.model)]
    if settings.precision == "int8":  # then it is another file that Trunkline runs
        spec = json.loads((settings.model / "spec.json").read_text())
        arguments += ["--file", spec["int8"]["files"]["frame"]["file"]]
    return _measure(peer, settings, arguments)


def _ready_ultralytics(peer: Peer, settings: Settings) -> Measure:
    """Record what the model finds in the clip, for ByteTrack to track, and export a network of equal cost."""
    environment(settings.environments / peer.name, peer.requirements)
    folder, boxes = settings.environments / peer.name / "settings", settings.work / "boxes.json"
    folder.mkdir(exist_ok=True)
    # Without these it writes into the home folder, installs packages and asks the network.
    variables = {"YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    source, model = ["--source", str(settings.source)], ["--model", str(settings.model)]
    said(_command(OPENCV_LOOP, settings, [*source, *model, "--record", str(boxes)]), PREPARE_S)
    calibrated = ["--calibrate", str(settings.source)] if settings.precision == "int8" else []
    export = _command(peer, settings, [*model, "--folder", str(settings.work), *calibrated], "ultralytics_export")
    made = last_json(said(export, PREPARE_S, variables))
    arguments = [*source, "--boxes", str(boxes), "--weights", made["weights"], "--size", str(made["size"])]
    return _measure(peer, settings, arguments, variables, {key: made[key] for key in ("width", "macs", "model_macs")})


def _measure(
    peer: Peer,
    settings: Settings,
    arguments: Sequence[str],
    variables: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Measure:
    command = _command(peer, settings, [*arguments, "--seconds", str(settings.seconds)])
    return lambda: of_peer(last_json(said(command, settings.limit_s, variables)), facts or {})


def _command(peer: Peer, settings: Settings, arguments: Sequence[str], module: str | None = None) -> list[str]:
    python = environment(settings.environments / peer.name, peer.requirements)
    return [str(python), "-m", f"tools.peers.{module or peer.name}", *arguments]


def to_markdown(found: PeerComparison) -> str:
    """Return the page: what was measured, a table a group, what is not equal, and all versions."""
    everybody = [row for rows in found.groups.values() for row in rows if row.versions]
    return render(
        "tools.peers",
        "peers.md.j2",
        {"three": lambda value: f"{value:.0f}" if value >= 100 else f"{value:.3g}"},
        found=found,
        clip=Path(found.clip.source or "").name,
        headings=HEADINGS,
        versions={row.title: row.versions for row in everybody},  # Trunkline's are the same in each group
    )


if __name__ == "__main__":
    typer.run(compare)
