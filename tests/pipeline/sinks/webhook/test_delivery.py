"""Webhooks against a real server that fails in every way, and what is left when the program ends."""

import base64
import hashlib
import hmac
import os
import ssl
import subprocess
import sys
import time
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engines.errors import ConfigError
from pipeline.sinks.base import SinkThread
from pipeline.sinks.webhook import WebhookSettings, WebhookSink
from pipeline.sinks.webhook.delivering import Deliverer
from pipeline.sinks.webhook.spool import Spool
from pipeline.sinks.webhook.targets import Target
from tests.pipeline.sinks.mqtt.made_messages import CROP, event
from tests.pipeline.sinks.mqtt.test_broker import certificates
from tests.pipeline.sinks.webhook.made_server import (
    OK,
    Got,
    Server,
    answer,
    cut_short,
    endless,
    hang,
    hang_up,
    reset,
    rubbish,
)
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.integration
QUICK = (0.01, 0.05)
KEY = "a secret of thirty-two characters"


def settings(port: int, spool: Path, /, **keys: Any) -> WebhookSettings:
    own = {"url": f"http://127.0.0.1:{port}/hook?to=me", "spool": str(spool), "allow": ["127.0.0.0/8"]}
    return msgspec.convert({**own, **keys}, WebhookSettings)


def tracks(got: list[Got]) -> list[int]:
    return [msgspec.json.decode(each.body)["track"] for each in got]


def proved(got: Got, secret: bytes = KEY.encode()) -> bool:
    """By the words of Standard Webhooks: base64 of HMAC-SHA256 over id, time stamp and body."""
    text = b".".join((got.headers["webhook-id"].encode(), got.headers["webhook-timestamp"].encode(), got.body))
    expected = base64.b64encode(hmac.new(secret, text, hashlib.sha256).digest()).decode()
    return got.headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(hang_up, id="hangs up"),
        pytest.param(reset, id="resets"),
        pytest.param(hang, id="never answers"),
        pytest.param(cut_short, id="ends in the middle"),
        pytest.param(rubbish, id="speaks no HTTP"),
        pytest.param(endless, id="never ends"),
        pytest.param(answer(500), id="500"),
        pytest.param(answer(503, "Retry-After: 0"), id="503"),
        pytest.param(answer(429, "Retry-After: rubbish"), id="429"),
        pytest.param(answer(408), id="408"),
    ],
)
def test_it_is_tried_again_until_it_has_arrived_and_in_order(tmp_path: Path, failure: Any) -> None:
    with Server(failure, failure, OK, failure) as server:
        sink = WebhookSink(settings(server.port, tmp_path / "spool", secret=KEY, timeout_s=0.3), backoff_s=QUICK)
        for track in (1, 2, 3):
            sink.send(event(track=track))
        until(lambda: len(server.got) == 3)
        sink.close()
        assert tracks(server.got) == [1, 2, 3] and server.tries == 6
        assert all(proved(got) for got in server.got)
        assert len({got.headers["webhook-id"] for got in server.got}) == 3
        assert server.got[0].path == "/hook?to=me" and server.got[0].headers["host"] == f"127.0.0.1:{server.port}"
        assert sink.lost == {} and not list((tmp_path / "spool").glob("*.delivery"))


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410])
def test_what_is_refused_is_lost_and_counted_and_no_redirect_is_followed(tmp_path: Path, status: int) -> None:
    with Server() as other, Server(answer(status, f"Location: http://127.0.0.1:{other.port}/")) as server:
        thread = SinkThread("hook", WebhookSink(settings(server.port, tmp_path / "spool"), backoff_s=QUICK), 10)
        thread.send(event(track=1))
        thread.send(event(track=2))
        until(lambda: len(server.got) == 1)
        thread.finish()
        assert thread.join(time.monotonic() + 10)
        assert tracks(server.got) == [2] and other.tries == 0
        assert (thread.counts.sent, thread.counts.lost) == (1, {"refused": 1})


def test_a_server_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    sink = WebhookSink(settings(port, tmp_path / "spool"), backoff_s=QUICK)
    sink.send(event(track=4))
    time.sleep(0.2)
    sink.close()
    assert sink.lost == {} and len(list((tmp_path / "spool").glob("*.delivery"))) == 1, "it stays for the next run"


def test_what_a_killed_program_left_is_delivered_by_the_next(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    code = (
        "import os, sys\n"
        "from tests.pipeline.sinks.webhook.test_delivery import *\n"
        "sink = WebhookSink(settings(int(sys.argv[1]), Path(sys.argv[2])))\n"
        "for track in range(5): sink.send(event(track=track))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(free_port()), str(spool)],
        cwd=Path(__file__).parents[4],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        timeout=60,
    )
    assert killed.returncode == -9, killed.stderr
    with Server() as server:
        sink = WebhookSink(settings(server.port, spool), backoff_s=QUICK)
        sink.send(event(track=5))
        until(lambda: len(server.got) == 6)
        sink.close()
        assert tracks(server.got) == [0, 1, 2, 3, 4, 5]


def test_the_spool_is_bounded_and_the_oldest_go_first(tmp_path: Path) -> None:
    port = free_port()
    sink = WebhookSink(settings(port, tmp_path / "spool", max_waiting=3), backoff_s=QUICK)
    for track in range(10):
        sink.send(event(track=track))
    assert sink.lost == {"full": 7}
    sink.close()
    small = WebhookSink(settings(port, tmp_path / "small", max_spool_mb=0.005, snapshot="base64"), backoff_s=QUICK)
    for track in range(10):
        small.send(event(track=track, best_crop=CROP))
    size = sum(path.stat().st_size for path in (tmp_path / "small").glob("*.delivery"))
    assert 0 < size <= 5000 and small.lost["full"] > 0
    small.close()


def test_what_is_too_old_is_lost_and_counted(tmp_path: Path) -> None:
    with Server(*[answer(500)] * 1000) as server:
        sink = WebhookSink(settings(server.port, tmp_path / "spool", max_age_s=0.2), backoff_s=QUICK)
        sink.send(event())
        until(lambda: sink.lost == {"expired": 1})
        sink.close()
        assert server.tries > 1


def test_a_damaged_file_costs_itself_alone(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / f"{1:016d}.delivery").write_bytes(b"half a ")
    with Server() as server:
        sink = WebhookSink(settings(server.port, spool), backoff_s=QUICK)
        sink.send(event(track=8))
        until(lambda: tracks(server.got) == [8])
        sink.close()
        assert sink.lost == {"unreadable": 1}


def test_a_spool_is_one_sinks_alone(tmp_path: Path) -> None:
    sink = WebhookSink(settings(1, tmp_path / "spool"))
    with pytest.raises(ConfigError, match=r"spool is .* which another sink uses"):
        WebhookSink(settings(1, tmp_path / "spool"))
    sink.close()
    WebhookSink(settings(1, tmp_path / "spool")).close()


def test_a_name_that_changes_its_mind_reaches_nobody_else(tmp_path: Path) -> None:
    """DNS rebinding: the first answer is public and fails, the second is this host."""
    with Server() as server:
        answers = iter([["192.0.2.1"], ["127.0.0.1"]])
        target = Target(
            f"http://hooks.example.org:{server.port}/",
            ("192.0.2.0/24",),  # of documentation, which nobody has: it stands for a public one
            lambda host, port, type: [(2, type, 6, "", (address, port)) for address in next(answers)],
        )
        spool = Spool(tmp_path / "spool", 10, 10**6)
        keys = settings(server.port, tmp_path / "spool", timeout_s=0.2)
        deliverer = Deliverer(keys, target, spool, backoff_s=QUICK)
        from pipeline.sinks.webhook.body import Body
        from pipeline.sinks.webhook.spool import Delivery

        spool.put(Delivery("msg_1", time.time_ns(), Body("application/json", b"{}")))
        until(lambda: spool.lost == {"refused": 1})
        spool.close()
        deliverer.join(5.0)
        assert server.tries == 0


def test_tls_is_checked_against_the_name_though_a_number_is_connected_to(tmp_path: Path) -> None:
    certificates(tmp_path)
    mine = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    mine.load_cert_chain(tmp_path / "broker.pem", tmp_path / "broker.key")
    trusts = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with Server(tls=mine) as server:
        wrong_name = settings(server.port, tmp_path / "a", url=f"https://localhost:{server.port}/")  # signed: 127.0.0.1
        right_name = settings(server.port, tmp_path / "b", url=f"https://127.0.0.1:{server.port}/")
        refused = WebhookSink(wrong_name, trusts, QUICK)
        sink = WebhookSink(right_name, trusts, QUICK)
        for each in (refused, sink):
            each.send(event(track=3))
        until(lambda: tracks(server.got) == [3])
        for each in (refused, sink):
            each.close()
        assert len(server.got) == 1


def received(tmp_path: Path, **keys: Any) -> Got:
    with Server() as server:
        sink = WebhookSink(settings(server.port, tmp_path / "spool", **keys), backoff_s=QUICK)
        sink.send(event(best_crop=CROP))
        until(lambda: len(server.got) == 1)
        sink.close()
        return server.got[0]


def test_json_has_the_picture_only_where_it_is_wanted(tmp_path: Path) -> None:
    plain = received(tmp_path, headers={"Authorization": "Bearer abc"})
    assert plain.headers["content-type"] == "application/json" and plain.headers["authorization"] == "Bearer abc"
    assert msgspec.json.decode(plain.body)["best_crop"] is None and "webhook-signature" not in plain.headers
    with_picture = msgspec.json.decode(received(tmp_path, snapshot="base64").body)
    assert base64.b64decode(with_picture["best_crop"]["jpeg"]) == CROP.jpeg


def test_the_page_s_receiver_takes_what_is_genuine_and_nothing_else(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "webhooks.md").read_text()
    namespace: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], namespace)
    genuine = namespace["genuine"]
    got = received(tmp_path, secret=KEY)
    assert genuine(got.headers, got.body, KEY.encode())
    assert not genuine(got.headers, got.body + b" ", KEY.encode())
    assert not genuine(got.headers, got.body, b"another secret")
    old = str(int(got.headers["webhook-timestamp"]) - 600)
    assert not genuine({**got.headers, "webhook-timestamp": old}, got.body, KEY.encode())


def test_cloud_events_have_their_fields(tmp_path: Path) -> None:
    got = received(tmp_path, format="cloudevents")
    value = msgspec.json.decode(got.body)
    assert got.headers["content-type"] == "application/cloudevents+json"
    assert (value["specversion"], value["id"]) == ("1.0", got.headers["webhook-id"])
    assert (value["source"], value["type"]) == ("/trunkline/door", "trunkline.object.new")
    assert value["data"]["label"] == "person"


def test_a_template_writes_what_it_likes(tmp_path: Path) -> None:
    got = received(tmp_path, template='{"text": {{ (event.label ~ " at " ~ event.stream) | tojson }}}')
    assert msgspec.json.decode(got.body) == {"text": "person at door"}


def test_multipart_has_the_event_and_the_picture_and_is_signed_whole(tmp_path: Path) -> None:
    got = received(tmp_path, snapshot="multipart", secret="whsec_" + base64.b64encode(b"key").decode())
    assert proved(got, b"key")
    head = f"Content-Type: {got.headers['content-type']}\r\n\r\n".encode()
    message: Any = BytesParser(EmailMessage).parsebytes(head + got.body)
    parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
    assert msgspec.json.decode(parts["event"].get_payload(decode=True))["track"] == 1
    assert parts["snapshot"].get_content_type() == "image/jpeg"
    assert CROP.jpeg in got.body


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"template": "{{ event.label "}, "template cannot be used: "),
        ({"template": "{{ nobody.label }}"}, "template cannot be used: "),
        ({"template": "{{ ().__class__.__bases__[0].__subclasses__() }}"}, "template cannot be used: .*unsafe"),
        ({"template": "a", "format": "cloudevents"}, "template is there, but format is 'cloudevents'"),
        ({"secret": ""}, "secret is empty"),
        ({"secret": "whsec_%%"}, "secret begins with whsec_, but no base64 follows"),
        ({"headers": {"A": "b\r\nC: d"}}, "headers.'A' must have"),
        ({"allow": []}, "is not a public address"),
        ({"spool": "/dev/null/a"}, "spool is '/dev/null/a', which cannot be used"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_runs(tmp_path: Path, keys: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        WebhookSink(settings(1, tmp_path / "spool", **keys))


def test_no_log_has_the_address_s_path_or_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    keys = {"secret": KEY, "headers": {"Authorization": "Bearer t0ken"}}
    with Server(answer(500), answer(404)) as server:
        url = f"http://127.0.0.1:{server.port}/services/s3cret"
        sink = WebhookSink(settings(server.port, tmp_path / "spool", url=url, **keys), backoff_s=QUICK)
        sink.send(event())
        until(lambda: sink.lost == {"refused": 1})
        sink.close()
    assert not any(word in caplog.text for word in ("s3cret", "t0ken", KEY))


def test_a_template_that_fails_for_an_event_costs_that_event_alone(tmp_path: Path) -> None:
    with Server() as server:
        template = '{"track": {{ 6 // (event.track - 2) }}}'
        thread = SinkThread("hook", WebhookSink(settings(server.port, tmp_path / "a", template=template)), 10)
        for track in (2, 5):
            thread.send(event(track=track))
        until(lambda: tracks(server.got) == [2])
        assert thread.counts.lost == {"failed": 1}
        thread.finish()
        assert thread.join(time.monotonic() + 10)
