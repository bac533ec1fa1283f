"""Clips for sources."""

from pathlib import Path

import pytest

from tests.pipeline.made_captures import MakeClip


@pytest.fixture(scope="session")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("capture") / "clip.mp4", frames=20, size=(160, 120), fps=20)


@pytest.fixture(scope="session")
def transport_stream(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("capture") / "clip.ts", frames=20, size=(160, 120)).read_bytes()


@pytest.fixture(scope="session")
def larger_transport_stream(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("capture") / "larger.ts", frames=20, size=(192, 144)).read_bytes()
