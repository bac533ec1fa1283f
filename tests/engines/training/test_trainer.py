from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import torch

from engines.errors import DataError
from engines.training.settings import AugmentationSettings, LossSettings, PhaseSettings, TrainingSettings
from engines.training.trainer import Trainer
from tests.engines.training.made_data import (
    SETS,
    TINY,
    dataset,
    tiny_settings,
    trainer_on,
)

STILL = AugmentationSettings(
    scale=(1.0, 1.0),
    shift=0.0,
    rotate_deg=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    grey=0.0,
    noise=0.0,
    blur=0.0,
    erase=0.0,
)


def gradients(trainer: Trainer, kind: str) -> dict[str, float]:
    """Greatest gradient of each part of the network, and of the identity centres, after a micro-batch of one set."""
    trainer.network.train()
    trainer.optimiser.zero_grad()
    draw = trainer._draw([entry.name for entry in trainer.settings.datasets].index(kind))
    trainer._backward(draw, trainer.maker.make(draw))
    parts = {name: list(part.parameters()) for name, part in trainer.network.named_children()}
    parts["centres"] = list(trainer.criteria.parameters())
    return {
        name: max((0.0 if p.grad is None else float(p.grad.abs().max()) for p in parameters), default=0.0)
        for name, parameters in parts.items()
    }


@pytest.mark.parametrize(
    ("kind", "taught"),
    [
        ("detection", {"trunk", "neck", "objects", "faces"}),
        ("face_detection", {"trunk", "neck", "faces"}),
        ("face_landmarks", {"trunk", "neck", "faces"}),
        ("scenes", {"trunk", "scene"}),
        ("identities", {"trunk", "identity", "centres"}),
    ],
)
def test_a_set_teaches_the_heads_whose_labels_it_has_and_no_other(data: Path, kind: str, taught: set[str]) -> None:
    """A missing label gives no loss: it is never background."""
    found = gradients(trainer_on(data, tiny_settings()), kind)
    assert {name for name, gradient in found.items() if gradient > 0} == taught


def without(task: str) -> Callable[[Trainer], None]:
    def change(trainer: Trainer) -> None:
        labelled = trainer.sets[0]
        values = {field.name: getattr(labelled, field.name) for field in fields(labelled)}
        trainer.sets[0] = type(labelled)(**(values | {task: None}))

    return change


@pytest.mark.parametrize(("missing", "other"), [("faces", "objects"), ("objects", "faces")])
def test_a_detection_set_without_one_kind_of_label_teaches_only_the_other(data: Path, missing: str, other: str) -> None:
    trainer = trainer_on(data, tiny_settings("detection"))
    without(missing)(trainer)
    found = gradients(trainer, "detection")
    assert found[missing] == 0.0
    assert found[other] > 0 and found["trunk"] > 0


def test_a_head_that_was_not_taught_does_not_move_at_all(data: Path) -> None:
    """Not by weight decay and not by the optimiser's memory either."""
    trainer = trainer_on(data, tiny_settings("scenes", weight_decay=0.5))
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    trainer.train_step()
    moved = {
        name.split(".")[0] for name, value in trainer.network.named_parameters() if not torch.equal(value, before[name])
    }
    assert moved == {"trunk", "scene"}


def test_scenes_at_the_size_of_a_face_are_still_scenes(data: Path) -> None:
    trainer = trainer_on(data, tiny_settings(datasets=(dataset("identities"), dataset("scenes", size=128))))
    for place, kind in enumerate(("identity", "scene")):
        draw = trainer._draw(place)
        assert set(trainer._losses(trainer.maker.make(draw), draw)) == {kind}


def losses_before_and_after(data: Path, kind: str, steps: int) -> tuple[dict[str, float], dict[str, float]]:
    entry = dataset(kind, batch=4, augmentation=STILL)
    settings = tiny_settings(
        datasets=(entry,),
        steps=steps,
        micro_batches=1,
        warmup_steps=3,
        learning_rate=1e-2,
        network=msgspec.structs.replace(TINY, dropout=0.0),
        loss=LossSettings(identity_margin=0.0),  # a margin that grows would raise the loss of what is learnt
    )
    trainer = trainer_on(data, settings)
    first, last = {}, {}
    for step in range(steps):
        trainer.train_step()
        if step == 0:
            first = dict(trainer.means)
        if step == steps - 10:
            trainer.means.clear()
        last = dict(trainer.means)
    return first, last


@pytest.mark.parametrize(
    ("kind", "task", "steps", "share"),
    [
        ("detection", "objects", 60, 0.6),
        ("face_landmarks", "faces", 60, 0.6),
        ("scenes", "scene", 40, 0.7),
        ("identities", "identity", 25, 0.6),
    ],
)
def test_a_handful_of_pictures_is_learnt_by_heart(data: Path, kind: str, task: str, steps: int, share: float) -> None:
    first, last = losses_before_and_after(data, kind, steps)
    assert last[f"{task}.total"] < share * first[f"{task}.total"]


def rates(data: Path, settings: TrainingSettings) -> list[float]:
    trainer = trainer_on(data, settings)
    found = []
    for step in range(settings.steps):
        trainer.step = step
        found.append(trainer.learning_rate())
    return found


def test_the_learning_rate_rises_then_falls_along_a_cosine(data: Path) -> None:
    found = rates(data, tiny_settings("scenes", steps=104, warmup_steps=4, learning_rate=1.0))
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[4] == pytest.approx(1.0)
    assert found[54] == pytest.approx(0.01 + 0.99 / 2)
    assert all(a > b for a, b in pairwise(found[4:]))
    assert 0.01 < found[-1] < 0.012


def test_no_warm_up_begins_at_the_full_rate(data: Path) -> None:
    assert rates(data, tiny_settings("scenes", steps=10, warmup_steps=0, learning_rate=1.0))[0] == pytest.approx(1.0)


def test_the_optimiser_uses_that_rate_and_decays_matrices_alone(data: Path) -> None:
    trainer = trainer_on(data, tiny_settings("scenes", weight_decay=0.25))
    rate = trainer.train_step()
    assert [group["lr"] for group in trainer.optimiser.groups] == [rate] * 3
    decayed, plain, centres = trainer.optimiser.groups
    assert (decayed["weight_decay"], plain["weight_decay"], centres["weight_decay"]) == (0.25, 0.0, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim <= 1 for p in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(trainer.network.parameters()))


def test_the_last_share_of_a_run_has_no_mosaics(data: Path) -> None:
    phases = (PhaseSettings(share=0.8), PhaseSettings(share=0.2, mosaic=False))
    settings = tiny_settings(datasets=(dataset("detection", mosaic=1.0),), steps=10, phases=phases)
    trainer = trainer_on(data, settings)

    def most_boxes(step: int) -> int:
        trainer.step = step
        targets = trainer.maker.make(trainer._draw(0)).objects
        assert targets is not None
        return targets.boxes.shape[1]

    assert most_boxes(7) > 2
    assert most_boxes(8) == 2


def test_means_begin_at_the_first_value_and_follow_slowly(data: Path) -> None:
    trainer = trainer_on(data, tiny_settings("scenes"))
    for value in (4.0, 4.0, 5.0):
        trainer._note("scene.total", value)
    assert trainer.means == {"scene.total": pytest.approx(4.02)}


def test_every_set_comes_up_in_proportion(data: Path) -> None:
    trainer = trainer_on(data, tiny_settings(temperature=0.0))
    assert sorted(trainer.set_sampler.step()) == list(range(len(SETS)))


def test_a_run_that_parts_scores_from_boxes_begins_with_one_that_does_not(data: Path) -> None:
    """Nor the other way round: what its own convolution knows of classes would be lost."""
    settings = tiny_settings()
    wide = msgspec.structs.replace(settings.network, class_width=12)
    joined = trainer_on(data, settings)
    parted = trainer_on(data, msgspec.structs.replace(settings, network=wide))
    parted.begin_from(joined.checkpoint())
    pictures = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    before, now, average = (
        each.eval().frame(pictures)["objects"] for each in (joined.network, parted.network, parted.ema.network)
    )
    torch.testing.assert_close(now, before)
    torch.testing.assert_close(average, before)
    with pytest.raises(DataError, match="the checkpoint's network, classes or people are not the configuration's"):
        joined.begin_from(parted.checkpoint())
