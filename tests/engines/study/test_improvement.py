import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from engines.errors import DataError
from engines.network.plain import PlainSettings
from engines.study.classifier_settings import ClassifierSettings
from engines.study.improvement import ImprovementStudy, declared_steps, plain_cost
from engines.study.runs import OUTCOME, StudyProgress
from tests.engines.study.made_classes import colours, write_classes, write_plain

BASE = colours(1)
ALONE = ("augmentation", "layers", "width", "activation", "normalisation", "regularisation")
NAMES = ("baseline", *ALONE, "input", "together", "together, input", "together, input, time")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "data", pictures=2)


def study(data: Path, seeds: tuple[int, ...] = (0,), base: ClassifierSettings = BASE) -> ImprovementStudy:
    return ImprovementStudy(base, data, data.parent / "work", seeds, torch.device("cpu"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImprovementStudy, list[StudyProgress], Path]:
    """A study of two seeds that was done without a break, its steps and its data; no test changes them."""
    data = write_classes(tmp_path_factory.mktemp("whole") / "data", pictures=2)
    done = study(data, (0, 1))
    return done, list(done.run()), data


def changed(settings: ClassifierSettings) -> set[str]:
    """The keys in which settings differ from the base, those of the network by their own names."""
    found = set()
    for before, after in ((BASE, settings), (BASE.network, settings.network)):
        names = before.__struct_fields__
        found |= {name for name in names if getattr(before, name) != getattr(after, name)}
    return found - {"network"}


def test_each_step_alone_changes_what_it_says() -> None:
    steps = {step.name: changed(step.settings) for step in declared_steps(BASE)}
    assert tuple(steps) == NAMES
    assert steps["baseline"] == set()
    assert steps["augmentation"] == {"augmentation"}
    assert steps["layers"] == {"blocks"}
    assert steps["width"] == {"blocks", "dense"}
    assert steps["activation"] == {"activation"}
    assert steps["normalisation"] == {"normalisation"}
    assert steps["regularisation"] == {"dropout", "weight_decay", "label_smoothing"}
    assert steps["input"] == {"size"}


def test_together_is_all_of_them() -> None:
    steps = {step.name: step.settings for step in declared_steps(BASE)}
    assert changed(steps["together"]) == set().union(*(changed(steps[name]) for name in ALONE))
    assert steps["together"].network.blocks == ((6,), (12, 12))  # half as wide again, the further block too
    assert steps["together, input"].network.size == 2 * BASE.network.size
    assert steps["together, input, time"].epochs == 2 * BASE.epochs


def test_every_step_is_run_with_every_seed(whole: tuple[ImprovementStudy, list[StudyProgress], Path]) -> None:
    done, seen, _ = whole
    assert len(done.runs) == len(done.outcomes) == 2 * len(NAMES)
    # First each step once.
    assert [(outcome.name, outcome.number) for outcome in done.outcomes] == [(s, n) for n in (0, 1) for s in NAMES]
    assert [now.name for now in seen if now.number == 0 and now.step == 1] == list(NAMES)
    for outcome in done.outcomes:
        assert outcome.pictures == 4 and outcome.top1 == outcome.correct / 4
        assert outcome.cpu_seconds > 0


def test_an_interrupted_study_goes_on_with_what_is_missing_and_ends_as_one_that_was_not(
    data: Path, whole: tuple[ImprovementStudy, list[StudyProgress], Path]
) -> None:
    runs = study(data).run()
    first = [next(runs), next(runs), next(runs)]
    runs.close()  # while the third is kept nowhere yet
    again = study(data)
    assert [outcome.name for outcome in again.outcomes] == ["baseline", "augmentation"]
    rest = list(again.run())
    assert rest[0] == StudyProgress(name="layers", number=0, step=1, steps=1, done=2) == first[2]
    assert len(again.outcomes) == len(NAMES)
    assert list(study(data).run()) == []

    def figures(done: ImprovementStudy) -> list[tuple[str, float, float]]:
        return [(outcome.name, outcome.top1, outcome.train_top1) for outcome in done.outcomes]

    assert figures(again) == figures(whole[0])[: len(NAMES)]


def test_a_run_that_is_stopped_after_its_last_epoch_is_finished_and_an_earlier_one_is_not(data: Path) -> None:
    short, long, seen = study(data), study(data, base=colours(2)), list[str]()
    for whole in (short, long):
        seen.clear()
        for now in whole.run(lambda: bool(seen)):
            seen.append(now.name)
        assert seen == ["baseline"] and not whole.over
    assert [outcome.name for outcome in short.outcomes] == ["baseline"] and long.outcomes == []


def test_runs_of_other_pictures_or_settings_do_not_count(
    whole: tuple[ImprovementStudy, list[StudyProgress], Path], tmp_path: Path
) -> None:
    data = shutil.copytree(whole[2].parent, tmp_path / "made") / "data"
    assert study(data, base=msgspec.structs.replace(BASE, batch=3)).outcomes == []
    assert len(study(data, base=msgspec.structs.replace(BASE, name="renamed")).outcomes) == len(NAMES)
    write_plain(data / "classes/train/room/new.png", (9, 9), (0, 0, 0), np.random.default_rng(0))
    assert study(data).outcomes == []


def test_a_work_folder_with_something_else_in_it_is_refused(data: Path) -> None:
    file = data.parent / "work" / study(data).runs[0].key / OUTCOME
    file.parent.mkdir(parents=True)
    file.write_text('{"not": "outcomes"}')
    with pytest.raises(DataError, match=r"outcome\.json: is not an outcome of a run"):
        study(data)


def test_the_cost_of_the_network_of_the_articles() -> None:
    macs, parameters = plain_cost(PlainSettings(), 10)
    assert macs == 28 * 28 * 32 * 27 + 14 * 14 * 64 * 32 * 9 + 7 * 7 * 64 * 128 + 128 * 10
    assert parameters == 422_218
