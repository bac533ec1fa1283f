"""A webhook's link to a picture, followed to the page's server."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import pytest

from engines.errors import ConfigError
from pipeline.settings.schema import Config, EventSettings, SinkSettings, StreamSettings, WebSettings
from pipeline.sinks.store import stored_form
from pipeline.sinks.webhook import WebhookSink
from pipeline.wire.links import SnapshotLinks
from tests.pipeline.service.web.made_site import client_of, made_site, stored
from tests.pipeline.sinks.mqtt.made_messages import CROP, event
from tests.pipeline.sinks.mqtt.test_broker import Switched
from tests.pipeline.sinks.webhook.made_server import Server
from tests.pipeline.sinks.webhook.test_delivery import settings
from tests.waiting import until

SECRET = "a secret of thirty-two characters"
RUN = Config(
    streams=(StreamSettings(name="door", source="0"),),
    events=EventSettings(best_crops=True),
    sinks=(SinkSettings(kind="store"),),
    web=WebSettings(public_url="https://cams.example/", link_secret=SECRET),
)
HAPPENED = event("object", "ended", track=17, best_crop=CROP)


def delivered(folder: Path, *messages: Any, **keys: Any) -> list[dict[str, Any]]:
    """The bodies that a webhook with links posts."""
    with Server() as server:
        sink = WebhookSink(settings(server.port, folder / "spool", snapshot="link", **keys))
        sink.attach(RUN, Switched())
        for message in messages:
            sink.send(message)
        until(lambda: len(server.got) == len(messages))
        sink.close()
        return [msgspec.json.decode(got.body) for got in server.got]


@pytest.mark.integration
def test_a_link_leads_to_the_picture_of_its_event_without_a_login_and_nowhere_else(tmp_path: Path) -> None:
    told, plain = delivered(tmp_path, HAPPENED, event("object", "new", track=18))
    assert "best_crop" not in {key for key, value in told.items() if value} and "snapshot_url" not in plain
    assert told["snapshot_url"].startswith("https://cams.example/api/links/snapshot.jpg?stream=door&at=")
    url = told["snapshot_url"].removeprefix("https://cams.example")
    site = made_site(tmp_path, login=True)
    site.links = SnapshotLinks(SECRET)
    with client_of(site) as client:
        stored(tmp_path, stored_form(event("object", "ended", track=18, best_crop=None)))
        assert client.get(url).status_code == 404, "not kept yet"
        stored(tmp_path, stored_form(HAPPENED))
        found = client.get(url)
        assert (found.status_code, found.content) == (200, CROP.jpeg)
        assert found.headers["cache-control"] == "private, no-store"
        fields = dict(parse_qsl(urlsplit(url).query))
        for key, value in {
            "track": "18",
            "stream": "yard",
            "expires": "9999999999",
            "signature": "",
            "at": "x",
        }.items():
            asked = client.get(f"/api/links/snapshot.jpg?{urlencode(fields | {key: value})}")
            assert (asked.status_code, "not made here" in asked.json()["error"]) == (403, True)
        assert client.get("/api/links/snapshot.jpg").status_code == 403
        assert client.get("/api/events").status_code == 401, "the link opens nothing else"
    site.links = None
    with client_of(made_site(tmp_path, login=True)) as client:
        assert client.get(url).status_code == 404


@pytest.mark.integration
def test_a_link_s_time_ends_and_each_form_of_body_has_it(tmp_path: Path) -> None:
    (told,) = delivered(tmp_path / "a", HAPPENED, format="cloudevents", link_s=0.001)
    url = told["data"]["snapshot_url"].removeprefix("https://cams.example")
    site = made_site(tmp_path, login=True)
    site.links = SnapshotLinks(SECRET)
    stored(tmp_path, stored_form(HAPPENED))
    time.sleep(1.1)
    with client_of(site) as client:
        asked = client.get(url)
    assert (asked.status_code, asked.json()) == (403, {"error": "the link's time is over"})
    (told,) = delivered(tmp_path / "b", HAPPENED, template='{"picture": {{ snapshot_url | tojson }}}')
    assert told["picture"].startswith("https://cams.example/api/links/")


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ({"web": None}, "needs web.public_url and web.link_secret"),
        ({"web": WebSettings(public_url="https://cams.example")}, "needs web.public_url and web.link_secret"),
        ({"sinks": ()}, "needs events.best_crops and"),
        ({"events": EventSettings()}, "needs events.best_crops and"),
    ],
    ids=["no page", "no secret", "no store", "no pictures"],
)
def test_links_that_could_lead_nowhere_are_refused(tmp_path: Path, missing: dict[str, Any], sentence: str) -> None:
    sink = WebhookSink(settings(9, tmp_path / "spool", snapshot="link"))
    with pytest.raises(ConfigError, match=sentence):
        sink.attach(msgspec.structs.replace(RUN, **missing), Switched())
    sink.close()
