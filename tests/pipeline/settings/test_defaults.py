from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.settings import defaults
from pipeline.settings.defaults import config_of, stream_name, with_default_gallery
from pipeline.settings.schema import GALLERY, Config, IdentitySettings, ModelSettings, StreamSettings
from tests.engines.made_models import write_partial_model
from tests.pipeline.made_runs import write_model


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("0", "camera0"),
        ("street.mp4", "street"),
        ("/videos/front door.mkv", "front-door"),
        ("../.hidden.mp4", "hidden"),
        ("日本.mp4", "stream"),
        ("", "stream"),
        ("rtsp://camera.local/stream", "camera.local-stream"),
        ("rtsp://camera.local:8554/a/b?channel=1#t", "camera.local-8554"),  # either step may be a key
        ("rtsp://ada:pa@ss/word@10.0.0.7/live", "10.0.0.7-live"),
        ("rtsp://ada@10.0.0.7/live", "10.0.0.7-live"),
        ("rtsp://10.0.0.7/user=ada&password=secret", "10.0.0.7"),
        ("rtsp://[::1]:554/live", "1-554-live"),
    ],
)
def test_a_stream_is_named_after_its_source(source: str, name: str) -> None:
    assert stream_name(source) == name


def test_a_model_may_be_said() -> None:
    assert config_of(["0"]).model == ModelSettings()
    assert config_of(["0"], "models/street").model.path == "models/street"


@given(st.lists(st.one_of(st.text(), st.sampled_from(["0", "a.mp4", "a-2.mp4", "rtsp://a/b"])), min_size=1, max_size=6))
def test_names_are_allowed_and_differ_whatever_the_sources_are(sources: list[str]) -> None:
    config = config_of(sources)
    assert msgspec.convert(msgspec.to_builtins(config), Config) == config
    names = [stream.name for stream in config.streams]
    assert len(set(names)) == len(sources)
    assert [stream.source for stream in config.streams] == sources


@given(st.text(min_size=1), st.from_regex(r"[a-z0-9@/:?#]{3,}", fullmatch=True))
def test_a_password_is_in_no_name(user: str, password: str) -> None:
    assert stream_name(f"rtsp://{user}:secret{password}@host/live".replace("\0", "")).find("secret") == -1


def test_everything_else_is_the_default() -> None:
    assert config_of(["a.mp4"]) == Config(streams=(StreamSettings(name="a", source="a.mp4"),))


# The gallery.


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gallery_of(gallery: str | None = None, forward: str | None = None, model: str = "s") -> str | None:
    config = config_of(["0"])
    streams = (msgspec.structs.replace(config.streams[0], forward=forward),)
    identity = IdentitySettings(gallery=gallery)
    model_settings = msgspec.structs.replace(config.model, path=model)
    return with_default_gallery(
        msgspec.structs.replace(config, streams=streams, identity=identity, model=model_settings)
    ).identity.gallery


def test_no_names_without_a_gallery(here: Path) -> None:
    assert gallery_of() is None


def test_the_gallery_that_is_there_is_taken(here: Path) -> None:
    (here / GALLERY).write_bytes(b"")
    assert gallery_of() == GALLERY
    assert gallery_of("other.sqlite") == "other.sqlite"
    assert gallery_of("") is None, "told to give no names"
    assert gallery_of(forward="tcp://10.0.0.2:5570") is None, "nobody is seen where frames are forwarded"


def test_a_model_that_names_nobody_takes_no_gallery_that_nobody_asked_for(here: Path) -> None:
    (here / GALLERY).write_bytes(b"")
    write_partial_model(here / "scenes", "scene")
    write_model(here / "whole")
    assert gallery_of(model="scenes") is None
    assert gallery_of(model="whole") == GALLERY


def test_the_configurations_and_the_readme_name_the_same_gallery() -> None:
    root = Path(defaults.__file__).parents[2]
    for name in ("configs/camera.toml", "configs/site.toml", "README.md", "docs/gallery.md"):
        text = (root / name).read_text()
        assert GALLERY in text, name
        assert "gallery.sqlite" not in text, name
