"""What is refused before anything of a run has begun."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.errors import ConfigError, GalleryError, ModelError, SourceError, TrunklineError
from engines.spec import Model
from pipeline.service import run as running
from pipeline.settings.schema import Config, ModelSettings, PublishSettings
from pipeline.sinks.zmq import Publisher
from tests.pipeline.made_runs import (
    make_config,
    write_model,
)

pytestmark = pytest.mark.usefixtures("logs", "no_thread_is_left")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Config], TrunklineError]:
    """Runs a configuration that cannot be had; its error, when no thread, no file and no socket came of it."""

    def refuse(config: Config) -> TrunklineError:
        started: list[str] = []
        before, files = set(threading.enumerate()), set(tmp_path.rglob("*"))
        with pytest.raises(TrunklineError) as raised:
            running.run(config, stop=threading.Event(), started=started.append)
        assert started == []
        assert set(threading.enumerate()) == before
        assert set(tmp_path.rglob("*")) == files
        return raised.value

    return refuse


def test_a_missing_file_is_refused_before_anything_starts(
    model: Model, clip: Path, tmp_path: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    missing = tmp_path / "none.mp4"
    streams = {"door": clip, "yard": missing}
    error = refused(make_config(model, streams, record={"directory": str(tmp_path / "videos")}))
    assert isinstance(error, SourceError)
    assert str(error) == f"stream 'yard': source '{missing}' does not exist"


def test_a_file_that_is_no_video_is_refused(
    model: Model, tmp_path: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    error = refused(make_config(model, {"door": tmp_path / "notes.mp4"}))
    assert str(error) == f"stream 'door': source '{tmp_path}/notes.mp4' is not a video"


def test_a_damaged_model_is_refused(clip: Path, tmp_path: Path, refused: Callable[[Config], TrunklineError]) -> None:
    damaged = write_model(tmp_path / "model")
    whole = damaged.file("frame").read_bytes()
    damaged.file("frame").write_bytes(whole[:-1])
    error = refused(make_config(damaged, {"door": clip}))
    assert isinstance(error, ModelError)
    assert "frame.onnx does not match spec.json: sha256" in str(error)


def test_a_model_that_does_not_do_what_its_spec_says_is_refused(
    clip: Path, tmp_path: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    model = write_model(tmp_path / "model")
    spec = json.loads((model.path / "spec.json").read_text())
    spec["frame"]["outputs"]["scene"] = [3]
    (model.path / "spec.json").write_text(json.dumps(spec))
    error = refused(make_config(model, {"door": clip}))
    assert isinstance(error, ModelError)
    assert "output 'scene' of the frame entry is (2, 2), expected (2, 3)" in str(error)


def test_an_address_that_is_taken_is_refused(
    model: Model, clip: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    with Publisher(PublishSettings(address="tcp://127.0.0.1:0")) as publisher:
        error = refused(make_config(model, {"door": clip}, publish={"address": publisher.address}))
    assert isinstance(error, ConfigError)
    assert "Address already in use" in str(error)


def test_a_gallery_that_is_none_is_refused(
    model: Model, clip: Path, tmp_path: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    (tmp_path / "people.sqlite").write_text("not a gallery" * 100)
    error = refused(make_config(model, {"door": clip}, identity={"gallery": str(tmp_path / "people.sqlite")}))
    assert isinstance(error, GalleryError)
    assert "people.sqlite" in str(error)


def test_after_a_refusal_the_address_is_free_again(model: Model, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Publisher(PublishSettings(address="tcp://127.0.0.1:0")) as publisher:
        address = publisher.address
    config = make_config(
        model, {"door": clip}, publish={"address": address}, record={"directory": str(tmp_path / "file" / "videos")}
    )
    with pytest.raises(ConfigError, match=r"record\.directory: cannot make"):
        running.run(config, stop=threading.Event())
    Publisher(PublishSettings(address=address)).close()


def test_a_backend_that_cannot_run_here_is_refused(
    model: Model, clip: Path, refused: Callable[[Config], TrunklineError]
) -> None:
    tensorrt = ModelSettings(path=str(model.path), backend="tensorrt")
    assert "backend 'tensorrt' cannot run" in str(refused(make_config(model, {"door": clip}, model=tensorrt)))


def test_a_zone_for_what_the_model_does_not_know_is_refused_before_anything_runs(model: Model, clip: Path) -> None:
    zone = {"name": "lawn", "points": [[0, 0], [1, 0], [1, 1]], "labels": ["lion"]}
    with pytest.raises(ConfigError, match=r"streams\[0\].zones\[0\].labels\[0\] is 'lion', but must be one of"):
        running.run(make_config(model, {"door": {"source": clip, "zones": [zone]}}), stop=threading.Event())
