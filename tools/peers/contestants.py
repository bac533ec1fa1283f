"""How Trunkline and each peer are made ready and measured."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from engines.engine import Precision
from tools.peers.figures import PeerResult, of_peer, of_trunkline
from tools.peers.harness import Contestant, Measure, environment, last_json, said, torch_requirement
from tools.peers.peers import OPENCV_LOOP, TRUNKLINE, ULTRALYTICS, Group, Peer

START_S: Final = 120.0  # to open, on a slow machine
TIMES: Final = 10.0  # the measured time: warm-ups, and for Trunkline the limit and the pace of cameras, too
PREPARE_S: Final = 900.0  # to export a network


@dataclass(frozen=True, slots=True)
class Settings:
    """What everybody is measured on."""

    source: Path  # long enough to be read for a while
    model: Path
    precision: Precision
    seconds: float  # of each run
    environments: Path  # folder of the peers' environments
    work: Path  # folder for what is made on the way


def contestants(peers: Sequence[Peer], settings: Settings) -> list[Contestant]:
    """Group by group: Trunkline, then the peers."""
    found = []
    for group in Group:
        within = [peer for peer in peers if peer.group is group]
        if within:
            found.append(_trunkline(group, settings))
            found.extend(_peer(peer, settings) for peer in within)
    return found


def _trunkline(group: Group, settings: Settings) -> Contestant:
    command = [sys.executable, "-c", "from tools.main import main; main()", "benchmark", group.value, "--json"]
    command += ["--seconds", str(settings.seconds), "--repeats", "1"]
    if group is not Group.transport:  # which moves frames of its own
        command += ["--source", str(settings.source), "--model", str(settings.model), "--precision", settings.precision]

    def measure() -> PeerResult:
        return of_trunkline(group, json.loads(said(command, _limit_s(settings))))

    return Contestant(f"trunkline-{group}", "Trunkline", group, TRUNKLINE[group], lambda: measure)


def _peer(peer: Peer, settings: Settings) -> Contestant:
    ready = {OPENCV_LOOP: _ready_opencv_loop, ULTRALYTICS: _ready_ultralytics}.get(peer, partial(_ready, peer))
    return Contestant(peer.name, peer.title, peer.group, peer.remark, partial(ready, settings))


def _ready(peer: Peer, settings: Settings) -> Measure:
    arguments = [] if peer.group is Group.transport else ["--source", str(settings.source)]
    return _measure(peer, settings, _python(peer, settings), arguments)


def _ready_opencv_loop(settings: Settings) -> Measure:
    arguments = ["--source", str(settings.source), "--model", str(settings.model)]
    if settings.precision == "int8":  # then it is another file that Trunkline runs
        spec = json.loads((settings.model / "spec.json").read_text())
        arguments += ["--file", spec["int8"]["files"]["frame"]["file"]]
    return _measure(OPENCV_LOOP, settings, _python(OPENCV_LOOP, settings), arguments)


def _ready_ultralytics(settings: Settings) -> Measure:
    """Record what the model finds in the clip, for ByteTrack to track, and export a network of equal cost."""
    python = _python(ULTRALYTICS, settings)
    boxes = settings.work / "boxes.json"
    variables = _ultralytics_variables(settings)
    record = ["--source", str(settings.source), "--model", str(settings.model), "--record", str(boxes)]
    said(_command(_python(OPENCV_LOOP, settings), OPENCV_LOOP.name, record), PREPARE_S)
    export = ["--model", str(settings.model), "--folder", str(settings.work)]
    made = last_json(said(_command(python, "ultralytics_export", export), PREPARE_S, variables))
    arguments = ["--source", str(settings.source), "--boxes", str(boxes)]
    arguments += ["--weights", made["weights"], "--size", str(made["size"])]
    facts = {key: made[key] for key in ("width", "macs", "model_macs")}
    return _measure(ULTRALYTICS, settings, python, arguments, variables, facts)


def _ultralytics_variables(settings: Settings) -> dict[str, str]:
    """Without these it writes into the home folder, installs packages and asks the network."""
    folder = settings.environments / ULTRALYTICS.name / "settings"
    folder.mkdir(exist_ok=True)
    return {"YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}


def _measure(
    peer: Peer,
    settings: Settings,
    python: Path,
    arguments: Sequence[str],
    variables: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Measure:
    command = _command(python, peer.name, [*arguments, "--seconds", str(settings.seconds)])

    def measure() -> PeerResult:
        return of_peer(last_json(said(command, _limit_s(settings), variables)), facts or {})

    return measure


def _command(python: Path, module: str, arguments: Sequence[str]) -> list[str]:
    return [str(python), "-m", f"tools.peers.{module}", *arguments]


def _python(peer: Peer, settings: Settings) -> Path:
    torch = (torch_requirement(),) if peer is ULTRALYTICS else ()
    return environment(settings.environments / peer.name, (*torch, *peer.requirements))


def _limit_s(settings: Settings) -> float:
    return START_S + TIMES * settings.seconds
