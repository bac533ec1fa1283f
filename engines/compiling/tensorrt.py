"""A model's TensorRT engines, built ahead of their first run, and kept only where they hold what the model promises.

An engine belongs to the machine that it is built on, so it lies in that machine's cache, not in the model folder. What
a model folder can hold for TensorRT are int8 files, which :func:`engines.compiling.gate.compile_int8` makes on any
machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.backends.trt_cache import cache_folder
from engines.compiling.parity import Parity, check_parity
from engines.compiling.release import parity_pictures
from engines.engine import require_backend
from engines.errors import DataError, EngineError
from engines.evaluation.report import evaluate_model, headlines
from engines.evaluation.truth import Truth, configured_truth
from engines.spec import GateFigure, Model, load_model
from engines.training.settings import TrainingSettings

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What came of it: parity for f32, figures for f16 and int8."""

    model: Model
    precision: str
    device: str
    cache: Path
    parity: Sequence[Parity]
    figures: Sequence[GateFigure]


def compile_tensorrt(
    folder: Path,
    data: Path,
    precision: Literal["f32", "f16", "int8"],
    *,
    settings: TrainingSettings | None = None,
    tolerance: float,
    workspace: int = 0,
    version_compatible: bool = False,
    told: Told = lambda text: None,
) -> Compiled:
    """Build the engines of a model's entries on this machine and check them.

    Args:
        folder: the model; for int8, with its files for TensorRT.
        data: folder with the validation data.
        precision: f32 must give what PyTorch gives, the others must keep the figures.
        settings: a training configuration that says where in the folder the data is; None: the standard layout.
        tolerance: the greatest share of a headline figure of any task that f16 and int8 may lose against f32.
        workspace: bytes that an engine may use beside its tensors; 0: all that the GPU has.
        version_compatible: whether the engines load in later TensorRT versions of the same major one.
        told: called with a line at each step.

    Raises:
        BackendUnavailable: TensorRT or a GPU is missing.
        ModelError: the model is damaged, or TensorRT cannot run it.
        DataError: the data is missing or too broken.
        EngineError: building failed, or what was built gives something else than it should.
    """
    require_backend("tensorrt")  # first: what is missing is said at once
    model = load_model(folder)
    tasks = model.spec.network.tasks
    truth = configured_truth(settings, data, tasks)
    device = _build(model, precision, workspace, version_compatible, told)
    parity: Sequence[Parity] = []
    figures: Sequence[GateFigure] = []
    if precision == "f32":
        told("checking parity")
        parity = check_parity(model, ["tensorrt"], *parity_pictures(truth, model.spec.network))
    else:
        figures = _figures(model, truth, precision, told)
        _refuse_losses(model, precision, figures, tolerance)
    return Compiled(model, precision, device, cache_folder(), parity, figures)


def _build(
    model: Model, precision: Literal["f32", "f16", "int8"], workspace: int, version_compatible: bool, told: Told
) -> str:
    """Build what the cache does not have; the GPU that it was built on."""
    # Imported here: TensorRT is loaded only when it is asked for.
    from engines.backends.trt import TensorRtEngine
    from engines.backends.trt_build import Building

    building = Building(workspace=workspace, version_compatible=version_compatible)
    for entry in model.spec.network.entries:
        told(f"building the {entry} entry")
        with TensorRtEngine(model, entry, precision, building=building) as engine:
            device = engine.device
    return device


def _figures(model: Model, truth: Truth, precision: Literal["f16", "int8"], told: Told) -> list[GateFigure]:
    tasks = model.spec.network.tasks
    told("measuring f32 in ONNX Runtime")
    f32 = headlines(evaluate_model(model, truth, backend="onnxruntime", precision="f32", tasks=tasks))
    if not f32:
        raise DataError(f"{truth.name}: has nothing that says what {precision} costs this model")
    told(f"measuring {precision} in TensorRT")
    found = headlines(evaluate_model(model, truth, backend="tensorrt", precision=precision, tasks=tasks))
    figures = []
    for line, value in f32.items():
        other = found.get(line, line.worst)
        figures.append(GateFigure(line.task, line.figure, "tensorrt", value, other, line.loss(value, other)))
    return figures


def _refuse_losses(model: Model, precision: str, figures: Sequence[GateFigure], tolerance: float) -> None:
    lost = [each for each in figures if not each.loss <= tolerance]  # nor one that is not a number
    if lost:
        told = ", ".join(f"{each.task} {each.figure} {each.f32:.4f} -> {each.int8:.4f}" for each in lost)
        raise EngineError(
            f"model {model.path}: {precision} in TensorRT loses more than {tolerance:.1%} of these figures: {told}"
        )
