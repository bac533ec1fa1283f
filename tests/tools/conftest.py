"""For tests of ``trunkline run``."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from engines.spec import Model
from tests.pipeline.made_runs import write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The made model, which no test changes."""
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=20, size=(160, 120))


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signal handlers and logging as they were: a run in this process takes them over."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    structlog.reset_defaults()


@pytest.fixture
def write_config(model: Model, clip: Path, tmp_path: Path) -> Callable[..., Path]:
    """``write_config(*lines, source=clip, model=the made one, stream=())``: a configuration file.

    ``lines`` come after everything else, ``stream`` are lines of the one stream.
    """

    def config(
        *lines: str, source: str | Path = clip, model: str | Path = model.path, stream: tuple[str, ...] = ()
    ) -> Path:
        rows = [
            "[[streams]]",
            'name = "door"',
            f'source = "{source}"',
            *stream,
            "[model]",
            f'path = "{model}"',
            'backend = "onnxruntime"',
            *([] if "[publish]" in lines else ["[publish]", 'address = "tcp://127.0.0.1:0"']),
            *lines,
        ]
        path = tmp_path / "site.toml"
        path.write_text("\n".join(rows) + "\n")
        return path

    return config
