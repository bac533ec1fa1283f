import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.errors import GalleryError
from pipeline.frames.clock import timestamp
from pipeline.gallery import live as live_gallery
from pipeline.gallery.gallery import Gallery, Terms
from pipeline.gallery.live import LiveGallery
from pipeline.gallery.search import Index

MODEL = "0123456789abcdef"
LOOK_S = 0.25
FACE = np.eye(1, 128, dtype=np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path / "people.sqlite", MODEL)


def nobody(_stream: str) -> None: ...


class Looks:
    """Looks at a gallery now and then, as a run does between its frames."""

    def __init__(self, gallery: Gallery) -> None:
        self.now = 0.0
        self.live = LiveGallery(gallery, LOOK_S, lambda: self.now)

    def look(self) -> bool:
        self.now += LOOK_S
        return self.live.refresh(nobody)

    def until(self, holds: Callable[[], bool]) -> None:
        limit = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < limit
            self.look()
            time.sleep(0.01)


def soon(seconds: float) -> str:
    return timestamp(time.time_ns() + round(seconds * 1e9))


def test_people_are_known_at_the_next_look_and_not_before(gallery: Gallery) -> None:
    looks = Looks(gallery)
    assert looks.look()
    assert not looks.look()
    gallery.enroll("Ada", FACE, ["a.jpg"])
    assert not looks.live.refresh(nobody)
    assert looks.look()
    assert looks.live.index.names == ("Ada",)
    gallery.remove("Ada")
    assert looks.look()
    assert looks.live.index.names == ()


def test_what_changes_nothing_about_people_is_no_news(gallery: Gallery) -> None:
    looks = Looks(gallery)
    looks.look()
    with gallery.file.transaction() as db:
        db.execute("DELETE FROM requests")
    assert not looks.look()


def test_a_large_gallery_is_read_without_holding_up_the_run(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_gallery, "IN_PASSING", 3)
    looks = Looks(gallery)
    gallery.enroll("Ada", np.eye(4, 128, dtype=np.float32), ["a.jpg"] * 4)
    with gallery.file.transaction():  # somebody writes all the time
        looks.until(lambda: looks.live.index.names == ("Ada",))
    gallery.remove("Ada")
    looks.look()
    assert looks.live.index.names == ()


@pytest.mark.parametrize("in_passing", [100, 0])
def test_nobody_is_known_once_expired(gallery: Gallery, monkeypatch: pytest.MonkeyPatch, in_passing: int) -> None:
    monkeypatch.setattr(live_gallery, "IN_PASSING", in_passing)
    gallery.enroll("Grace", FACE, ["g.jpg"])
    gallery.enroll("Ada", FACE, ["a.jpg"], terms=Terms(expires_at=soon(100)))
    looks = Looks(gallery)
    looks.until(lambda: looks.live.index.names == ("Ada", "Grace"))
    monkeypatch.setattr(live_gallery, "LEAD_NS", 101 * 10**9)  # as if so much time had passed
    looks.until(lambda: looks.live.index.names == ("Grace",))
    assert not looks.look()


def test_expiry_does_not_wait_for_a_file_that_cannot_be_read(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.enroll("Ada", FACE, ["a.jpg"], terms=Terms(expires_at=soon(100)))
    looks = Looks(gallery)
    looks.look()
    gallery.close()
    assert not looks.look()
    assert looks.live.index.names == ("Ada",)
    monkeypatch.setattr(live_gallery, "LEAD_NS", 101 * 10**9)
    assert looks.look()
    assert looks.live.index.names == ()


def test_people_expire_a_little_early_rather_than_late(gallery: Gallery) -> None:
    gallery.enroll("Ada", FACE, ["a.jpg"], terms=Terms(expires_at=soon(1)))
    looks = Looks(gallery)
    looks.look()
    assert looks.live.index.names == ()


def test_nobody_is_known_by_another_models_embeddings(gallery: Gallery) -> None:
    gallery.enroll("Ada", FACE, ["a.jpg"], photos=[b"a"])
    looks = Looks(gallery)
    looks.look()
    with Gallery(gallery.path) as elsewhere:
        elsewhere.replace("ffff", {1: (FACE[0], 0.5)}, elsewhere.revision)
    assert looks.look()
    assert looks.live.index.names == ()
    assert not looks.look()


def test_a_gallery_that_cannot_be_read_for_a_while_is_read_later(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(gallery)
    looks.look()
    gallery.enroll("Ada", FACE, ["a.jpg"])
    with monkeypatch.context() as broken:
        broken.setattr(Gallery, "snapshot", refuse)
        assert not looks.look()
        broken.setattr(live_gallery, "IN_PASSING", 0)
        assert not looks.look()
        time.sleep(0.1)
        assert not looks.look()
    looks.until(lambda: looks.live.index.names == ("Ada",))


def refuse(_gallery: Gallery) -> None:
    raise GalleryError("gallery: cannot be used: disk I/O error")


@pytest.mark.parametrize("in_passing", [0, 2000], ids=["in the thread", "in passing"])
def test_an_index_that_cannot_be_made_is_told_to_who_looks(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, in_passing: int
) -> None:
    monkeypatch.setattr(live_gallery, "IN_PASSING", in_passing)
    looks = Looks(gallery)
    gallery.enroll("Ada", FACE, ["a.jpg"])

    def fail(*_: object) -> Index:
        raise MemoryError("no room for the index")

    with monkeypatch.context() as failing:
        failing.setattr(live_gallery, "Index", fail)
        with pytest.raises(MemoryError, match="no room for the index"):
            looks.until(lambda: False)
    looks.until(lambda: looks.live.index.names == ("Ada",))
