"""``trunkline compile``: a checkpoint becomes a model folder, a model folder gets its int8 files, or engines."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engines.errors import BackendUnavailable, ConfigError
from engines.spec import load_model, write_spec
from engines.zoo import model_folder
from tools.output import print_json

if TYPE_CHECKING:
    from engines.compiling.quantise import Form
    from engines.compiling.release import Released
    from engines.compiling.tensorrt import Compiled
    from engines.spec import GateFigure, Model

FRAME_SIZE = "320x320"
MIB = 2**20
# NVIDIA's names for them are understood, too.
ARITHMETIC: dict[str, Literal["f32", "f16", "int8"]] = {
    **{"f32": "f32", "f16": "f16", "int8": "int8"},
    **{"fp32": "f32", "fp16": "f16"},
}


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the accuracy gates are told."""

    data: Path
    tolerance: float | None
    images: int | None
    config: Path | None


SourceOption = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="checkpoint.pt of a training run, or a model folder."),
]
DataOption = Annotated[Path, typer.Option(help="Folder with the data: for thresholds, parity, calibration, figures.")]
BuildOption = Annotated[
    Literal["tensorrt"] | None,
    typer.Option(help="Build a model folder's engines for it on this machine; for int8, make their files before."),
]
PrecisionOption = Annotated[
    Literal["f32", "f16", "int8", "fp32", "fp16"],
    typer.Option(
        help="Without --backend f32 makes a model folder of a checkpoint, int8 adds its quantised form to one."
    ),
]
OutOption = Annotated[Path | None, typer.Option(help="f32: the model folder to make.")]
FrameSizeOption = Annotated[
    str | None,
    typer.Option(help=f"f32: width x height of the frame entry, multiples of 32; default {FRAME_SIZE}."),
]
NameOption = Annotated[str | None, typer.Option(help="f32: name of the model; default the training run's.")]
NoteOption = Annotated[str | None, typer.Option(help="f32: for the model card, what else one must know.")]
ToleranceOption = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="int8, f16: the share of a task's figure that may be lost; default 0.01."),
]
ImagesOption = Annotated[
    int | None, typer.Option(min=1, help="int8: training pictures to calibrate each entry on; default 256.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(help="Training configuration that says where the data is; default the standard folders."),
]
WorkspaceOption = Annotated[
    int | None, typer.Option(min=1, help="tensorrt: MiB of the GPU that an engine may use beside its tensors.")
]
VersionCompatibleOption = Annotated[
    bool | None,
    typer.Option("--version-compatible", help="tensorrt: engines that later versions load, too; may be slower."),
]
CalibrateOption = Annotated[
    bool,
    typer.Option("--calibrate", help="Of a model folder: choose anew on DATA what scores mean, and the thresholds."),
]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print what came of it as JSON.")]


def compile_model(
    source: SourceOption,
    data: DataOption,
    backend: BuildOption = None,
    precision: PrecisionOption = "f32",
    out: OutOption = None,
    frame_size: FrameSizeOption = None,
    name: NameOption = None,
    note: NoteOption = None,
    tolerance: ToleranceOption = None,
    images: ImagesOption = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    version_compatible: VersionCompatibleOption = None,
    calibrate: CalibrateOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Make a model folder: ONNX files, thresholds, parity with PyTorch, figures, card. Or add its int8 form.

    The folder is changed only when all checks hold: parity for f32, the accuracy gate for int8.

    With --backend tensorrt, build the engines of a model folder for the GPU of this machine, and check them. The int8
    files for it are made and checked on any machine.

    Example: trunkline compile runs/n/checkpoint.pt --out runs/model --data DIR

    With --calibrate, of a model folder: fit the curves that turn scores into probabilities, and take the thresholds
    with the best F1, which spec.json then holds for all forms of the model. A checkpoint's are chosen in any case.

    Example: trunkline compile runs/model --precision int8 --data DIR

    Example: trunkline compile runs/model --calibrate --data DIR

    Example: trunkline compile runs/model --backend tensorrt --precision fp16 --data DIR
    """
    source, arithmetic = model_folder(source), ARITHMETIC[precision]
    of_f32: dict[str, object] = {"--out": out, "--frame-size": frame_size, "--name": name, "--note": note}
    of_int8: dict[str, object] = {"--images": images}
    of_figures: dict[str, object] = {"--tolerance": tolerance}
    of_tensorrt: dict[str, object] = {"--workspace": workspace, "--version-compatible": version_compatible}
    if calibrate:
        _refuse_given({**of_f32, **of_int8, **of_figures, **of_tensorrt, "--backend": backend}, "--calibrate")
        _need_folder(source, "--calibrate")
        _calibrate(source, data, config, as_json=as_json)
        return
    if backend == "tensorrt":
        _refuse_given(of_f32, "--backend tensorrt")
        _refuse_given({} if arithmetic == "int8" else of_int8, f"--precision {precision}")
        _refuse_given({} if arithmetic != "f32" else of_figures, f"--precision {precision}")
        _need_folder(source, "--backend tensorrt")
        options = Options(data, tolerance, images, config)
        _tensorrt(source, arithmetic, options, (workspace or 0) * MIB, bool(version_compatible), as_json=as_json)
        return
    for option, value in of_tensorrt.items():
        if value is not None:
            raise ConfigError(f"{option} has no meaning without --backend tensorrt")
    if arithmetic == "int8":
        _refuse_given(of_f32, "--precision int8")
        _need_folder(source, "--precision int8")
        _show_int8(_int8(source, Options(data, tolerance, images, config), "cpu"), "int8", as_json=as_json)
        return
    if arithmetic == "f16":
        raise ConfigError(f"--precision {precision} is for --backend tensorrt; on CPUs, engines take f32 or int8 files")
    _refuse_given({**of_int8, **of_figures, "--config": config}, "--precision f32")
    made = _out_of(source, out)
    released = _f32(source, data, made, FRAME_SIZE if frame_size is None else frame_size, name, note or "")
    _show_f32(released, made, as_json=as_json)


def _out_of(checkpoint: Path, out: Path | None) -> Path:
    """Return the folder to make of a checkpoint; ConfigError where there is no checkpoint, or no folder is named."""
    if checkpoint.is_dir():
        raise ConfigError(
            f"--precision f32 needs a checkpoint, {checkpoint} is a folder; a model's int8 is --precision int8"
        )
    if out is None:
        raise ConfigError("--out is missing: the model folder to make of the checkpoint")
    return out


def _need_folder(source: Path, option: str) -> None:
    if not source.is_dir():
        raise ConfigError(f"{option} needs a model folder, {source} is none; make one with --precision f32")


def _refuse_given(options: Mapping[str, object], what: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise ConfigError(f"{option} has no meaning with {what}")


def _f32(checkpoint: Path, data: Path, out: Path, frame_size: str, name: str | None, note: str) -> "Released":
    width, height = size_of(frame_size, "--frame-size")
    try:
        from engines.compiling.release import release
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return release(checkpoint, data, out, frame_size=(height, width), name=name, note=note, told=_tell)


def _int8(folder: Path, options: Options, form: "Form") -> "Model":
    try:
        from engines.compiling.gate import PICTURES, TOLERANCE, compile_int8
        from engines.training.settings import load_settings
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return compile_int8(
        folder,
        options.data,
        settings=load_settings(options.config) if options.config else None,
        tolerance=TOLERANCE if options.tolerance is None else options.tolerance,
        pictures=options.images or PICTURES,
        form=form,
        told=_tell,
    )


def _calibrate(folder: Path, data: Path, config: Path | None, *, as_json: bool) -> None:
    try:
        from engines.evaluation.report import calibrate_scores
        from engines.evaluation.truth import configured_truth
        from engines.training.settings import load_settings
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    model = load_model(folder)
    truth = configured_truth(load_settings(config), data, ("objects", "faces")) if config else data
    thresholds = calibrate_scores(model, truth).thresholds
    write_spec(msgspec.structs.replace(model.spec, thresholds=thresholds), folder)
    if as_json:
        print_json({"model": str(folder), "fingerprint": model.fingerprint, "thresholds": thresholds})
        return
    if thresholds.object_scores is not None and thresholds.object_curves is not None:
        told = zip(model.spec.objects, thresholds.object_scores, strict=True)
        typer.echo(
            f"objects: {thresholds.object_curves.method} curves; {', '.join(f'{name} {at}' for name, at in told)}"
        )
    if thresholds.face_curve is not None:
        typer.echo(f"faces: {thresholds.face_curve.method} curve; {thresholds.face_score}")


def _tensorrt(
    folder: Path,
    precision: Literal["f32", "f16", "int8"],
    options: Options,
    workspace: int,
    version_compatible: bool,
    *,
    as_json: bool,
) -> None:
    try:
        from engines.compiling.gate import TOLERANCE, tensorrt_runs
        from engines.compiling.tensorrt import compile_tensorrt
        from engines.training.settings import load_settings
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    if precision == "int8" and load_model(folder).spec.int8_tensorrt is None:
        model = _int8(folder, options, "tensorrt")
        if not tensorrt_runs():
            _tell("the files are made; engines are built of them where TensorRT is")
            _show_int8(model, "int8_tensorrt", as_json=as_json)
            return
    done = compile_tensorrt(
        folder,
        options.data,
        precision,
        settings=load_settings(options.config) if options.config else None,
        tolerance=TOLERANCE if options.tolerance is None else options.tolerance,
        workspace=workspace,
        version_compatible=version_compatible,
        told=_tell,
    )
    _show_tensorrt(done, as_json=as_json)


def _missing(error: ModuleNotFoundError) -> BackendUnavailable:
    return BackendUnavailable(f"compile needs {error.name}, not installed: pip install 'trunkline[train]'")


def _tell(text: str) -> None:
    typer.echo(f"{text} ...", err=True)


def _show_f32(done: "Released", out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "model": str(out),
                "fingerprint": done.model.fingerprint,
                "parity": [dataclasses.asdict(each) for each in done.parity],
                "figures": done.report,
            }
        )
        return
    for each in done.parity:
        typer.echo(f"{each.backend}: {', '.join(f'{name} {gap}' for name, gap in each.summary.items())}")
    typer.echo(f"{out}: {done.model.fingerprint}")


def _show_int8(model: "Model", field: Literal["int8", "int8_tensorrt"], *, as_json: bool) -> None:
    int8 = model.spec.int8 if field == "int8" else model.spec.int8_tensorrt
    assert int8 is not None  # it was just made
    if as_json:
        print_json({"model": str(model.path), "fingerprint": model.fingerprint, field: int8})
        return
    _show_figures(int8.figures, "int8")
    for file in int8.files.values():
        kept = f", in float: {', '.join(file.float_layers)}" if file.float_layers else ""
        typer.echo(f"{file.file}: {file.layers - len(file.float_layers)} of {file.layers} layers in int8{kept}")


def _show_tensorrt(done: "Compiled", *, as_json: bool) -> None:
    if as_json:
        told = {"model": str(done.model.path), "fingerprint": done.model.fingerprint, "device": done.device}
        checked = {"parity": [dataclasses.asdict(each) for each in done.parity], "figures": done.figures}
        print_json({**told, "precision": done.precision, "cache": str(done.cache), **checked})
        return
    for each in done.parity:
        typer.echo(f"{each.backend}: {', '.join(f'{name} {gap}' for name, gap in each.summary.items())}")
    if done.figures:
        _show_figures(done.figures, done.precision)
    typer.echo(f"{done.device}: engines of {done.model.path} in {done.precision} lie in {done.cache}")


def _show_figures(figures: Sequence["GateFigure"], precision: str) -> None:
    table = Table("task", "figure", "backend", "f32", precision, "lost")
    for each in figures:
        table.add_row(each.task, each.figure, each.backend, f"{each.f32:.4f}", f"{each.int8:.4f}", f"{each.loss:+.2%}")
    Console().print(table)


def size_of(text: str, option: str) -> tuple[int, int]:
    """Return width and height that an option says as WIDTHxHEIGHT; ConfigError unless both are multiples of 32."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 and int(side) % 32 == 0 for side in sides):
        raise ConfigError(f"{option} is {text!r}, but must be WIDTHxHEIGHT in multiples of 32, such as 320x320")
    return int(sides[0]), int(sides[1])
