"""People who are enrolled, and expire, while a run goes on."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.errors import EnrollError
from engines.spec import Model
from pipeline.frames.clock import timestamp
from pipeline.gallery.gallery import Gallery, Terms
from pipeline.gallery.live import LEAD_NS
from pipeline.gallery.track_requests import Request, enroll_track
from tests.pipeline.made_runs import EMBEDDING, PATIENCE_S, Run, make_config

SIZE = (640, 480)  # ten times the made model's input: its face is 80 pixels high
SECOND_NS = 1_000_000_000

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark to the made model, but sharp and well lit where it sees the face."""
    width, height = SIZE
    noise = np.random.default_rng(0).integers(20, 200, (height // 2, width // 2, 1), dtype=np.uint8)
    picture = np.repeat(np.repeat(np.repeat(noise, 2, axis=0), 2, axis=1), 3, axis=2)
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 10, SIZE, 10, lambda _: picture)


def names(run: Run) -> list[str | None]:
    """Of the faces in the last frame that there is a message of."""
    frames = run.frames("door")
    return [face.identity and face.identity.name for face in frames[-1].faces] if frames else []


@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_a_face_is_enrolled_from_the_run_that_sees_it_and_leaves_when_it_expires(
    model: Model, clip: Path, tmp_path: Path, links: str
) -> None:
    file = tmp_path / "people.sqlite"
    Gallery(file, model.fingerprint).close()
    source = {"source": clip, "pace": "realtime", "loop": True}
    run = Run(make_config(model, {"door": source}, links=links, identity={"gallery": str(file)}))
    run.wait(lambda run: names(run) == [None])
    track = run.frames("door")[-1].faces[0].track
    with Gallery(file) as gallery:
        request = Request("door", track, "Ada", Terms("said so"), keep_photos=True)
        while not (qualities := _enrolled(gallery, request)):
            time.sleep(0.2)
        assert all(quality == pytest.approx(0.8) for quality in qualities)
        (ada,) = gallery.people()
        assert (ada.embeddings, ada.photos, ada.consent) == (1, 1, "said so")  # all its views are the same to the model
        run.wait(lambda run: names(run) == ["Ada"])
        gallery.enroll("Ada", EMBEDDING, [""], terms=Terms(expires_at=timestamp(time.time_ns() + LEAD_NS + SECOND_NS)))
        run.wait(lambda run: names(run) == [None])
    run.end_now()


def _enrolled(gallery: Gallery, request: Request) -> list[float]:
    try:
        return enroll_track(gallery, request, PATIENCE_S)
    except EnrollError as error:
        assert "not looked at yet" in str(error)
        return []
