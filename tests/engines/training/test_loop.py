import shutil
from dataclasses import fields
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import pytest
import structlog
import torch
from torch import Tensor

from engines.errors import ConfigError, DataError, TrainingError
from engines.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from engines.training.loop import PREVIOUS, Progress, train
from engines.training.settings import TrainingSettings
from engines.training.trainer import MAX_SKIPPED_IN_A_ROW, Trainer
from tests.engines.training.made_data import (
    IDENTITIES,
    PICTURES,
    TINY,
    tiny_settings,
    trainer_on,
    write_training_data,
)

HEADS = ("objects", "faces", "scene", "identity")
CPU = torch.device("cpu")


def run(settings: TrainingSettings, data: Path, out: Path, **options: object) -> list[Progress]:
    return list(train(settings, data, out, **{"resume": False, "device": CPU} | options))  # type: ignore[arg-type]


class Straight(NamedTuple):
    """Six steps at once, and what they left; no test changes it."""

    folder: Path
    seen: list[Progress]
    told: list[str]


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    folder, told = tmp_path_factory.mktemp("straight") / "run", list[str]()
    return Straight(folder, run(tiny_settings(), data, folder, opened=told.append), told)


def test_a_few_steps_run_and_leave_a_checkpoint(straight: Straight) -> None:
    folder, seen, told = straight
    assert [each.step for each in seen] == [1, 2, 3, 4, 5, 6]
    assert {name.split(".")[0] for name in seen[-1].losses} == {*HEADS, "gradient"}
    assert all(torch.tensor(list(each.losses.values())).isfinite().all() for each in seen)
    assert told == [
        f"detection: {PICTURES} pictures, 0 unreadable",
        f"face_detection: {PICTURES} pictures, 0 unreadable",
        f"face_landmarks: {PICTURES} pictures, 0 unreadable",
        "scenes: 12 pictures, 0 unreadable",
        "identities: 6 pictures, 0 unreadable",
    ]
    saved = load_checkpoint(folder / "checkpoint.pt")
    assert (saved.step, saved.objects, saved.scenes) == (6, ("cat", "person"), ("cat", "church", "dog"))
    assert saved.settings == tiny_settings(), "which labels all tasks"
    assert saved.criteria["identity.cosface.centres"].shape == (len(IDENTITIES), TINY.embedding)
    assert not list(folder.glob("*.part"))


def test_bf16_trains_too_and_keeps_its_weights_in_f32(data: Path, tmp_path: Path) -> None:
    (last,) = run(tiny_settings(precision="bf16", steps=1), data, tmp_path)
    assert torch.tensor(list(last.losses.values())).isfinite().all()
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert {value.dtype for value in saved.network.values()} <= {torch.float32, torch.int64}


def same(a: object, b: object) -> bool:
    """Bitwise equality through the nesting of a checkpoint."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def differences(a: Checkpoint, b: Checkpoint) -> list[str]:
    names = [field.name for field in fields(a) if field.name != "seconds"]
    return [name for name in names if not same(getattr(a, name), getattr(b, name))]


def test_a_resumed_run_is_the_run_that_was_never_stopped(data: Path, straight: Straight, tmp_path: Path) -> None:
    """Six steps at once, or three, a checkpoint, a new process' worth of everything and three more: bit by bit."""
    first = run(tiny_settings(), data, tmp_path / "parts", stop_at=3)
    torch.rand(5)  # whatever happens between
    rest = run(tiny_settings(), data, tmp_path / "parts", resume=True)
    assert [each.step for each in first + rest] == [1, 2, 3, 4, 5, 6]
    assert [each.losses for each in first + rest] == [each.losses for each in straight.seen]
    assert [each.learning_rate for each in first + rest] == [each.learning_rate for each in straight.seen]
    one, other = (load_checkpoint(folder / "checkpoint.pt") for folder in (straight.folder, tmp_path / "parts"))
    assert differences(one, other) == []


def test_a_run_with_muon_is_resumed_likewise(data: Path, tmp_path: Path) -> None:
    """Its momentum and the rates of its filters are in the checkpoint."""
    settings = tiny_settings(
        optimiser="muon", network=msgspec.structs.replace(TINY, channels=(8, 16, 16, 16, 16)), steps=4
    )
    run(settings, data, tmp_path / "straight")
    for stop_at in (2, 4):
        run(settings, data, tmp_path / "parts", resume=True, stop_at=stop_at)
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("straight", "parts"))
    assert one.optimiser["muon"]["state"] and differences(one, other) == []


def test_another_seed_is_another_run(data: Path, tmp_path: Path) -> None:
    """What the test above rests on: the comparison can fail."""
    for seed in (0, 1):
        run(tiny_settings(seed=seed), data, tmp_path / str(seed), stop_at=1)
    one, other = (load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("0", "1"))
    assert {"network", "ema", "criteria", "optimiser", "random", "queues", "means"} <= set(differences(one, other))


def test_resuming_without_a_checkpoint_begins(data: Path, tmp_path: Path) -> None:
    assert [each.step for each in run(tiny_settings(), data, tmp_path / "new", resume=True, stop_at=1)] == [1]


def test_a_finished_run_has_nothing_to_resume(data: Path, straight: Straight, tmp_path: Path) -> None:
    folder = shutil.copytree(straight.folder, tmp_path / "run")
    assert run(tiny_settings(), data, folder, resume=True) == []
    assert load_checkpoint(folder / "checkpoint.pt").step == 6


def test_a_run_that_is_stopped_early_has_a_checkpoint(data: Path, tmp_path: Path) -> None:
    asked = iter([False, True])
    assert [each.step for each in run(tiny_settings(), data, tmp_path, stop=lambda: next(asked))] == [1, 2]
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 2


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (tiny_settings(network=msgspec.structs.replace(TINY, neck=16)), "another network or other datasets"),
        (tiny_settings("scenes", "identities"), "another network or other datasets"),
        (tiny_settings(optimiser="muon"), "the optimiser 'adamw', got 'muon'"),
    ],
    ids=["network", "datasets", "optimiser"],
)
def test_a_checkpoint_of_another_configuration_is_refused(
    data: Path, tmp_path: Path, changed: TrainingSettings, sentence: str
) -> None:
    run(tiny_settings(), data, tmp_path, stop_at=1)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(DataError, match=sentence):
        run(changed, data, tmp_path, resume=True)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before, "it stays as it was"


def test_the_length_and_the_rates_of_a_run_may_change_when_it_goes_on(data: Path, tmp_path: Path) -> None:
    run(tiny_settings(), data, tmp_path, stop_at=2)
    longer = tiny_settings(steps=8, learning_rate=1e-4)
    assert [each.step for each in run(longer, data, tmp_path, resume=True, stop_at=3)] == [3]


def test_a_checkpoint_of_other_data_is_refused(data: Path, tmp_path: Path) -> None:
    settings = tiny_settings("detection", "identities")
    saved = trainer_on(data, settings).checkpoint()
    other = write_training_data(tmp_path)
    another = other / "face_recognition/train/Another"
    shutil.copytree(other / "face_recognition/train" / IDENTITIES[0], another)
    with pytest.raises(DataError, match="made from other data"):
        trainer_on(other, settings).restore(saved)
    detection = other / "detection/annotations/instances_train.json"
    detection.write_text(detection.read_text().replace('"person"', '"horse"'))
    shutil.rmtree(another)
    with pytest.raises(DataError, match="made from other data"):
        trainer_on(other, settings).restore(saved)


def test_a_checkpoint_of_more_pictures_is_refused(data: Path) -> None:
    settings = tiny_settings("face_landmarks")
    trainer = trainer_on(data, settings)
    saved = trainer.checkpoint()
    saved.queues[0] = torch.tensor([3, 1, 99])
    with pytest.raises(DataError, match="made from other data"):
        trainer.restore(saved)


def damaged(content: bytes, how: str) -> bytes:
    match how:
        case "empty":
            return b""
        case "half":
            return content[: len(content) // 2]
        case "text":
            return b"not a checkpoint"
        case "flipped":
            return content.replace(b"settings", b"sett\xff\xfe\xfdgs")
    raise AssertionError(how)


@pytest.mark.parametrize("how", ["empty", "half", "text", "flipped"])
def test_a_damaged_checkpoint_is_one_sentence(data: Path, tmp_path: Path, how: str) -> None:
    file = tmp_path / "checkpoint.pt"
    save_checkpoint(trainer_on(data, tiny_settings("scenes")).checkpoint(), file)
    file.write_bytes(damaged(file.read_bytes(), how))
    with pytest.raises(
        DataError, match=rf"checkpoint {file}: is damaged or no checkpoint of a training run"
    ) as refused:
        load_checkpoint(file)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [{"model": {}}, ["weights"], {"settings": b"{}"}])
def test_a_torch_file_of_another_kind_is_no_checkpoint(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(DataError, match=r"other\.pt: is damaged or no checkpoint"):
        load_checkpoint(tmp_path / "other.pt")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.pt: cannot be read: No such file"):
        load_checkpoint(tmp_path / "nowhere.pt")


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "checkpoint.pt"
    checkpoint = trainer_on(data, tiny_settings("scenes")).checkpoint()
    save_checkpoint(checkpoint, file)

    def full(fields: object, part: BinaryIO) -> None:
        part.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(checkpoint, file)
    assert load_checkpoint(file).step == 0
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_last_checkpoint(data: Path, tmp_path: Path) -> None:
    wild = tiny_settings(learning_rate=1e30, warmup_steps=0, clip_norm=1e30, checkpoint_steps=1)
    with pytest.raises(TrainingError, match=r"loss is .* at step 1: lower learning_rate"):
        run(wild, data, tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 1


def test_a_second_stage_begins_with_the_averaged_weights_of_the_first(
    data: Path, straight: Straight, tmp_path: Path
) -> None:
    first = load_checkpoint(straight.folder / "checkpoint.pt")
    # A learning rate of nothing shows what the second stage began with.
    still = tiny_settings(learning_rate=0.0, weight_decay=0.0)
    run(still, data, tmp_path / "second", init=straight.folder / "checkpoint.pt", stop_at=1)
    second = load_checkpoint(tmp_path / "second/checkpoint.pt")
    assert second.step == 1
    name = "trunk.stem.conv.weight"
    assert torch.equal(second.network[name], first.ema[name])
    assert torch.equal(second.criteria["identity.cosface.centres"], first.criteria["identity.cosface.centres"])


def test_frozen_stages_stay_as_the_run_began_and_the_others_learn(
    data: Path, straight: Straight, tmp_path: Path
) -> None:
    first = load_checkpoint(straight.folder / "checkpoint.pt").ema
    frozen = tiny_settings(frozen_stages=2, gradient_steps=1)
    run(frozen, data, tmp_path / "second", init=straight.folder / "checkpoint.pt", stop_at=2)
    second = load_checkpoint(tmp_path / "second/checkpoint.pt")
    for weights in (second.network, second.ema):
        same = {name for name, value in weights.items() if torch.equal(value, first[name])}
        still = {name for name in weights if name.startswith(("trunk.stem.", "trunk.stages.0.", "trunk.stages.1."))}
        assert same & still == still  # statistics of the normalisation among them
        assert not {f"trunk.stages.{number}.down.conv.weight" for number in (2, 3)} & same
    assert second.means["gradient.objects"] > 0


def test_frozen_statistics_normalise_as_the_network_is_used_and_stay(
    data: Path, straight: Straight, tmp_path: Path
) -> None:
    first = load_checkpoint(straight.folder / "checkpoint.pt").ema
    still = tiny_settings(frozen_statistics=True)
    run(still, data, tmp_path / "second", init=straight.folder / "checkpoint.pt", stop_at=2)
    second = load_checkpoint(tmp_path / "second/checkpoint.pt").network
    for name, value in second.items():
        statistic = name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
        assert torch.equal(value, first[name]) == statistic or not name.startswith("trunk."), name


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"frozen_stages": 1}, "got 1 and false: add --init"),
        ({"frozen_statistics": True}, "got 0 and true: add --init"),
    ],
)
def test_nothing_of_fresh_weights_is_frozen(data: Path, tmp_path: Path, kept: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(tiny_settings(**kept), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_milestone_is_small_and_another_run_begins_with_it(data: Path, straight: Straight, tmp_path: Path) -> None:
    whole, kept = straight.folder / "checkpoint.pt", straight.folder / "milestone.pt"
    assert kept.stat().st_size < whole.stat().st_size / 4
    first = load_checkpoint(whole)
    still = tiny_settings(learning_rate=0.0, weight_decay=0.0)
    run(still, data, tmp_path / "second", init=kept, stop_at=1)
    second = load_checkpoint(tmp_path / "second/checkpoint.pt")
    for name, value in first.criteria.items():
        torch.testing.assert_close(second.criteria[name], value, rtol=1e-3, atol=1e-4)
    name = "trunk.stem.conv.weight"
    assert second.network[name].dtype == torch.float32
    torch.testing.assert_close(second.network[name], first.ema[name], rtol=1e-3, atol=1e-4)


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(data: Path, tmp_path: Path) -> None:
    """Those kept the identities' centres alone, as "cosface"."""
    run(tiny_settings(), data, tmp_path / "run", stop_at=2)
    file = tmp_path / "run/checkpoint.pt"
    saved, fields = load_checkpoint(file), torch.load(file, weights_only=True)
    fields["cosface"] = {
        name.removeprefix("identity.cosface."): value for name, value in fields.pop("criteria").items()
    }
    assert set(fields["cosface"]) == {"centres"}
    torch.save(fields, file)
    assert torch.equal(load_checkpoint(file).criteria["identity.cosface.centres"], fields["cosface"]["centres"])
    assert load_checkpoint(file).criteria.keys() == saved.criteria.keys()
    (last,) = run(tiny_settings(), data, tmp_path / "run", resume=True, stop_at=3)
    assert last.step == 3


def test_a_second_stage_of_another_network_is_refused(data: Path, tmp_path: Path) -> None:
    run(tiny_settings(), data, tmp_path / "first", stop_at=1)
    wider = tiny_settings(network=msgspec.structs.replace(TINY, neck=16))
    with pytest.raises(DataError, match="--init: the checkpoint's network, classes or people"):
        run(wider, data, tmp_path / "second", init=tmp_path / "first/checkpoint.pt")


def test_a_released_model_is_begun_with_by_its_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"--init \S+zoo/n: the model's network is not the configuration's"):
        run(tiny_settings(), data, tmp_path / "run", init=Path("n"))


def blow_up(monkeypatch: pytest.MonkeyPatch, steps: set[int], value: float) -> None:
    """Put ``value`` into one gradient of the steps with these numbers; the losses stay as they are."""
    real = Trainer._run

    def overflowing(trainer: Trainer, *arguments: object) -> object:
        found = real(trainer, *arguments)  # type: ignore[arg-type]
        if trainer.step in steps:
            gradient = next(p.grad for p in trainer.optimiser.parameters if p.grad is not None)
            gradient[(0,) * gradient.ndim] = value
        return found

    monkeypatch.setattr(Trainer, "_run", overflowing)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_step_whose_gradients_are_not_finite_changes_no_weight(
    data: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    trainer = trainer_on(data, tiny_settings())
    trainer.train_step()
    weights = {name: each.clone() for name, each in trainer.network.named_parameters()}
    averaged = {name: each.clone() for name, each in trainer.ema.network.named_parameters()}
    blow_up(monkeypatch, {1}, value)
    with structlog.testing.capture_logs() as logs:
        trainer.train_step()
    assert all(torch.equal(each, weights[name]) for name, each in trainer.network.named_parameters())
    assert all(torch.equal(each, averaged[name]) for name, each in trainer.ema.network.named_parameters())
    assert (trainer.step, trainer.skipped) == (2, 1)
    assert [(each["step"], each["skipped"]) for each in logs if "not finite" in each["event"]] == [(2, 1)]
    trainer.train_step()
    assert trainer.skipped_in_a_row == 0 and trainer.finite()
    assert any(not torch.equal(each, weights[name]) for name, each in trainer.network.named_parameters())


def test_an_infinite_gradient_reaches_no_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blow_up(monkeypatch, {2}, float("inf"))
    run(tiny_settings(), data, tmp_path)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert all(bool(each.isfinite().all()) for each in {**saved.network, **saved.ema}.values())


def test_a_run_that_meets_nothing_else_any_more_ends(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings("scenes", steps=40, checkpoint_steps=1, learning_rate=1e-4)
    blow_up(monkeypatch, set(range(2, 40)), float("inf"))
    seen = []
    with pytest.raises(TrainingError, match=f"gradients of {MAX_SKIPPED_IN_A_ROW + 1} steps in a row"):
        seen.extend(train(settings, data, tmp_path, resume=False, device=CPU))
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert all(bool(each.isfinite().all()) for each in saved.network.values())


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trainer.train_step

    def step(trainer: Trainer) -> float:
        rate = real(trainer)
        if trainer.step == 3:
            with torch.no_grad():
                next(trainer.network.parameters()).fill_(float("nan"))
        return rate

    monkeypatch.setattr(Trainer, "train_step", step)
    settings = tiny_settings("scenes", steps=6, checkpoint_steps=1)
    with pytest.raises(TrainingError, match="weights are no longer numbers at step 3"):
        run(settings, data, tmp_path)
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 2
    assert load_checkpoint(tmp_path / PREVIOUS).step == 1


def test_the_checkpoint_before_is_kept(data: Path, tmp_path: Path) -> None:
    run(tiny_settings("scenes", steps=3, checkpoint_steps=1), data, tmp_path)
    assert (load_checkpoint(tmp_path / "checkpoint.pt").step, load_checkpoint(tmp_path / PREVIOUS).step) == (3, 2)
    assert not list(tmp_path.glob("*.part"))
