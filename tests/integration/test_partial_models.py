"""Models that have only some of the tasks, from an untrained network to the messages of a pipeline."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.compiling.export import export
from engines.engine import open_engine
from engines.errors import ModelError
from engines.evaluation.report import evaluate_model
from engines.spec import Backend, Model, NetworkSettings, TaskName, Thresholds, load_model
from tests.engines.compiling.made_network import trained
from tests.engines.evaluation.colours import OBJECTS, SCENES
from tests.engines.made_models import pictures
from tests.pipeline.made_runs import Run, check_books, make_config, video_of

FRAMES = 12
TINY = NetworkSettings(channels=(8, 8, 8, 8, 8), neck=8, towers=1, embedding=16)
# The made network is about this sure of a thing at every anchor point; a pipeline shall see some of them.
LOW = Thresholds(object_score=0.2, face_score=0.2)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """``make_model("objects", "scene")``: a model of those tasks, made once."""

    @cache
    def make(*tasks: TaskName) -> Model:
        folder = tmp_path_factory.mktemp("model")
        export(trained(msgspec.structs.replace(TINY, tasks=tasks)), folder, (64, 96), LOW)
        return load_model(folder)

    return make


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=FRAMES, size=(192, 128))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_objects_and_scenes_alone_are_told_and_nothing_else(
    make_model: Callable[..., Model], tmp_path: Path, clip: Path, backend: Backend
) -> None:
    model = make_model("objects", "scene")
    with open_engine(model, "frame", backend, "f32") as engine:
        outputs = engine.infer(pictures(2, 64, 96))
        assert outputs.keys() == {"object_boxes", "object_scores", "object_labels", "scene"}
        np.testing.assert_allclose(outputs["scene"].sum(axis=1), 1.0, atol=1e-5)
    with pytest.raises(ModelError, match="has no face entry: it knows objects, scene alone"):
        open_engine(model, "face", backend)

    run = Run(
        make_config(
            model,
            {"door": clip},
            model={"path": str(model.path), "backend": backend},
            record={"directory": str(tmp_path / "recording")},
        )
    )
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].published == FRAMES
    assert (summary.face_runs, summary.face_crops) == (0, 0)
    frames = run.frames("door")
    assert {each.label for frame in frames for each in frame.objects} <= set(OBJECTS)
    assert any(frame.objects for frame in frames), "tracks begin after a few frames"
    assert all(frame.faces == () for frame in frames)
    assert {each.label for frame in frames for each in frame.scene} <= set(SCENES)
    assert video_of(tmp_path / "recording", "door").is_file()


def test_faces_alone_are_told_and_nobody_has_a_name(make_model: Callable[..., Model], clip: Path) -> None:
    run = Run(make_config(make_model("faces"), {"door": clip}))
    summary = run.end()
    check_books(run, summary)
    frames = run.frames("door")
    assert any(frame.faces for frame in frames)
    assert all(face.identity is None and face.object is None for frame in frames for face in frame.faces)
    assert all(frame.objects == () and frame.scene == () for frame in frames)
    assert {event.kind for event in run.events("door")} == {"face"}


def refusal(run: Run) -> str:
    """Why nothing was started."""
    with pytest.raises(ModelError) as refused:
        run.end()
    assert run.address == "", "it was refused before anything was opened"
    return str(refused.value)


def test_a_pipeline_needs_a_frame_entry(make_model: Callable[..., Model], clip: Path) -> None:
    run = Run(make_config(make_model("identity"), {"door": clip}))
    assert refusal(run) == "model 'tiny' has no frame entry: it knows identity alone"


@pytest.mark.parametrize("tasks", [("faces",), ("objects", "identity")], ids=["no identity", "no faces"])
def test_a_gallery_needs_faces_and_identity(
    make_model: Callable[..., Model], tmp_path: Path, clip: Path, tasks: tuple[TaskName, ...]
) -> None:
    model, gallery = make_model(*tasks), tmp_path / "people.sqlite"
    run = Run(make_config(model, {"door": clip}, identity={"gallery": str(gallery)}))
    assert refusal(run) == (
        f"identity.gallery needs a model that knows faces, identity; model {model.path} knows {', '.join(tasks)}"
    )
    assert not gallery.exists()


def test_a_task_that_a_model_does_not_have_is_not_scored(make_model: Callable[..., Model], tmp_path: Path) -> None:
    model = make_model("objects", "scene")
    sentence = f"evaluation needs a model that knows faces; model {model.path} knows objects"
    with pytest.raises(ModelError, match=sentence):
        evaluate_model(model, tmp_path / "nowhere", tasks=["faces"])
