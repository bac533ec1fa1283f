"""The int8 form of a model, kept only where no task loses more than is tolerated.

Layers that cost too much go back into float, the costliest first, until every task holds.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import track

from engines.arrays import Pictures
from engines.compiling.calibrating import Calibration, face_calibration, frame_calibration
from engines.compiling.card import with_int8
from engines.compiling.checking import made_check
from engines.compiling.quantise import Form, Quantiser
from engines.compiling.simulating import write_simulated
from engines.data.reading import spread
from engines.engine import require_backend
from engines.errors import BackendUnavailable, DataError, EngineError
from engines.evaluation.report import EvaluationReport, Headline, evaluate_model, headlines
from engines.evaluation.truth import Truth, configured_truth
from engines.hardware import cpu, int8_instructions
from engines.spec import (
    ENTRY_OF,
    OUTPUTS_OF,
    Backend,
    EntryName,
    EntrySpec,
    GateFigure,
    Model,
    Precision,
    Quantised,
    QuantisedFile,
    TaskName,
    load_model,
    sha256_of,
    write_spec,
)
from engines.training.settings import DatasetSettings, TrainingSettings

TOLERANCE: Final = 0.01
PICTURES: Final = 256  # to calibrate each entry on
BATCH = 4  # pictures whose activations are all in memory at once
STEP = 0.25  # of the error that is left goes with one round: a round costs less than a layer kept in float for nothing
COMPARED = 16  # pictures that the layers' errors are measured on
REFERENCE: Final = "onnxruntime"  # measures f32, which is the same everywhere but for rounding: parity was checked
SUFFIXES: dict[Form, str] = {"cpu": "int8", "tensorrt": "int8-tensorrt"}

Told = Callable[[str], None]


class Way(NamedTuple):
    """What runs the int8 files."""

    backend: Backend
    instructions: str | None = None  # that multiply in 8 bits, on CPUs
    simulated: bool = False  # in f32: what instructions that this processor does not have would give


def ways(form: Form) -> tuple[Way, ...]:
    """All that run files of a form: they round in different places, and where one keeps a figure the other may lose it.

    On a CPU both of its backends, and the instructions that it does not have, simulated. Since 7-bit weights cannot
    overflow, that is VNNI's arithmetic and AVX2's at once. TensorRT's files are made without it, too; then ONNX Runtime
    alone says what their arithmetic costs.
    """
    if form == "tensorrt":
        return (Way("onnxruntime"), *([Way("tensorrt")] if tensorrt_runs() else []))
    here = int8_instructions(cpu())
    other = "vnni" if here == "avx2" else "avx2"
    return Way("openvino", here), Way("onnxruntime", here), Way("onnxruntime", other, simulated=True)


class GateRow(NamedTuple):
    """A line of the gate's table."""

    headline: Headline
    way: Way


@dataclass(slots=True)
class QuantisedEntry:
    """An entry on its way to int8."""

    name: EntryName
    file: str  # of the f32 form
    tasks: list[TaskName]
    quantiser: Quantiser
    calibration: Calibration
    in_float: list[str] = field(default_factory=list)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)  # by layer, then output; measured when needed
    written: QuantisedFile | None = None  # the file as it lies in the folder, while it is up to date

    def put_back(self, failed: set[TaskName]) -> bool:
        """Put the layers that cost the ``failed`` tasks most into float; False where that would leave none in int8."""
        if not self.errors:
            sample = np.stack(spread(self.calibration.pictures, COMPARED))
            self.errors = dict(_shown(f"layers, {self.name} entry", self.quantiser, sample))
        in_int8 = {layer: errors for layer, errors in self.errors.items() if layer not in self.in_float}
        chosen = costliest(shares(in_int8, failed.intersection(self.tasks)))
        self.in_float += chosen
        self.written = None
        return bool(chosen) and len(self.in_float) < len(self.quantiser.layers)

    def write(self, folder: Path) -> QuantisedFile:
        """Write the int8 file as it is to be now, unless it lies there already."""
        if self.written is None:
            file, layers = self._int8(folder), self.quantiser.layers
            self.quantiser.write(file, self.in_float)
            self._simulated(folder).unlink(missing_ok=True)
            in_order = tuple(layer for layer in layers if layer in self.in_float)
            self.written = QuantisedFile(file.name, sha256_of(file), len(layers), in_order, self.calibration.counts)
        return self.written

    def simulated(self, spec: EntrySpec, folder: Path) -> EntrySpec:
        """Write the int8 file in f32 operators, and describe it as an f32 file."""
        file = self._simulated(folder)
        if not file.is_file():
            write_simulated(self._int8(folder), file)
        return msgspec.structs.replace(spec, file=file.name, sha256=sha256_of(file))

    def _int8(self, folder: Path) -> Path:
        return folder / f"{Path(self.file).stem}.{SUFFIXES[self.quantiser.form]}.onnx"

    def _simulated(self, folder: Path) -> Path:
        return folder / f"{Path(self.file).stem}.simulated.onnx"


def shares(errors: Mapping[str, Mapping[str, float]], tasks: Iterable[TaskName]) -> dict[str, float]:
    """What each layer brings to the error of each of the tasks, as a share of all layers' errors, summed over tasks.

    Args:
        errors: by layer, then by output of the entry (see :meth:`Quantiser.errors`).
        tasks: those that count.
    """
    found = dict.fromkeys(errors, 0.0)
    for task in tasks:
        # The outputs of one head have one error.
        own = {layer: max(each[output] for output in OUTPUTS_OF[task]) for layer, each in errors.items()}
        total = sum(own.values())
        for layer, error in own.items():
            found[layer] += error / total if total else 0.0
    return found


def costliest(costs: Mapping[str, float]) -> list[str]:
    """The fewest layers that make up :data:`STEP` of the sum of ``costs``, the costliest first; none where it is 0."""
    chosen: list[str] = []
    left = sum(costs.values()) * STEP
    for layer in sorted(costs, key=lambda layer: -costs[layer]):
        if left <= 0:
            break
        chosen.append(layer)
        left -= costs[layer]
    return chosen


def compile_int8(
    folder: Path,
    data: Path,
    *,
    settings: TrainingSettings | None = None,
    tolerance: float = TOLERANCE,
    pictures: int = PICTURES,
    form: Form = "cpu",
    told: Told = lambda text: None,
) -> Model:
    """Add int8 files to a model folder; it is changed only when every task passes the gate.

    Args:
        folder: the model.
        data: folder with training pictures, to calibrate on, and the validation data, which the gate decides on.
        settings: a training configuration that says where in the folder they are; None: the standard layout.
        tolerance: the greatest share of a headline figure of any task that may be lost.
        pictures: to calibrate each entry on.
        form: for CPUs, or for TensorRT; where that is not installed, the gate runs its files in ONNX Runtime alone.
        told: called with a line at each step.

    Raises:
        ModelError: the model is damaged, or has nothing that could be int8.
        DataError: the data is missing or too broken, or says nothing about one of the model's tasks.
        EngineError: a task loses more than is tolerated, however many layers stay in float.
    """
    model = load_model(folder)
    told("calibrating")
    sets, tasks = settings.datasets if settings else None, model.spec.network.tasks
    parts = [_calibrated(model, name, data, pictures, sets, form) for name in model.spec.network.entries]
    truth = configured_truth(settings, data, tasks)
    truth.scored(tasks, tasks)  # a task of which nothing is known could lose anything
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        work = Path(name)
        int8 = Gate(model, parts, truth, tolerance, form, told).passed(work)
        if form == "cpu":
            told("adding pictures for the self-check")
            files = {entry: made_check(model, entry, file, work) for entry, file in int8.files.items()}
            int8 = msgspec.structs.replace(int8, files=files)
        _publish(model, work, int8, form)
    return load_model(folder)


def tensorrt_runs() -> bool:
    """Whether TensorRT can run on this machine."""
    try:
        require_backend("tensorrt")
    except BackendUnavailable:
        return False
    return True


class Gate:
    """Both columns of the headline figures, and the layers that go back into float until all of them hold."""

    def __init__(
        self, model: Model, parts: Sequence[QuantisedEntry], truth: Truth, tolerance: float, form: Form, told: Told
    ) -> None:
        """Measure the f32 column."""
        self._model, self._parts, self._truth, self._tolerance, self._told = model, parts, truth, tolerance, told
        self._form = form
        self._ways = ways(form)
        self._tasks = [task for part in parts for task in part.tasks]
        told("measuring f32")
        report = evaluate_model(model, truth, backend=REFERENCE, precision="f32", tasks=self._tasks)
        self._f32 = {
            GateRow(headline, way): value for way in self._ways for headline, value in headlines(report).items()
        }
        if not self._f32:
            raise DataError(f"{truth.name}: has nothing that says what int8 costs this model")
        self._int8: dict[GateRow, float] = {}

    def passed(self, work: Path) -> Quantised:
        """Write files that pass into ``work``; EngineError where there are none."""
        failed: set[TaskName] = set()
        stale = set(self._tasks)  # not measured since their entry changed
        while stale:
            due = [task for task in self._tasks if task in (failed or stale)]  # what failed is looked at first, alone
            files = {part.name: part.write(work) for part in self._parts}
            failed = self._failed(due, Quantised(files, self._tolerance, ()), work)
            stale.difference_update(due)
            for part in self._parts:
                if failed.intersection(part.tasks):
                    stale.update(part.tasks)
                    if not part.put_back(failed):
                        raise EngineError(self._refusal(part))
        return Quantised(files, self._tolerance, tuple(map(self._figure, self._f32)))

    def _failed(self, due: Sequence[TaskName], int8: Quantised, work: Path) -> set[TaskName]:
        """Those of the tasks that lose too much."""
        kept = ", ".join(f"{part.name} {len(part.in_float)} of {len(part.quantiser.layers)}" for part in self._parts)
        self._told(f"measuring int8: {', '.join(due)}; layers in float: {kept}")
        tensorrt = int8 if self._form == "tensorrt" else None
        spec = msgspec.structs.replace(self._model.spec, int8=int8, int8_tensorrt=tensorrt)
        found = self._measure(Model(work, spec), due)
        rows = [row for row in self._f32 if row.headline.task in due]
        self._int8 |= {row: found.get(row, row.headline.worst) for row in rows}
        lost = [each for each in map(self._figure, rows) if each.loss > self._tolerance]
        for each in lost:
            self._told(f"{each.task} {each.figure} loses {each.loss:.1%} in {_where(each)}")
        return {row.headline.task for row in rows if self._figure(row).loss > self._tolerance}

    def _measure(self, model: Model, tasks: Sequence[TaskName]) -> dict[GateRow, float]:
        return {
            GateRow(headline, way): value
            for way in self._ways
            for headline, value in headlines(self._evaluate(model, way, tasks)).items()
        }

    def _evaluate(self, model: Model, way: Way, tasks: Sequence[TaskName]) -> EvaluationReport:
        precision: Precision = "int8"
        if way.simulated:
            spec, precision = model.spec, "f32"
            entries = {part.name: part.simulated(spec.entry(part.name), model.path) for part in self._parts}
            model = Model(model.path, msgspec.structs.replace(spec, **entries))
        return evaluate_model(model, self._truth, backend=way.backend, precision=precision, tasks=tasks)

    def _figure(self, row: GateRow) -> GateFigure:
        f32, int8 = self._f32[row], self._int8[row]
        task, figure, loss = row.headline.task, row.headline.figure, row.headline.loss(f32, int8)
        return GateFigure(task, figure, row.way.backend, f32, int8, loss, row.way.instructions, row.way.simulated)

    def _refusal(self, part: QuantisedEntry) -> str:
        lost = ", ".join(
            f"{each.task} {each.figure} {each.f32:.4f} -> {each.int8:.4f} in {_where(each)}"
            for each in map(self._figure, self._int8)
            if each.loss > self._tolerance
        )
        return (
            f"model {self._model.path}: int8 is refused, since no layer of the {part.name} entry can be int8 "
            f"without a loss of more than {self._tolerance:.1%}; the last try: {lost}"
        )


def _where(figure: GateFigure) -> str:
    on = f" with {figure.instructions}" if figure.instructions else ""
    return f"{figure.backend}{on}{', simulated' if figure.simulated else ''}"


def _publish(model: Model, work: Path, int8: Quantised, form: Form) -> None:
    field = "int8" if form == "cpu" else "int8_tensorrt"
    if getattr(model.spec, field) is not None:
        # At no time may the spec name a file that is not what it says.
        write_spec(msgspec.structs.replace(model.spec, **{field: None}), model.path)
    for file in [name for each in int8.files.values() for name in _names(each)]:
        os.replace(work / file, model.path / file)
    write_spec(msgspec.structs.replace(model.spec, **{field: int8}), model.path)
    card = model.path / "MODEL_CARD.md"
    if card.is_file():
        card.write_text(with_int8(card.read_text(encoding="utf-8"), int8, form), encoding="utf-8")


def _names(file: QuantisedFile) -> list[str]:
    return [file.file, file.check.file] if file.check else [file.file]


def _calibrated(
    model: Model, name: EntryName, data: Path, count: int, sets: Sequence[DatasetSettings] | None, form: Form
) -> QuantisedEntry:
    entry = model.spec.entry(name)
    calibration = (
        frame_calibration(data, entry, count, sets) if name == "frame" else face_calibration(data, count, sets)
    )
    held = calibration.pictures
    batches = [np.stack(held[start : start + BATCH]) for start in range(0, len(held), BATCH)]
    shown = track(batches, f"calibrating, {name} entry", console=Console(stderr=True), transient=True)
    tasks = [task for task in model.spec.network.tasks if ENTRY_OF[task] == name]
    return QuantisedEntry(name, entry.file, tasks, Quantiser(model.file(name), shown, form), calibration)


def _shown(title: str, quantiser: Quantiser, sample: Pictures) -> Iterable[tuple[str, dict[str, float]]]:
    errors = quantiser.errors(sample)
    return track(errors, title, len(quantiser.layers), console=Console(stderr=True), transient=True)
