import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog
from typer.testing import CliRunner

from engines.backends.ort import OnnxRuntimeEngine
from tests.engines.made_models import write_model, write_partial_model
from tests.tools.benchmarking.made_reports import make_report
from tests.tools.made_network import write_constant_model
from tools import benchmark
from tools.benchmarking import streams
from tools.benchmarking.clip import RATE, render
from tools.benchmarking.engine import BATCHES
from tools.benchmarking.figures import Spread
from tools.benchmarking.report import BenchmarkReport
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


def reported(*arguments: str) -> BenchmarkReport:
    result = runner.invoke(app, ["--log-level", "error", "benchmark", *arguments])
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout, type=BenchmarkReport)


def refused(*arguments: str) -> str:
    result = runner.invoke(app, ["benchmark", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr


class TestParts:
    def test_the_engine_by_batch_for_both_entries(self, tmp_path: Path) -> None:
        model = write_model(tmp_path)
        report = reported("engine", "--model", str(tmp_path), "--backend", "onnxruntime", *SHORT)
        sizes = [(entry.entry, entry.width, entry.height) for entry in report.engine.entries]
        assert sizes == [("frame", 48, 32), ("face", 16, 16)]
        for entry in report.engine.entries:
            assert (entry.backend, entry.precision) == ("onnxruntime", "f32")
            assert entry.depth >= 1
            assert tuple(figures.batch for figures in entry.batches) == BATCHES
            for figures in entry.batches:
                assert 0 < figures.images_per_s.min <= figures.images_per_s.median <= figures.images_per_s.max
                assert 0 < figures.batch_ms.p50 <= figures.batch_ms.p90
                assert figures.cpu_ms_per_image.median > 0
        assert report.engine.refused == ()
        assert report.model is not None
        assert report.model.fingerprint == model.fingerprint
        assert report.clips == ()
        assert report.decode is report.preprocess is report.pipeline is report.scaling is msgspec.UNSET

    def test_several_engines_are_compared_and_what_cannot_run_is_told(self, tmp_path: Path) -> None:
        write_model(tmp_path)
        chosen = ("--backend", "openvino,onnxruntime", "--precision", "f32,f16")
        report = reported("engine", "--model", str(tmp_path), *chosen, *SHORT)
        ran = {f"{entry.backend} {entry.precision}" for entry in report.engine.entries}
        assert {"openvino f32", "onnxruntime f32"} <= ran
        assert any(why.startswith("onnxruntime f16: ") for why in report.engine.refused)

    def test_torch_with_and_without_its_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = []

        def open_made(model: object, entry: str, backend: str, precision: str, **how: object) -> OnnxRuntimeEngine:
            opened.append((entry, backend, how))
            return OnnxRuntimeEngine(model, entry, "f32")

        monkeypatch.setattr("tools.benchmarking.engine.open_engine", open_made)
        write_model(tmp_path)
        chosen = ("--backend", "onnxruntime,torch", "--torch-compile", "--gpu", "1")
        report = reported("engine", "--model", str(tmp_path), *chosen, *SHORT)
        assert [(backend, how["torch_compile"]) for entry, backend, how in opened if entry == "face"] == [
            ("onnxruntime", False),
            ("torch", False),
            ("torch", True),
        ]
        assert {how["gpu"] for _, _, how in opened} == {1}
        assert [entry.backend for entry in report.engine.entries[::2]] == ["onnxruntime"] * 2 + ["onnxruntime compiled"]

    def test_one_engine_that_cannot_run_is_refused(self, tmp_path: Path) -> None:
        write_model(tmp_path)
        chosen = ("--backend", "onnxruntime", "--precision", "f16")
        assert refused("engine", "--model", str(tmp_path), *chosen).startswith("error: ")

    def test_only_the_entries_that_a_model_has(self, tmp_path: Path) -> None:
        write_partial_model(tmp_path, "identity")
        report = reported("engine", "--model", str(tmp_path), "--backend", "onnxruntime", *SHORT)
        assert [entry.entry for entry in report.engine.entries] == ["face"]

    def test_decoding_needs_no_model(self, clip: Path, tmp_path: Path) -> None:
        sources = ("--source", str(clip), "--source", str(clip))
        report = reported("decode", *sources, "--model", str(tmp_path / "nowhere"), *SHORT)
        assert report.decode.frames > RATE  # it began again at the end of the file
        assert report.decode.frames_per_s.median > 0
        assert report.decode.frames_per_s_per_core.median > 0
        assert report.model is None
        assert [one.source for one in report.clips] == [str(clip)] * 2
        assert report.versions["av"] is not None
        assert report.machine.memory_bytes > 2**20

    def test_preprocessing_goes_to_the_size_of_the_model(self, clip: Path, tmp_path: Path) -> None:
        write_model(tmp_path)
        report = reported("preprocess", "--source", str(clip), "--model", str(tmp_path), "--repeats", "2", *SHORT)
        assert (report.preprocess.width, report.preprocess.height) == (48, 32)
        assert 0 < report.preprocess.ms_per_frame.median < 100
        assert len(report.preprocess.cpu_ms_per_frame.values) == report.repeats == 2

    def test_frames_between_processes_are_of_the_sources_size(
        self, clip: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def measured(*how: object) -> object:
            asked.append(how)
            return make_report().transport

        monkeypatch.setattr("tools.benchmarking.report.measure_transport", measured)
        reported("transport", "--source", str(clip), *SHORT)
        reported("transport", "--repeats", "2", *SHORT)
        assert asked == [(SIZE, 0.5, 3), ((1920, 1080), 0.5, 2)]


@pytest.mark.integration
class TestRuns:
    """Each run is a process of its own, and takes seconds to start."""

    def test_the_pipeline_is_held_against_its_limit(self, clip: Path, tmp_path: Path) -> None:
        write_constant_model(tmp_path)
        arguments = ("--source", str(clip), "--model", str(tmp_path), "--streams", "2", "--repeats", "1")
        report = reported("pipeline", *arguments, "--seconds", "1", "--json")
        for figures in (report.pipeline.throughput, report.pipeline.latency):
            (run,) = figures.runs
            accounts = run["streams"].values()
            assert len(accounts) == 2
            for account in accounts:
                assert account["captured"] == account["published"] + sum(account["dropped"].values())
            assert figures.received + figures.missed == sum(account["published"] for account in accounts)
            assert 0 < figures.frames < figures.received
            assert figures.cpu_ms_per_frame.median > 0
            assert figures.latency_ms["total"].p50 >= figures.latency_ms["infer"].p50
            assert figures.memory.peak_mib.median >= figures.memory.rss_mib.median > 10
            assert run["face_entry"]["crops"] > 0
            assert (figures.objects_per_frame, figures.faces_per_frame) == (1.0, 1.0)
        limit = report.pipeline.limit
        assert limit.batch_mean >= 1.0
        assert report.pipeline.ratio_to_limit == pytest.approx(
            report.pipeline.throughput.frames_per_s.median / limit.frames_per_s.median, rel=1e-3
        )
        assert report.pipeline.latency.frames_per_s.median < 3 * RATE  # two cameras

    def test_from_memory_the_pipeline_is_held_against_its_engine(self, clip: Path, tmp_path: Path) -> None:
        write_constant_model(tmp_path)
        arguments = ("--source", str(clip), "--model", str(tmp_path), "--streams", "2", "--repeats", "1")
        report = reported("pipeline", "--predecoded", "5", *arguments, "--seconds", "1", "--json")
        assert report.pipeline is msgspec.UNSET
        found = report.predecoded
        assert (found.streams, found.held, found.preprocess, found.engine_batch) == (2, 5, "cpu", 8)
        (run,) = found.throughput.runs
        assert all(account["captured"] > RATE for account in run["streams"].values()), "more than the file has"
        for account in run["streams"].values():
            assert account["captured"] == account["published"] + sum(account["dropped"].values())
        ratio = found.throughput.frames_per_s.median / found.engine_per_s.median
        assert found.ratio_to_engine == pytest.approx(ratio, rel=1e-2)

    def test_a_pipeline_that_names_nobody_is_measured_too(self, clip: Path, tmp_path: Path) -> None:
        write_partial_model(tmp_path, "scene")
        arguments = ("--source", str(clip), "--model", str(tmp_path), "--max-streams", "1", "--repeats", "1")
        report = reported("scaling", *arguments, "--seconds", "1", "--scaling-fps", "50", "--json")
        (row,) = report.scaling.rows
        assert row.streams == row.cpu_per_frame_to_one == 1.0
        assert 0 < row.frames_per_s.median < 1.3 * report.scaling.fps  # fewer where others are busy

    def test_latency_that_no_machine_holds_ends_the_search_early(
        self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "CHANCES", 1)
        write_partial_model(tmp_path, "scene")
        arguments = ("--source", str(clip), "--model", str(tmp_path), "--p99", "0.00001s", "--fps", "5")
        report = reported("streams", *arguments, *SHORT)
        assert report.streams.p99_ms == 0.01
        assert report.streams.most == 0
        (trial,) = report.streams.trials
        assert trial.streams == 1
        assert trial.seconds < 30.0  # of the sixty that 300 frames take


class TestRefusals:
    @pytest.mark.parametrize("what", ["preprocess", "pipeline", "streams", "scaling"])
    def test_what_needs_a_frame_entry_is_refused_without(self, what: str, tmp_path: Path) -> None:
        write_partial_model(tmp_path, "identity")
        sentence = "error: model 'made' has no frame entry: it knows identity alone\n"
        assert refused(what, "--model", str(tmp_path)) == sentence

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            pytest.param(["engine"], "cannot read spec.json", id="no model"),
            pytest.param(["decode", "--source", "nowhere.mp4"], "'nowhere.mp4' does not exist", id="no file"),
            pytest.param(["decode", "--source", "0"], "--source is '0', but must be a file", id="a camera"),
            pytest.param(
                ["engine", "--torch-compile"],
                "error: --torch-compile is for backend 'torch', but --backend is auto\n",
                id="a compiler for what has none",
            ),
            pytest.param(
                ["pipeline", "--predecoded", "5", "--links", "zmq"],
                "error: --links is 'zmq', but must be 'queue' with --predecoded\n",
                id="frames in memory, which are those of one process",
            ),
            pytest.param(
                ["pipeline", "--source", "CLIP", "--source", "CLIP", "--streams", "1"],
                "--streams is 1, but must be at least the number of --source, 2",
                id="fewer streams than sources",
            ),
            pytest.param(
                ["streams", "--detect-source", "CLIP"],
                "--detect-source is given 1 times, but must be given once for each --source, which is given 0 times",
                id="a smaller copy of nothing",
            ),
            pytest.param(
                ["streams", "--source", "CLIP", "--detect-source", "CLIP", "--seconds", "30"],
                "--seconds is 30, but must be at most 20 with --detect-source",
                id="longer than files that are played once",
            ),
        ],
    )
    def test_what_cannot_be_measured_is_one_sentence(
        self, arguments: list[str], sentence: str, clip: Path, tmp_path: Path
    ) -> None:
        given = [str(clip) if word == "CLIP" else word for word in arguments]
        said = refused(*given, "--model", str(tmp_path / "nowhere"))
        assert sentence in said
        assert said.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            pytest.param(["everything"], "everything", id="an unknown part"),
            pytest.param(["engine", "--backend", "openvino,abacus"], "'abacus' is not one of", id="an unknown backend"),
            pytest.param(["engine", "--precision", "f31"], "'f31' is not one of", id="an unknown precision"),
            pytest.param(["streams", "--p99", "soon"], "'soon' is no time", id="a time without a number"),
            pytest.param(["streams", "--p99", "0ms"], "'0ms' is no time", id="no time at all"),
        ],
    )
    def test_a_word_that_is_none(self, arguments: list[str], words: str) -> None:
        said = " ".join(refused(*arguments).replace("│", "").split())
        assert words in said

    @pytest.mark.parametrize("option", ["--plot", "--html", "--save"])
    def test_a_picture_without_matplotlib_is_refused_before_anything_is_measured(
        self, option: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert "install it with: pip install matplotlib" in refused("decode", option, str(tmp_path / "x"))


class TestFiles:
    @pytest.fixture(autouse=True)
    def _made_report(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(benchmark, "measure_parts", lambda wish, tell: make_report())
        monkeypatch.setattr("tools.benchmarking.plots.draw", lambda report: b"\x89PNG, made")

    def test_a_set_of_files_and_a_page_and_a_picture(self, tmp_path: Path) -> None:
        stem = tmp_path / "made" / "1.5x"  # a point in the name is not the suffix's
        files = ("--save", str(stem), "--html", str(tmp_path / "page.html"), "--plot", str(tmp_path / "plot.png"))
        result = runner.invoke(app, ["benchmark", *files])
        assert result.exit_code == 0, result.output
        assert sorted(path.name for path in stem.parent.iterdir()) == ["1.5x.json", "1.5x.md", "1.5x.png"]
        assert msgspec.json.decode((stem.parent / "1.5x.json").read_bytes(), type=BenchmarkReport).repeats == 3
        assert "](1.5x.png)" in (stem.parent / "1.5x.md").read_text()
        assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
        assert "Machine" in result.stdout

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "cannot be written" in refused("--plot", str(tmp_path / "file" / "plot.png"))


class TestCompare:
    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[str, str]:
        before = make_report()
        slow = msgspec.structs.replace(before.decode, cpu_ms_per_frame=Spread.of([90.0, 100.0, 110.0]))
        after = msgspec.structs.replace(before, decode=slow)
        for name, report in (("before", before), ("after", after)):
            (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(report))
        return str(tmp_path / "before.json"), str(tmp_path / "after.json")

    def test_what_got_worse_can_fail_a_script(self, files: tuple[str, str]) -> None:
        before, after = files
        worse = runner.invoke(app, ["benchmark", "compare", before, after, "--fail-on-regression"])
        assert worse.exit_code == 1
        assert "worse" in worse.stdout
        assert runner.invoke(app, ["benchmark", "compare", before, after]).exit_code == 0
        assert runner.invoke(app, ["benchmark", "compare", after, before, "--fail-on-regression"]).exit_code == 0
        assert runner.invoke(app, ["benchmark", "compare", before, before, "--fail-on-regression"]).exit_code == 0

    def test_a_comparison_as_json(self, files: tuple[str, str]) -> None:
        result = runner.invoke(app, ["benchmark", "compare", *files, "--json"])
        found = {change["figure"]: change for change in json.loads(result.stdout)["changes"]}
        assert found["decode.cpu_ms_per_frame"]["verdict"] == "worse"
        assert found["decode.cpu_ms_per_frame"]["change_percent"] == 900.0
        assert found["engine.entries[frame openvino bf16].batches[batch 8].images_per_s"]["verdict"] == "noise"
        assert found["post.cases[streams 8 objects 50 faces 10 named True].cpu_ms_per_frame"]["verdict"] == "noise"

    def test_a_file_that_is_missing_or_no_report(self, files: tuple[str, str], tmp_path: Path) -> None:
        assert "cannot be read" in refused("compare", files[0], str(tmp_path / "nowhere.json"))


def test_help_names_both_commands() -> None:
    text = runner.invoke(app, ["benchmark", "--help"]).stdout
    assert "benchmark [OPTIONS]" in text
    assert "compare BEFORE.json AFTER.json" in " ".join(text.split())
    assert "--fail-on-regression" in runner.invoke(app, ["benchmark", "compare", "--help"]).stdout
