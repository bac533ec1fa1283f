"""What of the comparison with peers needs neither a peer nor a machine at rest."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ConfigError
from engines.hardware import Cpu
from tools.benchmarking.clip import BenchmarkClip
from tools.benchmarking.report import BenchmarkMachine, ModelIdentity
from tools.peers import harness, opencv_loop
from tools.peers.compare import PeerComparison, Settings, contestants, of_peer, of_trunkline, to_markdown
from tools.peers.harness import (
    CHECKOUT,
    Contestant,
    Failed,
    Measure,
    PeerResult,
    PeerRow,
    PeerRun,
    environment,
    last_json,
    last_line,
    play,
    ratios,
    said,
)
from tools.peers.measuring import Meter
from tools.peers.peers import PEERS, Group, chosen

positive = st.floats(0.1, 1e4)
runs = st.builds(PeerRun, positive, positive, st.none() | positive, st.none() | positive)


class Clock:
    """Tells the next of the given seconds each time it is asked."""

    def __init__(self, *times_s: float) -> None:
        self._times = iter(times_s)

    def __call__(self) -> float:
        return next(self._times)


def contestant(name: str, group: Group, *frames_per_s: float | str) -> Contestant:
    """Measures these figures round after round; a text is a failure."""
    figures = iter(frames_per_s)

    def measure() -> PeerResult:
        figure = next(figures)
        if isinstance(figure, str):
            raise Failed(figure)
        return PeerResult(PeerRun(figure, 1.0, 100.0, None), {"python": "3"})

    return Contestant(name, name.title(), group, f"remark on {name}", lambda: measure)


# The meter


def test_frames_of_the_warm_up_are_in_no_figure() -> None:
    meter = Meter(10.0, clock_s=Clock(0.0, 1.0, 2.0, 3.0, 8.0, 12.0))
    said_on = [meter.count(boxes) for boxes in (100, 100, 100, 1, 2, 6)]
    assert said_on == [True, True, True, True, True, False]
    measured = meter.measured()
    assert (measured["frames"], measured["seconds"], measured["frames_per_s"]) == (3, 10.0, 0.3)
    assert measured["boxes_per_frame"] == 3.0


def test_a_meter_counts_nothing_after_its_end() -> None:
    meter = Meter(1.0, clock_s=Clock(0.0, 0.6, 1.7, 1.8, 99.0))
    assert [meter.count() for _ in range(5)] == [True, True, False, False, False]
    assert meter.measured(looks=False)["frames"] == 1
    assert meter.measured(looks=False)["boxes_per_frame"] is None


def test_a_source_that_ended_early_is_no_measurement() -> None:
    meter = Meter(10.0, clock_s=Clock(0.0, 3.0, 4.0))
    for _ in range(3):
        meter.count()
    with pytest.raises(RuntimeError, match="ended before"):
        meter.measured()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads Linux's /proc")
def test_what_processes_of_a_peer_use_is_in_its_figures() -> None:
    meter = Meter(1.0, clock_s=Clock(0.0, 0.6, 1.7))
    meter.count()
    meter.count()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.1: pass"], check=True)
    assert not meter.count()
    measured = meter.measured()
    assert measured["cpu_ms_per_frame"] >= 90.0  # of children in steps of 10 ms
    assert measured["peak_mib"] > 10


# What programs print


def test_the_result_is_on_the_last_line() -> None:
    assert last_json('Loading {"a": 1}\n{"frames_per_s": 2.0}\n') == {"frames_per_s": 2.0}


def test_a_program_without_a_result_has_failed() -> None:
    for text in ("", "nothing but words", "[1]\n", '{"half": '):
        with pytest.raises(Failed, match="no result"):
            last_json(text)


def test_an_error_is_its_last_line_without_the_frame_around_it() -> None:
    assert (
        last_line("Usage: x\n╭─ Error ───╮\n│ Invalid value: 'transport'. │\n╰────╯\n") == "Invalid value: 'transport'."
    )
    assert last_line("\n \n") == "ended without a word"


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(Failed, match="no camera"):
        said([sys.executable, "-c", "raise SystemExit('no camera')"], 30)


def test_a_command_that_hangs_is_given_up() -> None:
    with pytest.raises(Failed, match=r"longer than 0\.5 s"):
        said([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)


def test_a_peer_s_line_becomes_a_run() -> None:
    line = {"frames": 3, "seconds": 1.0, "frames_per_s": 3.0, "cpu_ms_per_frame": 2.0, "peak_mib": 50.0}
    result = of_peer({**line, "boxes_per_frame": None, "versions": {"numpy": "2"}}, {"macs": 1})
    assert result == PeerResult(PeerRun(3.0, 2.0, 50.0, None), {"numpy": "2"}, {"macs": 1})


def test_trunkline_s_report_becomes_a_run() -> None:
    throughput: dict[str, Any] = {
        "frames_per_s": {"median": 300.0},
        "cpu_ms_per_frame": {"median": 6.0},
        "memory": {"peak_mib": {"median": 200.0}},
        "objects_per_frame": 2.5,
        "faces_per_frame": 1.0,
    }
    report = {"versions": {"av": "18"}, "pipeline": {"throughput": throughput}}
    assert of_trunkline(Group.pipeline, report) == PeerResult(PeerRun(300.0, 6.0, 200.0, 3.5), {"av": "18"})
    decode = {"versions": {}, "decode": {"frames_per_s": {"median": 500.0}, "cpu_ms_per_frame": {"median": 2.0}}}
    assert of_trunkline(Group.decode, decode).run == PeerRun(500.0, 2.0, None, None)
    cpu = {"writer_cpu_ms_per_frame": {"median": 0.5}, "reader_cpu_ms_per_frame": {"median": 0.25}}
    transport = {"versions": {}, "transport": {"frames_per_s": {"median": 2000.0}, **cpu}}
    assert of_trunkline(Group.transport, transport).run == PeerRun(2000.0, 0.75, None, None)


def test_a_report_without_the_part_is_a_failure_that_names_it() -> None:
    with pytest.raises(Failed, match="transport"):
        of_trunkline(Group.transport, {"versions": {}})


# Figures and rounds


def test_ratios_are_taken_inside_each_round() -> None:
    ours = [PeerRun(100.0, 4.0, 200.0, 1.0), PeerRun(10.0, 40.0, 200.0, 1.0)]
    theirs = [PeerRun(50.0, 8.0, 100.0, 1.0), PeerRun(5.0, 80.0, 100.0, 1.0)]
    found = ratios(ours, theirs)
    assert found is not None and found.peak_mib is not None
    assert found.frames_per_s.values == (2.0, 2.0)  # though the second round was ten times slower for both
    assert found.cpu_ms_per_frame.values == (0.5, 0.5)
    assert found.peak_mib.values == (2.0, 2.0)


def test_without_a_round_of_both_there_is_no_ratio() -> None:
    assert ratios([], [PeerRun(1.0, 1.0, 1.0, None)]) is None
    assert ratios([PeerRun(1.0, 1.0, 1.0, None)], []) is None


@given(st.lists(runs, min_size=1, max_size=5))
def test_against_itself_everybody_is_equal(repeats: list[PeerRun]) -> None:
    found = ratios(repeats, repeats)
    assert found is not None
    assert set(found.frames_per_s.values) == set(found.cpu_ms_per_frame.values) == {1.0}
    assert (found.peak_mib is None) == all(run.peak_mib is None for run in repeats)


def test_everyone_is_measured_in_turn() -> None:
    order: list[str] = []
    one, two = contestant("one", Group.decode, 4.0, 6.0), contestant("two", Group.decode, 2.0, 2.0)
    groups = play([one, two], 2, order.append)
    assert [line.rpartition(" ")[2] for line in order] == ["One", "Two"] * 3  # prepared, then two rounds
    first, second = groups[Group.decode]
    assert first.ratios is None
    assert second.ratios is not None and second.ratios.frames_per_s.values == (2.0, 3.0)


def test_who_fails_is_not_asked_again_and_keeps_no_half_of_a_figure() -> None:
    first, second = contestant("one", Group.decode, 4.0, 6.0, 8.0), contestant("two", Group.decode, 2.0, "it broke")
    row = play([first, second], 3)[Group.decode][1]
    assert (row.runs, row.ratios, row.failed) == ((), None, "it broke")


def test_who_cannot_be_prepared_fails_alone() -> None:
    def prepare() -> Measure:
        raise Failed("no wheel")

    broken = Contestant("two", "Two", Group.decode, "", prepare)
    first, second = play([contestant("one", Group.decode, 4.0), broken], 1)[Group.decode]
    assert (len(first.runs), second.failed) == (1, "no wheel")


def test_a_group_without_trunkline_has_figures_and_no_ratios() -> None:
    rows = play([contestant("one", Group.transport, "no such part"), contestant("two", Group.transport, 2.0)], 1)
    first, second = rows[Group.transport]
    assert first.failed == "no such part"
    assert (len(second.runs), second.ratios) == (1, None)


# Who takes part


def test_all_peers_take_part_unless_some_are_named() -> None:
    assert chosen(None) == PEERS
    assert [peer.name for peer in chosen("queue_transport, opencv_loop")] == ["opencv_loop", "queue_transport"]


@pytest.mark.parametrize("only", ["vidgear", "", "opencv_loop,"])
def test_a_name_of_no_peer_is_refused(only: str) -> None:
    with pytest.raises(ConfigError, match="--only"):
        chosen(only)


def test_each_peer_is_a_file_here_and_needs_nothing_but_python_of_what_it_takes_from_trunkline() -> None:
    waiting = [f"tools.peers.{peer.name}" for peer in PEERS] + ["tools.peers.ultralytics_export"]
    for module in waiting:  # grows meanwhile
        tree = ast.parse((CHECKOUT / f"{module.replace('.', '/')}.py").read_text())
        found = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        found += [each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names]
        ours = {name for name in found if name.startswith(("engines", "pipeline", "tools", "trunkline"))}
        waiting += ours - {*waiting}
        if not module.startswith("tools.peers"):
            assert {name.partition(".")[0] for name in {*found} - ours} <= sys.stdlib_module_names, module
    assert {module for module in waiting if not module.startswith("tools.peers")} == {
        "engines.errors",
        "tools.benchmarking.processes",
    }


def test_a_group_begins_with_trunkline_and_is_left_out_without_a_peer(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "clip.mkv", tmp_path, "auto", 1.0, tmp_path, tmp_path)
    names = [one.name for one in contestants(chosen("imagezmq_transport,roboflow_pipeline"), settings)]
    assert names == ["trunkline-decode", "roboflow_pipeline", "trunkline-transport", "imagezmq_transport"]


def test_an_environment_is_made_once_and_again_for_other_requirements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, ...]] = []

    def call(*command: str) -> None:
        made.append(command)
        (tmp_path / "peer").mkdir(exist_ok=True)

    monkeypatch.setattr(harness, "_call", call)
    for requirements in (("numpy==2",), ("numpy==2",), ("numpy==3",)):
        environment(tmp_path / "peer", requirements)
    assert [command[-1] for command in made] == [str(tmp_path / "peer"), "numpy==2", str(tmp_path / "peer"), "numpy==3"]


def test_an_environment_that_cannot_be_filled_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*command: str) -> None:
        (tmp_path / "peer").mkdir(exist_ok=True)
        if "pip" in command:
            raise Failed("no such package")

    monkeypatch.setattr(harness, "_call", call)
    for _ in range(2):
        with pytest.raises(Failed):
            environment(tmp_path / "peer", ("nothing==0",))


# The page


def comparison(*rows: PeerRow) -> PeerComparison:
    return PeerComparison(
        at="2026-01-01T00:00:00+00:00",
        machine=BenchmarkMachine(Cpu("A CPU", 2, 2, ()), 2**30, (), "Linux", 0.1),
        clip=BenchmarkClip("/videos/street.mp4", 1280, 720, "h264", 25.0, 10.0, 3_000_000),
        model=ModelIdentity("zoo/n", "n", "abc"),
        precision="auto",
        seconds=20.0,
        rounds=3,
        groups={Group.pipeline: rows},
    )


def test_the_page_has_a_line_for_everyone_and_a_reason_for_who_is_missing() -> None:
    ours, theirs = (PeerRun(400.0, 5.0, 250.0, 3.0),), (PeerRun(100.0, 20.0, 125.0, 3.0),)
    facts = {"macs": 384_000_000, "model_macs": 391_000_000}
    page = to_markdown(
        comparison(
            PeerRow("trunkline", "Trunkline", "all of it", ours, versions={"av": "18", "torch": None}),
            PeerRow("loop", "Loop", "boxes only", theirs, ratios(ours, theirs), {"numpy": "2"}, facts),
            PeerRow("other", "Other", "as well", failed="no wheel for this machine"),
        )
    )
    assert "| Trunkline | 400 | 5 | 250 | 3 | – | – | – |" in page
    assert "| Loop | 100 | 20 | 125 | 3 | 4 | 0.25 | 2 |" in page
    assert "| Other | – | – | – | – | – | – | – |" in page
    assert "Other was not measured: no wheel for this machine" in page
    assert "Its network has 384 M multiply-accumulates, the model 391 M." in page
    assert "* Trunkline: av 18\n" in page
    assert "/videos" not in page  # where a clip lies is nobody's business


# The loop


@given(st.integers(16, 400), st.integers(16, 400))
def test_a_letterboxed_picture_fills_its_input_and_maps_back(width: int, height: int) -> None:
    picture = np.full((height, width, 3), 255, np.uint8)
    canvas, scale, left, top = opencv_loop.letterbox(picture, (96, 64))
    assert canvas.shape == (64, 96, 3)
    rows, columns = np.nonzero((canvas == 255).all(2))
    assert (columns.min(), rows.min()) == (left, top)
    assert columns.max() + 1 - left == pytest.approx(width * scale, abs=1)
    assert rows.max() + 1 - top == pytest.approx(height * scale, abs=1)


def test_a_file_that_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no\.mp4"):
        next(opencv_loop.frames(tmp_path / "no.mp4"))


def test_frames_of_a_file_come_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "steps.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    for shade in (0, 100, 200):
        writer.write(np.full((32, 32, 3), shade, np.uint8))
    writer.release()
    assert [round(float(frame.mean()), -1) for frame in opencv_loop.frames(path)] == [0, 100, 200]


def test_the_committed_page_is_what_its_figures_give() -> None:
    record = CHECKOUT / "docs/benchmarks/peers.json"
    found = msgspec.json.decode(record.read_bytes(), type=PeerComparison)
    assert to_markdown(found) == record.with_suffix(".md").read_text()


def test_the_plain_loop_compares_scores_of_the_network_with_what_they_mean() -> None:
    curve = {"method": "sigmoid", "knots": [0.0, 0.5, 1.0], "values": [[0.0, 0.2, 1.0], [0.0, 0.8, 1.0]]}
    told = {
        "object_score": 0.5,
        "object_scores": [0.6, 0.4],
        "object_curves": curve,
        "face_score": 0.3,
        "face_curve": None,
    }
    objects, faces = opencv_loop.least_scores(told, 2)
    assert objects.tolist() == pytest.approx([0.75, 0.25]) and faces.tolist() == pytest.approx([0.3])
    objects, _ = opencv_loop.least_scores({"object_score": 0.5, "face_score": 0.3}, 2)
    assert objects.tolist() == [0.5, 0.5]
