"""The task of masks: trained for a few steps on painted faces, exported, scored."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from engines.alignment import TEMPLATE
from engines.compiling.export import Trained, export
from engines.compiling.validation import evaluate_checkpoint, validation_scores
from engines.data.reading import SkippedRows
from engines.errors import ConfigError, DataError
from engines.evaluation.report import EvaluationReport
from engines.evaluation.truth import configured_truth, standard_truth
from engines.network.network import build_network
from engines.spec import USUAL_TASKS, NetworkSettings, Thresholds, load_model, output_names
from engines.tasks.face_labels.metrics import balanced_accuracy
from engines.tasks.mask import TASK
from engines.training.checkpoint import milestone
from engines.training.datasets import load_sets
from engines.training.settings import (
    AugmentationSettings,
    DatasetSettings,
    TrainingSettings,
    ValidationSettings,
    settings_of,
)
from engines.training.trainer import Trainer
from tests.engines.evaluation.colours import Box, paint
from tests.engines.training.made_data import TINY, dataset, write_people

STEPS = 50
CPU = torch.device("cpu")
FACES: tuple[Box, ...] = ((4, 4, 24, 24), (34, 6, 26, 26), (66, 8, 22, 22))  # of every picture, xywh
COLOURS = {"mask": (40, 90, 220), "no_mask": (220, 160, 120), "mask_wrong": (60, 200, 60)}
STILL = AugmentationSettings(scale=(1.0, 1.0), shift=0.0, rotate_deg=0.0, noise=0.0, saturation=0.0, grey=0.0)


def write_masks(folder: Path, split: str, pictures: int = 4) -> None:
    """Three faces a picture, one of each kind, the first with points; and one that is too small to tell."""
    root = folder / "face_detection"
    annotations, points = [], []
    for number in range(1, pictures + 1):
        faces = list(zip(TASK.labels, (FACES[(place + number) % 3] for place in range(3)), strict=True))
        paint(root / f"images/{split}/{number}.png", (96, 40), [(box, COLOURS[label]) for label, box in faces])
        for label, box in [*faces, ("mask", (90, 1, 5, 5))]:
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": 1, "bbox": box, "attr": label}
            )
        first = faces[0][1]
        landmarks = (np.array(first[:2]) + TEMPLATE / 112 * first[2]).tolist()
        points.append({"annotation_id": len(annotations) - 4, "points5": landmarks})
    listed = [{"id": number, "file_name": f"{number}.png"} for number in range(1, pictures + 1)]
    content = {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "face"}]}
    (root / "annotations").mkdir(exist_ok=True)
    (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    (root / f"annotations/landmarks5_silver_{split}.json").write_text(json.dumps({"landmarks": points}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("masks")
    for split in ("train", "val"):
        write_masks(made, split)
    return made


def table(split: str = "train") -> dict[str, object]:
    return {
        "images": f"face_detection/images/{split}",
        "file": f"face_detection/annotations/instances_{split}.json",
        "points": f"face_detection/annotations/landmarks5_silver_{split}.json",
    }


def settings(**changes: object) -> TrainingSettings:
    entry = DatasetSettings(name="masks", labels={"mask": table()}, batch=6, augmentation=STILL)
    made = TrainingSettings(
        name="tiny",
        network=msgspec.structs.replace(TINY, tasks=("mask",), dropout=0.0),
        datasets=(entry,),
        steps=STEPS,
        micro_batches=1,
        warmup_steps=2,
        ema_decay=0.5,
        precision="f32",
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture(scope="module")
def trainer(folder: Path) -> Trainer:
    loaded = load_sets(settings().datasets, folder)
    trained = Trainer(settings(), loaded.sets, (loaded.objects, loaded.scenes), CPU)
    for _ in range(STEPS):
        trained.train_step()
    return trained


@pytest.fixture(scope="module")
def report(trainer: Trainer, folder: Path) -> EvaluationReport:
    return evaluate_checkpoint(trainer.checkpoint(), standard_truth(folder, ["mask"]), 64)


def test_a_set_is_the_faces_that_are_large_enough_with_their_labels(folder: Path) -> None:
    (entry,) = settings().datasets
    assert (entry.kind, entry.entry, entry.size, entry.labelled) == ("mask", "face", 112, ("mask",))
    loaded = load_sets([entry], folder)
    (found,) = loaded.sets
    assert loaded.labels_of("mask") == TASK.labels
    assert found.pictures.shape == (12, 112, 112, 3) and found.labels is not None and found.groups is not None
    assert found.labels.tolist() == [0, 1, 2] * 4
    assert found.groups.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3, "faces of one picture stay together"
    for pixels, label in zip(found.pictures, found.labels.tolist(), strict=True):
        colour = COLOURS[TASK.labels[label]]
        assert_allclose(pixels[56, 56].numpy(), colour, atol=12)


def test_a_few_steps_teach_what_the_faces_wear(trainer: Trainer, report: EvaluationReport) -> None:
    scores = report.of("mask")
    assert scores is not None and scores.faces == 12 and scores.pictures == 4
    assert scores.balanced_accuracy > 0.9
    interval = scores.intervals["balanced_accuracy"]
    assert interval is not None and interval.low <= scores.balanced_accuracy <= interval.high
    assert json.loads(msgspec.json.encode(report))["others"]["mask"]["labels"] == list(TASK.labels)


def test_the_best_checkpoint_is_chosen_by_balanced_accuracy(trainer: Trainer, folder: Path) -> None:
    scores = validation_scores(trainer.checkpoint(), folder, ValidationSettings(steps=1, frame_size=64))
    assert set(scores) == {"mask"} and 0 <= scores["mask"] <= 1


def test_sets_of_ones_own_say_what_to_score_on(folder: Path) -> None:
    own = DatasetSettings(name="own", labels={"mask": table("val")})
    truth = configured_truth(settings(validation_sets=(own,)), folder, ["mask"])
    assert truth.tasks == ("mask",) and len(truth.others["mask"].pictures) == 4 == len(truth.crops)


def test_another_attr_is_refused(folder: Path, tmp_path: Path) -> None:
    file = folder / "face_detection/annotations/instances_train.json"
    (tmp_path / "other.json").write_text(file.read_text().replace('"no_mask"', '"beard"', 1))
    data = TASK.part("data")
    source = data.SOURCE(images=".", file="other.json")
    with pytest.raises(DataError, match="has attr 'beard', allowed are mask, no_mask, mask_wrong"):
        data.rows(source, tmp_path, SkippedRows())


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"mask": {"images": "a"}}, "missing required field `file`"),
        ({"mask": {"images": "a", "file": "b", "colour": 1}}, "unknown field `colour`"),
        ({"scene": {"images": "a", "file": "b"}}, r"labels must be of a task without a key of its own \(mask\)"),
    ],
    ids=["a key is missing", "a key is unknown", "a task with a key of its own"],
)
def test_a_wrong_table_is_one_sentence(labels: dict[str, object], said: str) -> None:
    content = {"name": "x", "steps": 1, "datasets": [{"name": "masks", "labels": labels}]}
    with pytest.raises(ConfigError, match=said):
        settings_of(content, "x.toml")


def test_a_label_that_is_rare_counts_as_much_as_a_frequent_one() -> None:
    target = np.array([0, 0, 0, 0, 1, 2])
    correct = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    weights = np.array([[1.0] * 6, [1, 1, 0, 0, 2, 0]])
    assert_allclose(balanced_accuracy(target, correct, weights), [2 / 3, 1 / 2])


def test_the_other_tasks_are_what_they_were_beside_it() -> None:
    """Nothing changes for a network that has no such task, and for the others' weights in one that has it."""
    assert "mask" not in USUAL_TASKS and NetworkSettings().tasks == USUAL_TASKS
    torch.manual_seed(0)
    usual = build_network(TINY, 3, 4).state_dict()
    torch.manual_seed(0)
    more = build_network(msgspec.structs.replace(TINY, tasks=(*USUAL_TASKS, "mask")), 3, 4).state_dict()
    assert set(more) - set(usual) == {"mask.linear.weight", "mask.linear.bias"}
    assert all(torch.equal(more[name], value) for name, value in usual.items())
    assert output_names("face", (*USUAL_TASKS, "mask")) == ("embedding", "quality", "mask")


def test_a_run_without_the_task_is_a_beginning_and_one_with_more_is_not(folder: Path, tmp_path: Path) -> None:
    write_people(folder)
    made = settings(datasets=(dataset("identities"), *settings().datasets))
    before, both = (
        msgspec.structs.replace(made, network=msgspec.structs.replace(made.network, tasks=tasks))
        for tasks in (("identity",), ("identity", "mask"))
    )
    loaded = load_sets(made.datasets, folder)
    old = Trainer(msgspec.structs.replace(before, datasets=before.datasets[:1]), loaded.sets[:1], ((), ()), CPU)
    new = Trainer(both, loaded.sets, ((), ()), CPU)
    fresh = new.network.state_dict()["mask.linear.weight"].clone()
    for name, trainer in (("old", old), ("new", new)):
        export(Trained.of(trainer.checkpoint()), tmp_path / name, (64, 64), Thresholds())
    more = Trainer(both, loaded.sets, ((), ()), CPU)
    new.begin_from_model(load_model(tmp_path / "old"))
    more.begin_from(milestone(old.checkpoint()))
    known = {name: value.half().float() for name, value in old.ema.network.state_dict().items()}
    for begun in (new.network.state_dict(), more.network.state_dict(), more.ema.network.state_dict()):
        assert all(torch.equal(begun[name].half().float(), value) for name, value in known.items())
        assert torch.equal(begun["mask.linear.weight"], fresh)
    with pytest.raises(DataError, match="the model's network is not the configuration's"):
        old.begin_from_model(load_model(tmp_path / "new"))
    with pytest.raises(DataError, match="the checkpoint's network, classes or people are not the configuration's"):
        old.begin_from(new.checkpoint())
