import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.arrays import Pictures
from engines.compiling import gate
from engines.compiling.gate import compile_int8, costliest, shares
from engines.compiling.quantise import Quantiser
from engines.compiling.simulating import REDUCED_LIMIT
from engines.engine import Backend, open_engine
from engines.errors import DataError, EngineError
from engines.evaluation.report import Headline
from engines.hardware import cpu, int8_instructions
from engines.spec import (
    OUTPUTS_OF,
    USUAL_TASKS,
    EntryName,
    Model,
    Quantised,
    TaskName,
    Thresholds,
    load_model,
    write_spec,
)
from tests.engines.made_models import greatest_weight, pictures

pytestmark = pytest.mark.usefixtures("single_requests")
ENTRIES: tuple[EntryName, ...] = ("frame", "face")
F32 = {
    "objects": {"ap50": 0.5},
    "faces": {"ap50": 0.6, "nme": 0.1},
    "scene": {"top1": 0.7},
    "identity": {"accuracy": 0.8},
}

Figures = Mapping[str, Mapping[str, float | None]]
Int8Figures = Callable[[Quantised, Backend], Figures]
Measured = Callable[[Int8Figures], list[tuple[str, list[str]]]]


class Guessing(Quantiser):
    """Says without looking that every layer costs every output the same."""

    def errors(self, batch: Pictures) -> Iterator[tuple[str, dict[str, float]]]:
        assert batch.dtype == np.uint8 and len(batch) == 4
        outputs = [name for names in OUTPUTS_OF.values() for name in names]
        for layer in self.layers:
            yield layer, dict.fromkeys(outputs, 1e-4)


@pytest.fixture(scope="module")
def quantisers(model: Model) -> dict[str, Guessing]:
    """Of both entries' files, by name; calibrated on noise."""
    entries = {model.file(name).name: model.spec.entry(name) for name in ENTRIES}
    return {
        name: Guessing(model.path / name, [pictures(4, entry.height, entry.width)]) for name, entry in entries.items()
    }


@pytest.fixture
def quick(quantisers: dict[str, Guessing], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "Quantiser", lambda file, batches, form: quantisers[file.name])


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    return shutil.copytree(model.path, tmp_path / "zoo/n")


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """``measured(figures)`` stands in for the evaluation, which has tests of its own; gives the list of its runs."""

    def stand_in(figures: Int8Figures) -> list[tuple[str, list[str]]]:
        runs: list[tuple[str, list[str]]] = []

        def evaluate_model(
            model: Model, data: Path, *, backend: Backend, precision: str, tasks: Sequence[TaskName]
        ) -> Any:
            if backend == "openvino" or not model.spec.int8:  # the others are asked the same right after it
                runs.append((precision, [str(task) for task in tasks]))
            if precision == "int8":
                assert model.spec.int8 is not None
                assert all(model.file(entry, "int8").is_file() for entry in ENTRIES)
            found = figures(model.spec.int8, backend) if model.spec.int8 else F32
            return SimpleNamespace(of={task: SimpleNamespace(**found[task]) for task in tasks}.get)

        monkeypatch.setattr(gate, "evaluate_model", evaluate_model)
        return runs

    return stand_in


def with_figure(task: str, figure: str, value: float | None) -> Figures:
    return {**F32, task: {**F32[task], figure: value}}


def test_what_loses_nothing_gets_int8_files_with_no_layer_in_float(
    folder: Path, data: Path, measured: Measured
) -> None:
    before = load_model(folder)
    runs = measured(lambda int8, backend: with_figure("scene", "top1", 0.6951))
    told: list[str] = []
    done = compile_int8(folder, data, pictures=6, told=told.append)
    assert runs == [("f32", [*USUAL_TASKS]), ("int8", [*USUAL_TASKS])]
    assert told[:2] == ["calibrating", "measuring f32"] and told[2].startswith("measuring int8: objects, faces")
    assert done == load_model(folder) and done.fingerprint == before.fingerprint
    assert [each.name for each in folder.parent.iterdir()] == ["n"], "nothing is left beside it"
    int8 = done.spec.int8
    assert int8 is not None and int8.tolerance == 0.01
    assert {entry: each.file for entry, each in int8.files.items()} == {
        "frame": "frame.int8.onnx",
        "face": "face.int8.onnx",
    }
    assert all(each.float_layers == () for each in int8.files.values())
    assert int8.files["face"].calibrated_on == {"face_recognition/train": 6}
    names = [(task, figure) for task, figures in F32.items() for figure in figures]
    for backend in ("openvino", "onnxruntime"):
        rows = {(each.task, each.figure): each for each in int8.figures if each.backend == backend}
        assert [*rows] == names
        assert rows["scene", "top1"].loss == pytest.approx(0.007) and rows["faces", "nme"].loss == 0


@pytest.mark.usefixtures("quick")
def test_both_entries_open_in_int8_on_both_backends(folder: Path, data: Path, measured: Measured) -> None:
    measured(lambda int8, backend: F32)
    done = compile_int8(folder, data, pictures=4)
    backends: tuple[Backend, ...] = ("openvino", "onnxruntime")
    for entry, backend in product(ENTRIES, backends):
        with open_engine(done, entry, backend, "int8") as engine:
            assert (engine.precision, engine.backend) == ("int8", backend)
            spec = engine.spec
            outputs = engine.infer(pictures(3, spec.height, spec.width))
        assert {name: values.shape for name, values in outputs.items()} == {
            name: (3, *shape) for name, shape in spec.outputs.items()
        }


@pytest.mark.usefixtures("quick")
def test_layers_go_back_into_float_until_the_task_holds(folder: Path, data: Path, measured: Measured) -> None:
    def figures(int8: Quantised, backend: Backend) -> Figures:
        return with_figure("identity", "accuracy", 0.78 + 0.001 * len(int8.files["face"].float_layers))

    runs = measured(figures)
    done = compile_int8(folder, data, pictures=4, tolerance=0.009)
    int8 = done.spec.int8
    assert int8 is not None
    face = int8.files["face"]
    assert (face.layers, len(face.float_layers)) == (17, 5 + 3 + 3 + 2), "a quarter of what is left each time"
    assert int8.files["frame"].float_layers == (), "the frame entry has no part in identities"
    assert int8.figures[-1].int8 == pytest.approx(0.78 + 0.001 * len(face.float_layers))
    assert runs[:2] == [("f32", [*USUAL_TASKS]), ("int8", [*USUAL_TASKS])]
    assert set(map(str, runs[2:])) == {str(("int8", ["identity"]))}, "no other task's entry has changed"


@pytest.mark.usefixtures("quick")
def test_a_changed_entry_is_measured_on_all_its_tasks_before_it_passes(
    folder: Path, data: Path, measured: Measured
) -> None:
    def figures(int8: Quantised, backend: Backend) -> Figures:
        in_float = bool(int8.files["frame"].float_layers)
        return with_figure("faces", "nme", 0.1 if in_float else 0.102)  # an error: more is worse

    runs = measured(figures)
    compile_int8(folder, data, pictures=4)
    assert runs[1:] == [("int8", [*USUAL_TASKS]), ("int8", ["faces"]), ("int8", ["objects", "scene"])]


@pytest.mark.usefixtures("quick")
def test_what_only_one_of_the_engines_loses_counts(folder: Path, data: Path, measured: Measured) -> None:
    def figures(int8: Quantised, backend: Backend) -> Figures:
        lost = backend == "onnxruntime" and not int8.files["face"].float_layers
        return with_figure("identity", "accuracy", 0.7 if lost else 0.8)

    measured(figures)
    int8 = compile_int8(folder, data, pictures=4).spec.int8
    assert int8 is not None and int8.files["face"].float_layers


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("case", "task", "figure", "value"),
    [
        ("a loss that no layer in float heals", "objects", "ap50", 0.4),
        ("faces are no longer found at all, so they have no landmarks", "faces", "nme", None),
        ("nothing to find is found", "objects", "ap50", None),
    ],
)
def test_a_model_that_never_passes_is_left_as_it_was(
    folder: Path,
    data: Path,
    measured: Measured,
    case: str,
    task: str,
    figure: str,
    value: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured(lambda int8, backend: with_figure(task, figure, value))
    monkeypatch.setattr(gate, "STEP", 0.5)  # so that no layer is left in int8 after half as many rounds
    before = content(folder.parent)
    with pytest.raises(EngineError, match=f"int8 is refused.* of the frame entry .*: {task} {figure} 0") as refused:
        compile_int8(folder, data, pictures=4)
    assert "\n" not in str(refused.value)
    assert content(folder.parent) == before, case


@pytest.mark.usefixtures("quick")
def test_what_is_simulated_counts_and_the_spec_says_what_held(folder: Path, data: Path, measured: Measured) -> None:
    measured(lambda int8, backend: F32)
    int8 = compile_int8(folder, data, pictures=4).spec.int8
    assert int8 is not None
    here = int8_instructions(cpu())
    held = {each.instructions: each.simulated for each in int8.figures}
    assert held == {here: False, "vnni" if here == "avx2" else "avx2": True}
    for entry, file in int8.files.items():
        assert greatest_weight(folder / file.file) <= REDUCED_LIMIT, "no pair of products can overflow 16 bits"
        assert file.check is not None and (folder / file.check.file).stat().st_size < 100_000
        assert set(file.check.drift) == ({"identity"} if entry == "face" else {"objects", "faces", "scene"})


def test_int8_files_are_replaced_by_the_next_ones(folder: Path, data: Path, measured: Measured) -> None:
    measured(lambda int8, backend: F32)
    first = compile_int8(folder, data, pictures=4)
    second = compile_int8(folder, data, pictures=1, tolerance=0.5)
    assert first.spec.int8 and second.spec.int8 and second.spec.int8.tolerance == 0.5
    assert first.spec.int8.files["frame"].sha256 != second.spec.int8.files["frame"].sha256
    assert load_model(folder) == second


@pytest.mark.usefixtures("quick")
def test_the_card_says_what_int8_costs_and_says_it_once(folder: Path, data: Path, measured: Measured) -> None:
    measured(lambda int8, backend: F32)
    (folder / "MODEL_CARD.md").write_text("# A model\n")
    for _ in range(2):
        compile_int8(folder, data, pictures=8)
    card = (folder / "MODEL_CARD.md").read_text()
    assert card.startswith("# A model\n\n## int8\n") and card.count("## int8") == 1
    here = int8_instructions(cpu())
    assert f"| scene top1 | openvino | {here} | 0.7000 | 0.7000 | +0.00% |" in card
    assert ", simulated | 0.7000 | 0.7000 | +0.00% |" in card


def test_the_real_evaluation_decides(folder: Path, data: Path) -> None:
    spec = load_model(folder).spec
    # What fresh weights find has low scores.
    write_spec(msgspec.structs.replace(spec, thresholds=Thresholds(object_score=0.1, face_score=0.1)), folder)
    done = compile_int8(folder, data, tolerance=1.0, pictures=8)
    assert done.spec.int8 is not None
    assert {each.task for each in done.spec.int8.figures} >= {"objects", "scene", "identity"}
    assert all(each.loss <= 1 for each in done.spec.int8.figures)


@pytest.mark.parametrize("missing", ["face_recognition/train", "detection/annotations/instances_val.json"])
def test_without_data_nothing_changes(folder: Path, data: Path, tmp_path: Path, missing: str) -> None:
    partial = shutil.copytree(data, tmp_path / "data")
    lost = partial / missing
    if lost.is_dir():
        shutil.rmtree(lost)
    else:
        lost.unlink()
    before = content(folder.parent)
    with pytest.raises(DataError, match=missing):
        compile_int8(folder, partial, pictures=4)
    assert content(folder.parent) == before


@pytest.mark.parametrize(
    ("case", "lower_is_better", "f32", "int8", "loss"),
    [
        ("less of what should be much", False, 0.5, 0.45, 0.1),
        ("more of what should be much", False, 0.5, 0.55, -0.1),
        ("more of what should be little", True, 0.1, 0.12, 0.2),
        ("nothing to lose", False, 0.0, 0.0, 0.0),
        ("something where there was nothing", False, 0.0, 0.1, 0.0),
        ("an error where there was none", True, 0.0, 0.1, 1.0),
    ],
)
def test_a_loss_is_a_share_of_the_f32_figure(
    case: str, lower_is_better: bool, f32: float, int8: float, loss: float
) -> None:
    assert Headline("faces", "nme", lower_is_better).loss(f32, int8) == pytest.approx(loss), case


@given(st.dictionaries(st.integers(0, 99).map(str), st.floats(0, 1), max_size=12))
def test_the_costliest_layers_make_up_a_quarter_of_the_cost_and_no_layer_too_many(costs: dict[str, float]) -> None:
    chosen = costliest(costs)
    quarter = sum(costs.values()) / 4
    taken = [costs[layer] for layer in chosen]
    assert len(set(chosen)) == len(chosen)
    assert sum(taken) >= quarter * (1 - 1e-9)
    assert not chosen or sum(taken[:-1]) < quarter * (1 + 1e-9), "the last one was needed"
    assert all(value <= min(taken, default=1.0) for layer, value in costs.items() if layer not in chosen)


def test_what_a_layer_costs_is_relative_to_all_layers_and_summed_over_the_tasks() -> None:
    def errors(scene: float, objects: float) -> dict[str, float]:
        return {"scene": scene, **dict.fromkeys(OUTPUTS_OF["objects"], objects)}

    layers = {"a": errors(1.0, 3e-6), "b": errors(0.0, 1e-6), "c": errors(0.0, 0.0)}
    assert shares(layers, ["objects"]) == pytest.approx({"a": 0.75, "b": 0.25, "c": 0.0})
    assert shares(layers, ["objects", "scene"]) == pytest.approx({"a": 1.75, "b": 0.25, "c": 0.0})
    assert shares({"c": layers["c"]}, ["objects"]) == {"c": 0.0}


def test_layers_that_cost_nothing_are_never_chosen() -> None:
    assert costliest({}) == [] and costliest({"a": 0.0}) == []
    assert costliest({"a": 0.0, "b": 1e-9}) == ["b"]
