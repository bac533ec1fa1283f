import json
from pathlib import Path

import msgspec
import pytest
import torch

from engines.errors import ConfigError, DataError
from engines.study import crossval as module
from engines.study.crossval import BASE, CrossValidation, FoldOutcome, choices_of, declared_variants
from engines.study.crossval_page import differences, summarise
from engines.training.loop import CHECKPOINT
from engines.training.settings import TrainingSettings, read_toml
from tests.engines.study.made_run import CONFIG, EACH, weighed, write_run

pytestmark = pytest.mark.usefixtures("single_requests")
FIGURES = {"scene.top1", "identity.accuracy"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def _weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "evaluate_checkpoint", weighed)  # scoring takes seconds


def variants(config: Path, **vary: tuple[object, ...]) -> dict[str, TrainingSettings]:
    return declared_variants(read_toml(config), "tiny", {key.replace("__", "."): each for key, each in vary.items()})


def crossval(
    made: tuple[Path, Path], work: Path, chosen: dict[str, TrainingSettings], folds: int = 2
) -> CrossValidation:
    return CrossValidation(chosen, made[1], work, folds=folds, seed=0, stop_at=2, device=torch.device("cpu"))


def plain(outcomes: list[FoldOutcome]) -> list[FoldOutcome]:
    return [msgspec.structs.replace(outcome, seconds=0.0) for outcome in outcomes]


@pytest.mark.usefixtures("_weighed")
def test_an_interrupted_cross_validation_goes_on_and_ends_as_an_uninterrupted_one(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    chosen = variants(made[0])
    whole, first = crossval(made, tmp_path / "whole", chosen), crossval(made, tmp_path / "work", chosen)
    steps = [(now.number, now.step, now.steps, now.done) for now in whole.run()]
    assert steps == [(0, 1, 2, 0), (0, 2, 2, 0), (1, 1, 2, 1), (1, 2, 2, 1)]
    seen: list[int] = []
    for now in first.run(stop=lambda: len(seen) == 2):  # after the first step of the second fold
        seen.append(now.step)
    assert seen == [1, 2, 1] and [outcome.number for outcome in first.outcomes] == [0]
    again = crossval(made, tmp_path / "work", chosen)
    assert again.steps_done == 2
    assert [(now.number, now.step) for now in again.run()] == [(1, 2)], "the checkpoint was gone on from"
    assert plain(again.outcomes) == plain(whole.outcomes)
    assert list(crossval(made, tmp_path / "work", chosen).run()) == []
    for outcome in again.outcomes:
        assert outcome.held_out["people"] % EACH == 0 and outcome.steps == 2
        assert {name: outcome.trained[name] + outcome.held_out[name] for name in outcome.trained} == {
            "scenes": 12,
            "people": 18,
        }


def test_a_fold_is_scored_on_what_was_held_out(made: tuple[Path, Path], tmp_path: Path) -> None:
    done = crossval(made, tmp_path, variants(made[0]))
    for now in done.run():
        if now.number == 1:
            break
    (outcome,) = done.outcomes
    assert outcome.figures.keys() == FIGURES and all(0 <= value <= 1 for value in outcome.figures.values())
    report = json.loads((done.folder(done.runs[0]) / "report.json").read_text())
    assert report["scene"]["pictures"] == outcome.held_out["scenes"]
    assert (done.folder(done.runs[0]) / CHECKPOINT).is_file()


@pytest.mark.usefixtures("_weighed")
def test_two_settings_are_compared_fold_by_fold(made: tuple[Path, Path], tmp_path: Path) -> None:
    list(crossval(made, tmp_path, variants(made[0])).run())
    chosen = variants(made[0], network__activation=("relu", "silu"))
    work = crossval(made, tmp_path, chosen)
    assert [outcome.name for outcome in work.outcomes] == [next(iter(chosen))] * 2, "relu is what the configuration has"
    assert {now.name for now in work.run()} == {"network.activation = silu"}
    alone = crossval(made, tmp_path, variants(made[0]))
    assert [outcome.name for outcome in alone.outcomes] == [BASE] * 2
    assert {(each.variant, each.figure) for each in summarise(work.outcomes)} == {
        (variant, figure) for variant in chosen for figure in FIGURES
    }


def test_other_settings_data_or_folds_are_never_taken_for_finished_ones(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    def keys(config: Path, data: Path, folds: int = 2) -> set[str]:
        return {run.key for run in crossval((config, data), tmp_path / "x", variants(config), folds).runs}

    config, data = write_run(tmp_path)
    before = keys(config, data)
    assert keys(config, data) == before == keys(*made), "wherever the data lies"
    assert keys(config, data, folds=3).isdisjoint(before)
    (data / "scenes/field/0.png").rename(data / "scenes/field/9.png")
    assert keys(config, data).isdisjoint(before)
    config.write_text(CONFIG.replace("warmup_steps = 1", "warmup_steps = 2"))
    assert keys(config, data).isdisjoint(before)


def test_too_many_folds_are_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its 18 pictures show 6 different things, too few for 7 folds"):
        crossval(made, tmp_path, variants(made[0]), folds=7)


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("network.activation=relu,silu", "network.activation", ("relu", "silu")),
        ("learning_rate=1e-3, 2e-3", "learning_rate", (1e-3, 2e-3)),
        ("network.depths=[1, 1, 1, 1],[1, 2, 2, 1]", "network.depths", ([1, 1, 1, 1], [1, 2, 2, 1])),
    ],
)
def test_values_are_toml_or_words(text: str, key: str, values: tuple[object, ...]) -> None:
    assert choices_of(text) == (key, values)


@pytest.mark.parametrize("text", ["network.activation", "=1,2", "seed=1", "network.activation=relu,", "seed="])
def test_one_value_is_no_choice(text: str) -> None:
    with pytest.raises(ConfigError, match="must be KEY=VALUE,VALUE with two values or more"):
        choices_of(text)


def test_all_combinations_are_tried_and_a_dataset_is_called_by_its_name(made: tuple[Path, Path]) -> None:
    chosen = variants(made[0], datasets__people__batch=(4, 8), loss__scene=(0.5, 1.0, 2.0))
    assert len(chosen) == 6 and list(chosen)[1] == "datasets.people.batch = 4, loss.scene = 1.0"
    assert [(each.datasets[1].batch, each.loss.scene) for each in list(chosen.values())[2:4]] == [(4, 2.0), (8, 0.5)]


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("network.activation", ("relu", "tanh"), r"tiny, network.activation = tanh: .*\$.network.activation"),
        ("network.colour", (1, 2), "unknown field `colour`"),
        ("datasets.cars.batch", (1, 2), "'cars' is the name of none of these tables"),
        ("name.first", (1, 2), "is not the path of a key"),
    ],
)
def test_a_wrong_key_or_value_is_named(
    made: tuple[Path, Path], key: str, values: tuple[object, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        declared_variants(read_toml(made[0]), "tiny", {key: values})


def outcome(variant: str, fold: int, **figures: float) -> FoldOutcome:
    named = {name.replace("_", "."): value for name, value in figures.items()}
    return FoldOutcome(name=variant, number=fold, steps=1, seconds=0.0, trained={}, held_out={}, figures=named)


def test_means_deviations_and_differences_are_over_the_folds() -> None:
    tops, errors = ([0.5, 0.7, 0.6], [0.6, 0.8, 0.71]), ([0.1, 0.2, 0.1], [0.3, 0.1, 0.1])
    rows = [
        outcome(name, fold, scene_top1=tops[number][fold], faces_nme=errors[number][fold])
        for number, name in enumerate(("a", "b"))
        for fold in range(3)
    ]
    rows[5] = outcome("b", 2, scene_top1=0.71)  # a fold in which no face was found
    summaries = summarise(rows)
    first = next(each for each in summaries if each.variant == "a" and each.figure == "scene.top1")
    assert (first.spread.mean, first.spread.std) == (pytest.approx(0.6), pytest.approx(0.1))
    top1, nme = sorted(differences(summaries, 3), key=lambda each: each.figure, reverse=True)
    assert top1.spread.mean == pytest.approx(0.31 / 3) and top1.exceeds and top1.better
    # Student's t for 95 % and 2 degrees of freedom is 4.3027.
    assert top1.spread.std is not None
    assert top1.half_width == pytest.approx(4.3027 * top1.spread.std * (1 / 3 + 1 / 2) ** 0.5, rel=1e-4)
    assert nme.spread.mean == pytest.approx(0.05) and not nme.exceeds and not nme.better, "the error is larger"


def test_one_fold_in_common_has_no_spread_to_exceed() -> None:
    (found,) = differences(summarise([outcome("a", 0, scene_top1=0.1), outcome("b", 0, scene_top1=0.9)]), 2)
    assert found.spread.mean == pytest.approx(0.8) and found.half_width is None and not found.exceeds
