import io
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import structlog
from rich.console import Console
from typer.testing import CliRunner

from engines.errors import ConfigError, SourceError, StageError
from pipeline.messages import TimingsMessage
from tests.engines.made_models import write_model, write_partial_model
from tests.tools.made_network import write_constant_model
from tools.benchmarking.clip import BITS_PER_PIXEL, RATE, Scenery, check_file, describe, render
from tools.benchmarking.engine import BATCHES
from tools.benchmarking.figures import WINDOWS, Percentiles, Spread, measure
from tools.benchmarking.listener import Heard, Hearing, Listener
from tools.benchmarking.pipeline import Border, summarise
from tools.benchmarking.report import Report, begin
from tools.benchmarking.tables import show
from tools.benchmarking.video import measure_decode
from tools.main import app

SIZE = (160, 96)
SHORT = ("--seconds", "0.5", "--json")
runner = CliRunner()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "a clip: made.mp4"  # FFmpeg would take the colon for a protocol's
    render(path, SIZE, seconds=1)
    return path


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def reported(*arguments: str) -> Report:
    result = runner.invoke(app, ["--log-level", "error", "benchmark", *arguments])
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout, type=Report)


def shown(report: Report) -> str:
    text = io.StringIO()
    show(report, Console(file=text, width=120))
    return text.getvalue()


class TestFigures:
    def test_of_three_windows_the_middle_one_counts(self) -> None:
        assert Spread.of([30.0, 10.0, 20.12345]) == Spread(median=20.123, min=10.0, max=30.0)

    def test_percentiles_of_a_single_value_are_that_value(self) -> None:
        assert Percentiles.of([2.5]) == Percentiles(2.5, 2.5, 2.5, 2.5, 2.5)

    def test_percentiles_do_not_depend_on_the_order(self) -> None:
        values = [float(value) for value in range(101)]
        assert Percentiles.of(values[::-1]) == Percentiles.of(values) == Percentiles(50, 90, 95, 99, 100)

    def test_the_warm_up_is_not_counted(self) -> None:
        calls = []
        windows = measure(lambda: calls.append(1), seconds=0.03)
        counted = sum(len(window.laps_ms) for window in windows)
        assert len(windows) == WINDOWS
        assert 0 < counted < len(calls)

    def test_work_that_is_longer_than_its_window_is_measured_whole(self) -> None:
        windows = measure(lambda: time.sleep(0.02), seconds=0.003)
        assert [len(window.laps_ms) for window in windows] == [1, 1, 1]
        assert all(window.seconds >= 0.02 and window.laps_ms[0] >= 20 for window in windows)

    def test_waiting_takes_time_but_no_cpu_time(self) -> None:
        windows = measure(lambda: time.sleep(0.01), seconds=0.15)
        assert sum(window.cpu_seconds for window in windows) < 0.5 * sum(window.seconds for window in windows)


class TestClip:
    def test_it_is_the_same_every_time(self, clip: Path, tmp_path: Path) -> None:
        render(tmp_path / "again.mp4", SIZE, seconds=1)
        assert (tmp_path / "again.mp4").read_bytes() == clip.read_bytes()

    def test_its_bitrate_is_that_of_a_camera(self, clip: Path) -> None:
        facts = describe(str(clip), made=True)
        assert (facts.source, facts.width, facts.height, facts.codec) == (None, *SIZE, "h264")
        assert (facts.frames_per_s, facts.seconds) == (RATE, 1.0)
        wanted = BITS_PER_PIXEL * SIZE[0] * SIZE[1] * RATE
        assert facts.bits_per_s == pytest.approx(wanted, rel=0.5)  # a second is short for rate control

    def test_everything_in_it_moves(self) -> None:
        scenery = Scenery(SIZE)
        changed = scenery.frame(0) != scenery.frame(RATE)
        assert changed.mean() > 0.5
        assert scenery.frame(3).std() > 20
        assert np.array_equal(scenery.frame(3), Scenery(SIZE).frame(3))

    def test_a_live_source_is_refused_without_its_password(self) -> None:
        with pytest.raises(ConfigError, match=r"--source is 'rtsp://ada@door/1', but must be a file"):
            check_file("rtsp://ada:hunter2@door/1")

    def test_a_file_without_a_picture_in_it(self, clip: Path, tmp_path: Path) -> None:
        content = clip.read_bytes()
        start = content.index(b"mdat") + 4
        end = content.index(b"moov") - 4
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(content[:start] + bytes(end - start) + content[end:])
        check_file(str(broken))  # its header is whole
        with pytest.raises(SourceError, match="no picture can be decoded"):
            measure_decode(str(broken), 0.1)


class TestRunSummary:
    """Ten frames a second for three seconds, one window each."""

    borders = tuple(Border(at_s=float(second), cpu_s=0.5 * second) for second in range(WINDOWS + 1))

    def heard(self, *times: float) -> Hearing:
        timings = TimingsMessage(queue=1.0, infer=2.0, post=0.5, total=3.5)
        return Hearing(tuple(Heard(at_s, timings, objects=2, faces=1) for at_s in times), missed=0)

    def test_frames_are_counted_by_window_and_cpu_time_is_shared_among_them(self) -> None:
        times = [0.05 + 0.1 * number for number in range(-5, 35)]  # with some before and after
        figures = summarise("fast", self.borders, self.heard(*times), {})
        assert figures.frames_per_s == Spread(10.0, 10.0, 10.0)
        assert figures.cpu_ms_per_frame == Spread(50.0, 50.0, 50.0)
        assert (figures.frames, figures.received, figures.seconds) == (30, 40, 3.0)
        assert figures.latency_ms["total"] == Percentiles(3.5, 3.5, 3.5, 3.5, 3.5)
        assert (figures.objects_per_frame, figures.faces_per_frame) == (2.0, 1.0)

    def test_a_window_without_a_frame_is_no_measurement(self) -> None:
        with pytest.raises(ConfigError, match="--seconds must be longer"):
            summarise("fast", self.borders, self.heard(0.5, 2.5), {})


class TestVerb:
    def test_the_engine_by_batch_for_both_entries(self, tmp_path: Path) -> None:
        model = write_model(tmp_path)
        report = reported("engine", "--model", str(tmp_path), "--backend", "onnxruntime", *SHORT)
        assert not isinstance(report.engine, msgspec.UnsetType)
        assert [(entry.entry, entry.width, entry.height) for entry in report.engine] == [
            ("frame", 48, 32),
            ("face", 16, 16),
        ]
        for entry in report.engine:
            assert (entry.backend, entry.precision) == ("onnxruntime", "f32")
            assert tuple(figures.batch for figures in entry.batches) == BATCHES
            for figures in entry.batches:
                assert 0 < figures.images_per_s.min <= figures.images_per_s.median <= figures.images_per_s.max
                assert 0 < figures.batch_ms.p50 <= figures.batch_ms.p90
        assert report.model is not None
        assert report.model.fingerprint == model.fingerprint
        assert report.clip is None
        assert report.decode is report.preprocess is report.pipeline is msgspec.UNSET
        assert "onnxruntime f32" in shown(report)

    def test_only_the_entries_that_a_model_has(self, tmp_path: Path) -> None:
        write_partial_model(tmp_path, "identity")
        report = reported("engine", "--model", str(tmp_path), "--backend", "onnxruntime", *SHORT)
        assert not isinstance(report.engine, msgspec.UnsetType)
        assert [entry.entry for entry in report.engine] == ["face"]

    @pytest.mark.parametrize("what", ["preprocess", "pipeline"])
    def test_what_needs_a_frame_entry_is_refused_without(self, what: str, tmp_path: Path) -> None:
        write_partial_model(tmp_path, "identity")
        result = runner.invoke(app, ["benchmark", what, "--model", str(tmp_path)])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "error: model 'made' has no frame entry: it knows identity alone\n"

    @pytest.mark.integration
    def test_a_pipeline_that_names_nobody_is_measured_too(self, clip: Path, tmp_path: Path) -> None:
        write_partial_model(tmp_path, "scene")
        report = reported("pipeline", "--source", str(clip), "--model", str(tmp_path), "--seconds", "1.5", "--json")
        assert not isinstance(report.pipeline, msgspec.UnsetType)
        for figures in (report.pipeline.throughput, report.pipeline.latency):
            assert figures.frames > 0
            assert figures.run["face_entry"]["crops"] == 0
            assert (figures.objects_per_frame, figures.faces_per_frame) == (0.0, 0.0)

    def test_decoding_needs_no_model(self, clip: Path, tmp_path: Path) -> None:
        report = reported("decode", "--source", str(clip), "--model", str(tmp_path / "nowhere"), *SHORT)
        assert not isinstance(report.decode, msgspec.UnsetType)
        assert report.decode.frames > RATE  # it began again at the end of the file
        assert report.decode.frames_per_s.median > 0
        assert report.model is None
        assert report.clip is not None
        assert report.clip.source == str(clip)
        assert report.versions["av"] is not None
        assert report.machine.memory_bytes > 2**20
        assert "decode" in shown(report)

    def test_preprocessing_goes_to_the_size_of_the_model(self, clip: Path, tmp_path: Path) -> None:
        write_model(tmp_path)
        report = reported("preprocess", "--source", str(clip), "--model", str(tmp_path), *SHORT)
        assert not isinstance(report.preprocess, msgspec.UnsetType)
        assert (report.preprocess.width, report.preprocess.height) == (48, 32)
        assert 0 < report.preprocess.ms_per_frame.median < 100
        assert "preprocess to 48x32" in shown(report)

    @pytest.mark.integration
    def test_the_pipeline_is_heard_in_another_process(self, clip: Path, tmp_path: Path) -> None:
        write_constant_model(tmp_path)
        report = reported("pipeline", "--source", str(clip), "--model", str(tmp_path), "--seconds", "1.5", "--json")
        assert not isinstance(report.pipeline, msgspec.UnsetType)
        for figures in (report.pipeline.throughput, report.pipeline.latency):
            (account,) = figures.run["streams"].values()
            assert account["captured"] == account["published"] + sum(account["dropped"].values())
            assert figures.received + figures.missed == account["published"]
            assert 0 < figures.frames < figures.received
            assert figures.cpu_ms_per_frame.median > 0
            assert figures.latency_ms["total"].p50 >= figures.latency_ms["infer"].p50
            assert figures.run["face_entry"]["crops"] > 0
            assert (figures.objects_per_frame, figures.faces_per_frame) == (1.0, 1.0)
        assert report.pipeline.throughput.frames_per_s.median > 1.5 * RATE
        assert report.pipeline.latency.frames_per_s.median < 1.5 * RATE
        assert "In real time" in shown(report)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            pytest.param(["engine"], "cannot read spec.json", id="no model"),
            pytest.param(["decode", "--source", "nowhere.mp4"], "'nowhere.mp4' does not exist", id="no file"),
            pytest.param(["decode", "--source", "0"], "--source is '0', but must be a file", id="a camera"),
        ],
    )
    def test_what_cannot_be_measured_is_one_sentence(self, arguments: list[str], sentence: str, tmp_path: Path) -> None:
        result = runner.invoke(app, ["benchmark", *arguments, "--model", str(tmp_path / "nowhere")])
        assert (result.exit_code, result.stdout) == (2, "")
        assert sentence in result.stderr
        assert result.stderr.count("\n") == 1

    def test_an_unknown_part_is_refused(self) -> None:
        result = runner.invoke(app, ["benchmark", "everything"])
        assert result.exit_code == 2
        assert "everything" in result.stderr

    def test_an_empty_report_shows_the_machine(self) -> None:
        report = begin(None, 1.0)
        assert report.machine.cpu.name in shown(report)


@pytest.mark.integration
def test_a_subscriber_that_died_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    with Listener() as listener:
        listener.start("tcp://nobody listens here")  # it cannot connect, and says so itself
        with pytest.raises(StageError, match="subscriber died"):
            listener.hearing()
    assert "ConfigError" in capfd.readouterr().err
