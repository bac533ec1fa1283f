from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch

from engines.compiling.export import Trained, export
from engines.errors import DataError
from engines.network.network import build_network
from engines.spec import EntryName, EntrySpec, Model, Precision, Thresholds, load_model
from engines.training import teaching
from engines.training.datasets import LoadedDatasets, load_sets
from engines.training.settings import LossSettings
from engines.training.teaching import teach
from engines.training.trainer import Trainer
from tests.engines.training.made_data import TINY, tiny_settings

SIDE = 64
OBJECTS, SCENES = ("cat", "person"), ("cat", "church", "dog")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model with all tasks; what it says is pretended below."""
    folder = tmp_path_factory.mktemp("teacher")
    weights = build_network(TINY, len(OBJECTS), len(SCENES)).state_dict()
    thresholds = Thresholds(object_score=0.5, face_score=0.5)
    export(Trained("teacher", TINY, weights, OBJECTS, SCENES), folder, (SIDE, SIDE), thresholds)
    return load_model(folder)


class Pretended:
    """An engine that always says: a sure person, an unsure cat, noise; one face with points; a church."""

    def __init__(self, model: Model, entry: EntryName, precision: Precision) -> None:
        assert precision == "f32", "a teacher says what it says in full precision"
        self.spec: EntrySpec = model.spec.entry(entry)

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        count = len(batch)
        rows = {
            "object_boxes": [[8, 16, 24, 48], [32, 16, 56, 48], [30, 30, 40, 40]],
            "object_scores": [0.9, 0.3, 0.1],
            "object_labels": [1, 0, 0],
            "face_boxes": [[8, 16, 24, 32]],
            "face_scores": [0.8],
            "face_landmarks": [[[10, 20], [20, 20], [15, 24], [11, 28], [19, 28]]],
            "scene": [0.1, 0.8, 0.1],
            "embedding": [1.0] + [0.0] * 15,
            "quality": 0.5,
        }
        return {name: np.repeat(np.array([row], np.float32), count, axis=0) for name, row in rows.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


@pytest.fixture
def taught(data: Path, teacher: Model, monkeypatch: pytest.MonkeyPatch) -> LoadedDatasets:
    monkeypatch.setattr(teaching, "open_engine", Pretended)
    return teach(load_sets(tiny_settings().datasets, data), [teacher])


def test_what_a_set_lacks_is_filled_in_and_what_it_has_stays(data: Path, taught: LoadedDatasets) -> None:
    plain = {each.name: each for each in load_sets(tiny_settings().datasets, data).sets}
    found = {each.name: each for each in taught.sets}
    assert plain["face_detection"].objects is None and found["face_detection"].objects is not None
    assert found["face_detection"].faces is not None and plain["face_detection"].faces is not None
    assert torch.equal(found["face_detection"].faces.boxes, plain["face_detection"].faces.boxes)
    assert found["detection"].objects is not None and plain["detection"].objects is not None
    assert torch.equal(found["detection"].objects.boxes, plain["detection"].objects.boxes)


def test_sure_boxes_are_labels_unsure_ones_are_ignored_and_noise_is_background(taught: LoadedDatasets) -> None:
    (data,) = [each for each in taught.sets if each.name == "face_detection"]
    assert data.objects is not None
    for row in range(len(data)):
        there = data.objects.classes[row] >= 0
        assert data.objects.classes[row][there].tolist() == [OBJECTS.index("person"), OBJECTS.index("cat")]
        assert data.objects.ignore[row][there].tolist() == [False, True]


def test_boxes_are_in_the_pixels_of_the_canvas(taught: LoadedDatasets) -> None:
    """The pictures are 96x64: the teacher's input has bars above and below that the canvas has not."""
    (data,) = [each for each in taught.sets if each.name == "face_detection"]
    assert data.objects is not None
    scale = float(data.extents[0, 0]) / SIDE
    bar = (SIDE - float(data.extents[0, 1]) / scale) / 2
    wanted = [8 * scale, (16 - bar) * scale, 24 * scale, (48 - bar) * scale]
    assert data.objects.boxes[0, 0].tolist() == pytest.approx(wanted, abs=2 * scale)


def test_scenes_and_embeddings_are_what_the_teacher_says(taught: LoadedDatasets) -> None:
    for each in taught.sets:
        if each.kind == "identity":
            assert each.embeddings is not None and each.embeddings[:, 0].tolist() == [1.0] * len(each)
        else:
            assert each.scene_targets is not None
            assert each.scene_targets.tolist() == [pytest.approx([0.1, 0.8, 0.1])] * len(each)


def test_a_taught_set_teaches_the_heads_that_its_labels_do_not(data: Path, taught: LoadedDatasets) -> None:
    settings = tiny_settings("face_detection")
    sets = [each for each in taught.sets if each.name == "face_detection"]
    trainer = Trainer(settings, sets, (taught.objects, taught.scenes), CPU)
    trainer.train_step()
    assert {name.split(".")[0] for name in trainer.means} == {"objects", "faces", "gradient"}
    everything = Trainer(tiny_settings(), taught.sets, (taught.objects, taught.scenes), CPU)
    draw = everything._draw([each.name for each in taught.sets].index("face_detection"))
    losses = everything._losses(everything.maker.make(draw), draw)
    assert set(losses) == {"objects", "faces"} | ({"scene"} if not draw.mosaic else set())


@pytest.mark.parametrize(("share", "moved"), [(0.0, False), (1.0, True)])
def test_the_teachers_word_counts_as_the_settings_say(
    data: Path, taught: LoadedDatasets, share: float, moved: bool
) -> None:
    """At a share of nothing, the loss of faces is that of an untaught run; at all, the labels do not count."""
    settings = tiny_settings("identities", loss=LossSettings(distillation=share))
    sets = [each for each in taught.sets if each.kind == "identity"]
    plain = load_sets(settings.datasets, data).sets
    with_teacher, without = (Trainer(settings, each, ((), ()), CPU) for each in (sets, plain))
    draws = [trainer._draw(0) for trainer in (with_teacher, without)]
    one, other = (
        trainer._losses(trainer.maker.make(draw), draw)["identity"].total
        for trainer, draw in zip((with_teacher, without), draws, strict=True)
    )
    assert (abs(float(one.detach()) - float(other.detach())) > 1e-3) == moved


def test_classes_that_the_data_does_not_have_are_refused(data: Path, teacher: Model) -> None:
    strange = Model(teacher.path, msgspec.structs.replace(teacher.spec, objects=("cat", "zebra")))
    with pytest.raises(DataError, match="knows objects that the data does not: zebra"):
        teach(load_sets(tiny_settings("detection").datasets, data), [strange])


def test_a_released_model_is_a_beginning(data: Path, teacher: Model) -> None:
    settings = tiny_settings()
    loaded = load_sets(settings.datasets, data)
    trainer = Trainer(settings, loaded.sets, (loaded.objects, loaded.scenes), CPU)
    trainer.begin_from_model(teacher)
    weights = torch.load(teacher.weights, weights_only=True)["model"]
    assert torch.equal(trainer.network.state_dict()["trunk.stem.conv.weight"], weights["trunk.stem.conv.weight"])
    assert (trainer.step, trainer.began) == (0, 0)


def test_a_run_whose_checkpoint_is_lost_goes_on_in_its_schedule(data: Path, teacher: Model) -> None:
    """From the weights that were exported, with a learning rate that rises anew."""
    settings = msgspec.structs.replace(tiny_settings(), steps=100, warmup_steps=10)
    loaded = load_sets(settings.datasets, data)
    whole, lost = (Trainer(settings, loaded.sets, (loaded.objects, loaded.scenes), CPU) for _ in range(2))
    whole.step = 50
    lost.begin_from_model(teacher, at_step=50)
    assert lost.step == 50
    assert lost.learning_rate() == pytest.approx(whole.learning_rate() / 10)
    lost.step = whole.step = 60
    assert lost.learning_rate() == whole.learning_rate()
    again = Trainer(settings, loaded.sets, (loaded.objects, loaded.scenes), CPU)
    again.restore(lost.checkpoint())
    assert (again.step, again.began) == (60, 50)


def test_a_model_of_another_network_is_no_beginning(data: Path, teacher: Model) -> None:
    network = msgspec.structs.replace(tiny_settings().network, neck=16)
    settings = msgspec.structs.replace(tiny_settings(), network=network)
    loaded = load_sets(settings.datasets, data)
    other = Trainer(settings, loaded.sets, (loaded.objects, loaded.scenes), CPU)
    with pytest.raises(DataError, match="the model's network is not the configuration's"):
        other.begin_from_model(teacher)
