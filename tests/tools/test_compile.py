import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import torch

from engines.comparing import Gap
from engines.compiling import gate, tensorrt
from engines.compiling import release as releasing
from engines.compiling.parity import Parity
from engines.compiling.release import Released
from engines.compiling.tensorrt import Compiled
from engines.evaluation.report import EvaluationReport
from engines.spec import GateFigure, Model, Quantised, QuantisedFile, ScoreCurves, Thresholds, load_model
from engines.tasks.scene.metrics import SceneScores
from tests.engines.made_models import write_model
from tests.tools import command_line

GAPS = {"boxes": Gap(0.01, "pixels"), "scores": Gap(1e-5, "score"), "embeddings": Gap(0.99999, "cosine")}
PARITY = Parity("onnxruntime", 3, 2, GAPS)
run, done, refused = command_line.of("compile")


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for the work, which has tests of its own; holds what it was asked for."""
    given: dict[str, Any] = {}
    model = write_model(tmp_path / "made")
    report = EvaluationReport(
        model="made",
        fingerprint=model.fingerprint,
        backend="onnxruntime",
        precision="f32",
        device="CPU",
        data="data",
        limit=None,
        thresholds=Thresholds(),
        scene=SceneScores(
            top1=0.5,
            top5=1.0,
            ece=0.1,
            ece_bins=15,
            intervals={},
            top1_by_label={"street": 0.5},
            labels=["street"],
            confusion=[[2]],
            pictures=2,
            worst=[],
            skipped=[],
        ),
        seconds=1.0,
    )

    def release(checkpoint: Path, data: Path, out: Path, **options: Any) -> Released:
        options.pop("told")("measuring")
        given.update(checkpoint=checkpoint, data=data, out=out, **options)
        return Released(model, [PARITY], report)

    monkeypatch.setattr(releasing, "release", release)
    return given


def test_width_comes_first_on_the_command_line_and_height_in_the_network(asked: dict[str, Any]) -> None:
    result = run(
        "c.pt", "--out", "zoo/n", "--data", "d", "--frame-size", "640x384", "--name", "wide", "--note", "Read me."
    )
    assert result.exit_code == 0, result.output
    assert asked == {
        "checkpoint": Path("c.pt"),
        "data": Path("d"),
        "out": Path("zoo/n"),
        "frame_size": (384, 640),
        "name": "wide",
        "note": "Read me.",
    }
    assert "onnxruntime: boxes within 0.0100 px" in result.stdout and "zoo/n: " in result.stdout
    assert "measuring ..." in result.stderr


def test_json_goes_to_stdout_alone(asked: dict[str, Any]) -> None:
    found = json.loads(done("c.pt", "--out", "zoo/n", "--data", "d", "--json"))
    assert found["model"] == "zoo/n" and len(found["fingerprint"]) == 16
    assert found["parity"][0]["gaps"]["embeddings"] == {"value": 0.99999, "kind": "cosine"}
    assert found["figures"]["scene"]["top1"] == 0.5 and "objects" not in found["figures"]
    assert asked["frame_size"] == (320, 320) and asked["name"] is None


@pytest.mark.parametrize(
    "size", ["320", "320x", "x320", "320x320x3", "300x320", "0x320", "-32x32", "320×320", "axb", ""]
)
def test_a_bad_frame_size_is_refused_before_anything_is_read(tmp_path: Path, size: str) -> None:
    sentence = refused("nowhere.pt", "--out", tmp_path / "n", "--data", "d", f"--frame-size={size}")
    assert f"--frame-size is {size!r}, but must be WIDTHxHEIGHT in multiples of 32" in sentence


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    sentence = refused(tmp_path / "nowhere.pt", "--out", tmp_path / "n", "--data", tmp_path)
    assert "nowhere.pt: cannot be read: No such file" in sentence
    assert not (tmp_path / "n").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "weights.pt")
    sentence = refused(tmp_path / "weights.pt", "--out", tmp_path / "n", "--data", tmp_path)
    assert "weights.pt: is damaged or no checkpoint of a training run" in sentence


@pytest.mark.parametrize("missing", ["--out", "--data"])
def test_what_must_be_said_is_asked_for(missing: str) -> None:
    given = [word for option in ("--out", "--data") if option != missing for word in (option, "x")]
    result = run("c.pt", *given)
    assert result.exit_code == 2 and missing in result.output


@pytest.fixture
def quantised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for the gate, which has tests of its own; holds what it was asked for."""
    given: dict[str, Any] = {}
    model = write_model(tmp_path / "made")
    files = {
        "frame": QuantisedFile(
            "frame.int8.onnx", "00", 44, ("/stem/Conv", "/down/Conv"), {"detection/images/train": 64}
        ),
        "face": QuantisedFile("face.int8.onnx", "11", 17, (), {"face_recognition/train": 64}),
    }
    figures = (GateFigure("faces", "ap50", "openvino", 0.6, 0.597, 0.005),)
    done = Model(model.path, msgspec.structs.replace(model.spec, int8=Quantised(files, 0.01, figures)))

    def compile_int8(folder: Path, data: Path, **options: Any) -> Model:
        options.pop("told")("calibrating")
        given.update(folder=folder, data=data, **options)
        return done

    monkeypatch.setattr(gate, "compile_int8", compile_int8)
    return given


def test_int8_shows_the_gates_figures_and_the_layers_in_float(tmp_path: Path, quantised: dict[str, Any]) -> None:
    result = run(tmp_path, "--precision", "int8", "--data", "d")
    assert result.exit_code == 0, result.output
    asked = {"folder": tmp_path, "data": Path("d"), "settings": None, "tolerance": 0.01, "pictures": 256}
    assert quantised == {**asked, "form": "cpu"}
    assert "calibrating ..." in result.stderr
    assert "0.6000" in result.stdout and "0.5970" in result.stdout and "+0.50%" in result.stdout
    assert "frame.int8.onnx: 42 of 44 layers in int8, in float: /stem/Conv, /down/Conv" in result.stdout
    assert "face.int8.onnx: 17 of 17 layers in int8\n" in result.stdout


def test_int8_as_json(tmp_path: Path, quantised: dict[str, Any]) -> None:
    options = "--precision", "int8", "--data", "d", "--tolerance", "0", "--images", "8", "--json"
    found = json.loads(done(tmp_path, *options))["int8"]
    assert (quantised["tolerance"], quantised["pictures"]) == (0.0, 8)
    assert found["files"]["frame"]["float_layers"] == ["/stem/Conv", "/down/Conv"]
    assert found["figures"][0]["loss"] == 0.005


@pytest.mark.parametrize("option", ["--out", "--frame-size", "--name", "--note"])
def test_what_a_checkpoint_needs_does_not_fit_int8(tmp_path: Path, option: str) -> None:
    sentence = refused(tmp_path, "--precision", "int8", "--data", "d", option, "64x64")
    assert sentence == f"error: {option} has no meaning with --precision int8"


@pytest.mark.parametrize("option", ["--tolerance", "--images"])
def test_what_int8_needs_does_not_fit_a_checkpoint(tmp_path: Path, option: str) -> None:
    sentence = refused("c.pt", "--out", tmp_path / "n", "--data", "d", option, "1")
    assert sentence == f"error: {option} has no meaning with --precision f32"


def test_int8_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    sentence = refused(tmp_path / "checkpoint.pt", "--precision", "int8", "--data", "d")
    assert "--precision int8 needs a model folder" in sentence and "checkpoint.pt" in sentence


def test_a_model_folder_needs_int8_said(tmp_path: Path) -> None:
    sentence = refused(tmp_path, "--out", tmp_path / "n", "--data", "d")
    assert "--precision f32 needs a checkpoint" in sentence and "--precision int8" in sentence


def test_a_released_model_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = refused("n", "--out", tmp_path / "out", "--data", "d")
    assert "--precision f32 needs a checkpoint" in sentence
    assert "zoo/n is a folder" in sentence


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    sentence = refused(tmp_path, "--precision", "int8", "--data", tmp_path)
    assert "cannot read spec.json" in sentence


def test_an_install_without_torch_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("release", "export"):
        monkeypatch.delitem(sys.modules, f"engines.compiling.{name}")
    monkeypatch.setitem(sys.modules, "torch", None)
    sentence = refused("c.pt", "--out", tmp_path / "n", "--data", "d")
    assert "compile needs torch, not installed: pip install 'trunkline[train]'" in sentence


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantised: dict[str, Any]) -> dict[str, Any]:
    """Stands in for the builder, which has tests of its own; holds what it was asked for."""
    given: dict[str, Any] = {}
    model = load_model(tmp_path / "made")

    def compile_tensorrt(folder: Path, data: Path, precision: str, **options: Any) -> Compiled:
        options.pop("told")("building")
        given.update(folder=folder, data=data, precision=precision, **options)
        figures = (GateFigure("faces", "ap50", "tensorrt", 0.6, 0.597, 0.005),)
        f32 = precision == "f32"
        checked = ([PARITY], []) if f32 else ([], figures)
        return Compiled(model, precision, "Made GPU (GPU 0)", Path("/cache"), *checked)

    monkeypatch.setattr(tensorrt, "compile_tensorrt", compile_tensorrt)
    return given


@pytest.mark.parametrize(("said", "meant"), [("fp16", "f16"), ("f16", "f16"), ("fp32", "f32"), ("f32", "f32")])
def test_engines_for_tensorrt(tmp_path: Path, built: dict[str, Any], said: str, meant: str) -> None:
    shown = done(tmp_path / "made", "--backend", "tensorrt", "--precision", said, "--data", "d", "--workspace", 512)
    assert built == {
        "folder": tmp_path / "made",
        "data": Path("d"),
        "precision": meant,
        "settings": None,
        "tolerance": 0.01,
        "workspace": 512 * 2**20,
        "version_compatible": False,
    }
    assert ("boxes within 0.0100 px" in shown) == (meant == "f32")
    assert ("0.5970" in shown) == (meant == "f16")
    assert "Made GPU (GPU 0): engines of" in shown


def test_engines_for_tensorrt_as_json(tmp_path: Path, built: dict[str, Any]) -> None:
    options = "--backend", "tensorrt", "--precision", "fp16", "--data", "d", "--version-compatible", "--json"
    found = json.loads(done(tmp_path / "made", *options))
    assert built["version_compatible"] is True
    assert (found["device"], found["precision"], found["cache"]) == ("Made GPU (GPU 0)", "f16", "/cache")
    assert found["figures"][0]["loss"] == 0.005 and found["parity"] == []


def test_int8_for_tensorrt_makes_its_files_where_there_are_none(
    tmp_path: Path, built: dict[str, Any], quantised: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_files(monkeypatch)
    monkeypatch.setattr(gate, "tensorrt_runs", lambda: True)
    options = "--backend", "tensorrt", "--precision", "int8", "--data", "d", "--tolerance", "0.02", "--images", "8"
    done(tmp_path / "made", *options)
    assert (quantised["form"], quantised["tolerance"], quantised["pictures"]) == ("tensorrt", 0.02, 8)
    assert (built["precision"], built["tolerance"]) == ("int8", 0.02)


def test_int8_for_tensorrt_without_it_stops_at_the_files(
    tmp_path: Path, built: dict[str, Any], quantised: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_files(monkeypatch)
    monkeypatch.setattr(gate, "tensorrt_runs", lambda: False)
    result = run(tmp_path / "made", "--backend", "tensorrt", "--precision", "int8", "--data", "d")
    assert result.exit_code == 0, result.output
    assert built == {}
    assert "the files are made; engines are built of them where TensorRT is" in result.stderr
    assert "frame.int8.onnx: 42 of 44 layers in int8" in result.stdout


def with_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stand-in of the gate made are files for TensorRT."""
    before = gate.compile_int8

    def compile_int8(*arguments: Any, **options: Any) -> Model:
        done = before(*arguments, **options)
        return Model(done.path, msgspec.structs.replace(done.spec, int8=None, int8_tensorrt=done.spec.int8))

    monkeypatch.setattr(gate, "compile_int8", compile_int8)


@pytest.mark.parametrize(
    ("case", "options", "sentence"),
    [
        ("a checkpoint's option", ["--out", "o"], "--out has no meaning with --backend tensorrt"),
        ("nothing to calibrate", ["--images", "8"], "--images has no meaning with --precision fp16"),
        ("no folder", [], "--backend tensorrt needs a model folder, nowhere is none"),
    ],
)
def test_what_does_not_fit_engines(case: str, options: list[str], sentence: str) -> None:
    said = refused("nowhere", "--backend", "tensorrt", "--precision", "fp16", "--data", "d", *options)
    assert sentence in said, case


@pytest.mark.parametrize("option", [["--workspace", "8"], ["--version-compatible"]])
def test_what_engines_need_does_not_fit_files(tmp_path: Path, option: list[str]) -> None:
    sentence = refused(tmp_path, "--precision", "int8", "--data", "d", *option)
    assert sentence == f"error: {option[0]} has no meaning without --backend tensorrt"


def test_f16_is_for_tensorrt(tmp_path: Path) -> None:
    assert "--precision fp16 is for --backend tensorrt" in refused(tmp_path, "--precision", "fp16", "--data", "d")


def test_without_tensorrt_it_says_what_is_missing(tmp_path: Path) -> None:
    model = write_model(tmp_path / "made")
    (tmp_path / "d").mkdir()
    sentence = refused(model.path, "--backend", "tensorrt", "--precision", "fp16", "--data", tmp_path / "d")
    assert "backend 'tensorrt' cannot run: this machine has no NVIDIA GPU" in sentence


def test_scores_are_calibrated_in_the_folder_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.evaluation import report
    from engines.evaluation.parts import Calibrated

    model = write_model(tmp_path / "made")
    folder, count = model.path, len(model.spec.objects)
    curves = ScoreCurves("sigmoid", (0.0, 1.0), ((0.0, 0.5),) * count)
    chosen = Thresholds(object_score=0.4, object_scores=(0.4,) * count, object_curves=curves)
    monkeypatch.setattr(report, "calibrate_scores", lambda model, data: Calibrated(chosen, None))
    assert "sigmoid" in done(folder, "--calibrate", "--data", tmp_path)
    assert load_model(folder).spec.thresholds == chosen
    assert "--calibrate needs a model folder" in refused(tmp_path / "checkpoint.pt", "--calibrate", "--data", tmp_path)
    assert "--out has no meaning with --calibrate" in refused(
        folder, "--calibrate", "--data", tmp_path, "--out", tmp_path / "x"
    )
