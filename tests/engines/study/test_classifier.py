from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from engines.errors import ConfigError, DataError
from engines.network.plain import PlainNetwork, PlainSettings
from engines.study.classifier import ClassifierTrainer, Epoch, load_classifier_data, save_classifier
from engines.study.classifier_settings import ClassifierSettings, is_classifier, load_classifier_settings
from engines.training.settings import AugmentationSettings
from tests.engines.study.made_classes import TOML, colours, write_classes, write_plain

CPU = torch.device("cpu")
SHIPPED = Path(__file__).parents[3] / "configs/training/plain-cnn.toml"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "data")


def trained(settings: ClassifierSettings, data: Path) -> tuple[ClassifierTrainer, list[Epoch]]:
    trainer = ClassifierTrainer(settings, load_classifier_data(settings, data), CPU)
    return trainer, list(trainer.run())


def test_colours_are_learnt(data: Path) -> None:
    trainer, epochs = trained(colours(8), data)
    assert [epoch.number for epoch in epochs] == list(range(1, 9))
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].validation_top1 == 1.0
    evidence = trainer.evidence()
    assert evidence.labels == ("room", "street")
    assert evidence.target.tolist() == [0] * 6 + [1] * 6
    np.testing.assert_allclose(evidence.probabilities.sum(1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("augmentation", [None, AugmentationSettings(jpeg=0.0)], ids=["as they are", "augmented"])
def test_the_seed_decides_everything(data: Path, augmentation: AugmentationSettings | None) -> None:
    dropout = replace(colours().network, dropout=0.5)
    settings = replace(colours(), augmentation=augmentation, network=dropout)
    first, again = trained(settings, data), trained(settings, data)
    other = trained(replace(settings, seed=1), data)
    assert [epoch.loss for epoch in first[1]] == [epoch.loss for epoch in again[1]]
    assert [epoch.loss for epoch in first[1]] != [epoch.loss for epoch in other[1]]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_either_arithmetic_learns(data: Path, precision: str) -> None:
    _, epochs = trained(replace(colours(8), precision=precision), data)
    assert epochs[-1].validation_top1 == 1.0


def test_only_the_pictures_that_are_learnt_get_room_for_crops(data: Path) -> None:
    loaded = load_classifier_data(replace(colours(), augmentation=AugmentationSettings(jpeg=0.0)), data)
    assert loaded.train.pictures.shape == (12, 11, 11, 3)
    assert loaded.validation.pictures.shape == (12, 8, 8, 3)


def test_folders_are_renamed_as_the_source_says(data: Path) -> None:
    renamed = replace(colours().train, rename={"room": "chamber"})
    with pytest.raises(DataError, match="has pictures of 'room', which training has not: chamber, street"):
        load_classifier_data(replace(colours(), train=renamed), data)
    both = replace(colours(), train=renamed, validation=replace(colours().validation, rename={"room": "chamber"}))
    assert load_classifier_data(both, data).labels == ("chamber", "street")


def test_a_folder_without_pictures_is_refused(data: Path) -> None:
    (data / "empty").mkdir()
    with pytest.raises(DataError, match="training set: there are no pictures in empty"):
        load_classifier_data(replace(colours(), train=replace(colours().train, folders=("empty",))), data)


def test_data_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data .*nowhere: no such folder"):
        load_classifier_data(colours(), tmp_path / "nowhere")


def test_one_broken_picture_of_many_is_skipped_and_said(tmp_path: Path) -> None:
    data = write_classes(tmp_path, pictures=60)
    (data / "classes/train/room/0.png").write_bytes(b"no picture")
    loaded = load_classifier_data(colours(), data)
    assert len(loaded.train) == 119
    assert len(loaded.train.broken) == 1 and "0.png" in loaded.train.broken[0]


def test_too_many_broken_pictures_are_refused(data: Path) -> None:
    (data / "classes/val/room/0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="validation set, pictures: 1 of 12 rows cannot be read"):
        load_classifier_data(colours(), data)


def test_a_saved_classifier_says_the_same(data: Path, tmp_path: Path) -> None:
    trainer, _ = trained(colours(), data)
    save_classifier(trainer, tmp_path / "checkpoint.pt")
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert msgspec.json.decode(saved["settings"], type=ClassifierSettings) == trainer.settings
    assert saved["labels"] == ("room", "street")
    network = PlainNetwork(trainer.settings.network, 2).eval()
    network.load_state_dict(saved["network"])
    pictures = trainer.data.validation.pictures
    with torch.no_grad():
        torch.testing.assert_close(network(pictures).softmax(1).numpy(), trainer.evidence().probabilities)


def test_a_configuration_reads_as_its_struct(tmp_path: Path) -> None:
    path = tmp_path / "colours.toml"
    path.write_text(TOML)
    assert is_classifier(path)
    assert load_classifier_settings(path) == colours()


def test_the_shipped_configuration_is_the_network_of_the_articles() -> None:
    settings = load_classifier_settings(SHIPPED)
    assert settings.network == PlainSettings(size=28, blocks=((32,), (64,)), dense=128, activation="relu")
    assert (settings.epochs, settings.learning_rate, settings.augmentation) == (10, 1e-3, None)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("epochs = 0", "Expected `int` >= 1 - at `[$].epochs`"),
        ("epoch = 3", "unknown field `epoch`"),
        ("augmentation = { paste_faces = 0.5 }", "paste_faces and paste_objects must be 0 for a classifier"),
        ("augmentation = { jpeg = 0.5 }", "jpeg must be 0 where size is no multiple of 16, got 0.5 at size 8"),
        ("batch = ", "Invalid value"),
    ],
    ids=["no epochs", "no such key", "pasted faces without boxes", "blocks that do not fit", "no TOML"],
)
def test_a_wrong_key_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "wrong.toml"
    key = line.split(" ")[0]
    path.write_text("\n".join([line, *(row for row in TOML.splitlines() if not row.startswith(f"{key} "))]))
    with pytest.raises(ConfigError, match=f"wrong.toml: .*{sentence}"):
        load_classifier_settings(path)


def test_a_missing_configuration_is_said(tmp_path: Path) -> None:
    assert not is_classifier(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load_classifier_settings(tmp_path / "none.toml")


def test_joint_training_needs_no_recipe_and_others_there_are_not(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('name = "n"')
    assert not is_classifier(path)
    path.write_text('recipe = "cake"')
    with pytest.raises(ConfigError, match="recipe must be 'classifier' or left out, got 'cake'"):
        is_classifier(path)


def test_a_single_picture_is_a_data_set(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_plain(tmp_path / f"classes/{split}/room/0.png", (5, 5), (9, 9, 9), np.random.default_rng(0))
    _, epochs = trained(colours(1), tmp_path)
    assert epochs[-1].validation_top1 == 1.0
