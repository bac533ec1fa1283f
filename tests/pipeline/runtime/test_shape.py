"""The size of the frame entry in a run."""

from pathlib import Path

import msgspec
import pytest
import structlog.testing

from engines.errors import ConfigError, ModelError
from engines.spec import Model, load_model, write_spec
from pipeline.runtime.shape import model_of, with_size
from pipeline.settings.schema import CameraSettings, Config, InferenceSettings, ModelSettings, StreamSettings
from pipeline.settings.schema import ZmqSettings as Zmq
from tests.pipeline.made_clips import write_clip
from tests.pipeline.made_runs import write_model

WIDE, TALL, NARROW = (128, 72), (72, 128), (96, 72)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Of 288x288, whose file says that it takes any size."""
    folder = tmp_path_factory.mktemp("model")
    spec = write_model(folder).spec
    assert spec.frame is not None
    frame = msgspec.structs.replace(spec.frame, width=288, height=288, multiple_of=32)
    write_spec(msgspec.structs.replace(spec, frame=frame), folder)
    return load_model(folder)


def config(model: Model, size: str, *streams: StreamSettings) -> Config:
    return Config(
        streams=streams or (StreamSettings(name="door", source="rtsp://10.0.0.7/live"),),
        model=ModelSettings(path=str(model.path)),
        inference=InferenceSettings(size=size),
    )


def chosen(config: Config) -> str:
    return with_size(config).inference.size


@pytest.mark.parametrize(("picture", "size"), [(WIDE, "384x224"), (TALL, "224x384"), (NARROW, "320x256")])
def test_a_file_is_looked_at(model: Model, tmp_path: Path, picture: tuple[int, int], size: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 3, picture)
    wanted = config(model, "auto", StreamSettings(name="clip", source=str(clip)))
    assert chosen(wanted) == size
    entry = model_of(with_size(wanted)).spec.entry("frame")
    assert f"{entry.width}x{entry.height}" == size


def test_a_live_stream_has_the_shape_that_the_configuration_says(model: Model) -> None:
    assert chosen(config(model, "auto")) == "384x224"
    narrow = msgspec.structs.replace(config(model, "auto"), zmq=Zmq(live_picture=(640, 480)))
    assert chosen(narrow) == "320x256"
    camera = CameraSettings(width=480, height=640)
    assert chosen(config(model, "auto", StreamSettings(name="a", source="0", camera=camera))) == "256x320"


def test_the_models_own_size_and_a_size_in_pixels_stay(model: Model) -> None:
    for size, width in (("model", 288), ("416x224", 416)):
        wanted = with_size(config(model, size))
        assert wanted.inference.size == size
        assert model_of(wanted).spec.entry("frame").width == width


def test_a_model_of_one_size_keeps_it_and_says_so(model: Model, tmp_path: Path) -> None:
    for file in model.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    frame = msgspec.structs.replace(model.spec.entry("frame"), multiple_of=None)
    write_spec(msgspec.structs.replace(model.spec, frame=frame), tmp_path)
    with structlog.testing.capture_logs() as logs:
        assert chosen(config(load_model(tmp_path), "auto")) == "288x288"
    assert [each["log_level"] for each in logs] == ["warning"]


def test_a_size_that_the_model_does_not_take_is_refused(model: Model) -> None:
    with pytest.raises(ModelError, match=r"inference\.size is '100x64': .*must be multiples of 32"):
        model_of(config(model, "100x64"))


def test_a_size_that_was_not_chosen_is_an_error(model: Model) -> None:
    with pytest.raises(ConfigError, match="chosen where a run begins"):
        model_of(config(model, "auto"))
