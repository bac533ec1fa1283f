import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from engines.errors import EnrollError, GalleryError
from pipeline.gallery import track_requests
from pipeline.gallery.export import export_gallery
from pipeline.gallery.gallery import Gallery, Terms
from pipeline.gallery.live import LiveGallery
from pipeline.gallery.track_requests import PATIENCE_S, Request, Tracks, answer_requests, enroll_track
from pipeline.gallery.views import BestViews, View, decode_photo
from tests.pipeline.made_views import made_crop, made_view
from tests.waiting import until

MODEL = "0123456789abcdef"
NO_TERMS = Terms()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "people.sqlite"
    Gallery(path, MODEL).close()
    return path


def seen(*views: View) -> BestViews:
    best = BestViews()
    for place, view in enumerate(views):
        best.add(view, 1.0 - place / 10)
    return best


@contextmanager
def running(path: Path, **streams: Tracks) -> Iterator[LiveGallery]:
    """A run that looks at the gallery now and then, and has these tracks in its streams."""
    stop = threading.Event()
    with Gallery(path, MODEL) as gallery:
        live = LiveGallery(gallery, 0.02)

        def run() -> None:
            while not stop.wait(0.02):
                live.refresh(streams.get)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield live
        finally:
            stop.set()
            thread.join()


def ask(
    path: Path, track: int = 7, *, patience_s: float = 30.0, keep: bool = False, terms: Terms = NO_TERMS
) -> list[float]:
    with Gallery(path) as gallery:
        return enroll_track(gallery, Request("door", track, "Ada", terms, keep), patience_s)


def requests_in(path: Path) -> int:
    with Gallery(path) as gallery:
        return int(gallery.file.rows("SELECT count(*) FROM requests")[0][0])


def test_a_track_of_a_running_stream_is_enrolled_and_known_there(path: Path) -> None:
    views = [made_view(1, quality=0.9), made_view(1, 0.1, quality=0.7)]
    with running(path, door={7: seen(*views)}, yard={}) as live:
        assert ask(path, terms=Terms("said so", "2999-01-01T00:00:00.000Z")) == [0.9, 0.7]
        until(lambda: live.index.names == ("Ada",))
    with Gallery(path) as gallery:
        (ada,) = gallery.people()
        assert (ada.embeddings, ada.photos, ada.consent) == (2, 0, "said so")
        assert ada.expires_at == "2999-01-01T00:00:00.000Z"
        assert {view.source for view in export_gallery(gallery).people[0].embeddings} == {"door:7"}
        np.testing.assert_allclose(gallery.snapshot().vectors, [view.embedding for view in views], rtol=1e-6)
    assert requests_in(path) == 0


def test_photos_of_a_track_are_kept_on_request(path: Path) -> None:
    crop = cv2.GaussianBlur(made_crop(), (0, 0), 1) // 2 + made_crop() // 2
    with running(path, door={7: seen(made_view(1, crop=crop))}):
        ask(path, keep=True)
    with Gallery(path) as gallery:
        (photo,) = gallery.photos()
        assert photo.jpeg is not None
        assert decode_photo(photo.jpeg).shape == (112, 112, 3)


def test_only_the_good_views_of_a_track_are_taken(path: Path) -> None:
    with running(path, door={7: seen(made_view(1, quality=0.9), made_view(1, height=20))}):
        assert ask(path) == [0.9]


@pytest.mark.parametrize(
    ("tracks", "sentence"),
    [
        pytest.param({}, "track door:7: there is no such face now, but none$", id="an empty stream"),
        pytest.param(
            {3: seen(), 12: seen()}, "track door:7: there is no such face now, but 3, 12$", id="a track that has ended"
        ),
        pytest.param({7: seen()}, "no view of it is good enough: its face was not looked at yet$", id="a new track"),
        pytest.param(
            {7: seen(made_view(1, height=20))},
            "no view of it is good enough: its face is 20 pixels high, but must be at least 40$",
            id="a face too small",
        ),
    ],
)
def test_a_track_that_cannot_be_enrolled_is_refused_with_the_reason(path: Path, tracks: Tracks, sentence: str) -> None:
    with running(path, door=tracks), pytest.raises(EnrollError, match=sentence):
        ask(path)
    assert requests_in(path) == 0
    with Gallery(path) as gallery:
        assert gallery.people() == []


def test_nobody_answers_for_a_stream_that_nobody_has(path: Path) -> None:
    sentence = r"no running pipeline with gallery .* called 'door' within 0.3 seconds"
    with running(path, yard={7: seen(made_view(1))}), pytest.raises(EnrollError, match=sentence):
        ask(path, patience_s=0.3)
    assert requests_in(path) == 0


def test_a_run_with_another_stream_leaves_the_request_to_the_one_that_has_it(path: Path) -> None:
    with running(path, yard={7: seen(made_view(0, 1))}), running(path, door={7: seen(made_view(1))}):
        ask(path)
    with Gallery(path) as gallery:
        assert gallery.snapshot().vectors.tolist() == [made_view(1).embedding.tolist()]


def test_somebody_who_has_expired_is_not_enrolled_again_by_a_track(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        gallery.enroll("Ada", np.eye(1, 128, dtype=np.float32), ["a.jpg"])
        with gallery.changing() as db:
            db.execute("UPDATE people SET expires_at = '2020-01-01T00:00:00.000Z'")
    with running(path, door={7: seen(made_view(1, 1))}), pytest.raises(EnrollError, match="needs a new --expires"):
        ask(path)
    with Gallery(path) as gallery:
        assert [person.embeddings for person in gallery.people()] == [1]


def test_a_name_that_is_not_allowed_is_refused_before_anybody_is_asked(path: Path) -> None:
    with Gallery(path) as gallery, pytest.raises(GalleryError, match="control characters"):
        enroll_track(gallery, Request("door", 7, "A\x07da", Terms(), False))


def put_request(gallery: Gallery, valid_until: str) -> None:
    with gallery.file.transaction() as db:
        db.execute(
            "INSERT INTO requests (stream, track, name, keep_photos, valid_until) VALUES ('door', 7, 'Ada', 0, ?)",
            (valid_until,),
        )


def test_what_is_answered_after_whoever_asked_gave_up_enrols_nobody(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        put_request(gallery, "2999-01-01T00:00:00.000Z")
        (late,) = answer_requests(gallery, {"door": {7: seen(made_view(1))}}.get)
        with gallery.file.transaction() as db:
            db.execute("DELETE FROM requests")
        late(gallery)
        assert gallery.people() == []


def test_a_request_is_answered_once_however_often_it_was_seen(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        put_request(gallery, "2999-01-01T00:00:00.000Z")
        (first,) = answer_requests(gallery, {"door": {7: seen(made_view(1))}}.get)
        (second,) = answer_requests(gallery, {"door": {7: seen(made_view(0, 1))}}.get)
        first(gallery)
        second(gallery)
        assert answer_requests(gallery, {"door": {7: seen(made_view(1))}}.get) == []
        np.testing.assert_array_equal(gallery.snapshot().vectors, [made_view(1).embedding])


def test_the_request_of_somebody_who_was_killed_meanwhile_is_not_answered_later(path: Path) -> None:
    with Gallery(path, MODEL) as gallery:
        put_request(gallery, "2020-01-01T00:00:00.000Z")
        assert answer_requests(gallery, {"door": {7: seen(made_view(1))}}.get) == []
    with running(path, door={7: seen(made_view(1))}):
        ask(path, patience_s=PATIENCE_S * 6)
    assert requests_in(path) == 0


def test_who_asked_hears_of_it_when_enrolling_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise MemoryError("no room for\nthe photo")

    monkeypatch.setattr(track_requests, "encode_photo", fail)
    with running(path, door={7: seen(made_view(1))}), capture_logs() as lines:
        with pytest.raises(EnrollError, match=r"^track door:7: it failed: MemoryError: no room for the photo$"):
            ask(path, keep=True)
        until(lambda: any(line.get("exc_info") for line in lines))  # the run says why
