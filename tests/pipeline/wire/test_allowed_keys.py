"""CURVE with a list of who may connect: by role, read again for each newcomer, and needed beyond this host."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq.auth
from typer.testing import CliRunner

from engines.errors import ConfigError
from pipeline.settings.schema import PublishSettings, StreamSettings
from pipeline.sinks.zmq import Publisher
from pipeline.sources.network import check_secret
from pipeline.wire.client import Subscriber
from pipeline.wire.curve import is_loopback
from pipeline.wire.messages import HealthMessage
from tools.main import app

UP = HealthMessage(stream="door", at="2026-11-23T09:14:07.120Z", state="up", cause="opened")
HEARD_S = 10.0
REFUSED_S = 0.7


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for arguments in ([], ["--client", "office"], ["--client", "gone"]):
        assert CliRunner().invoke(app, ["curve-keys", str(folder), *arguments]).exit_code == 0
    zmq.auth.create_certificates(folder, "stranger")
    return folder


@pytest.fixture
def publisher(keys: Path) -> Iterator[Publisher]:
    settings = PublishSettings(
        address="tcp://127.0.0.1:0",
        curve_secret_file=str(keys / "server.key_secret"),
        clients=str(keys / "clients"),
    )
    with Publisher(settings) as publisher:
        yield publisher


def hears(publisher: Publisher, keys: Path, client: str | None, within_s: float) -> bool:
    own = None if client is None else keys / client
    with Subscriber(publisher.address, server_key=keys / "server.key", client_key=own) as subscriber:
        for _ in range(round(within_s / 0.1)):
            publisher.send(UP)
            if subscriber.receive(0.1) is not None:
                return True
    return False


def test_the_files_are_where_they_belong(keys: Path) -> None:
    assert {path.name for path in (keys / "clients").iterdir()} == {"office.key", "gone.key"}
    assert (keys / "office.key_secret").stat().st_mode & 0o077 == 0
    assert CliRunner().invoke(app, ["curve-keys", str(keys), "--client", "office"]).exit_code == 2
    assert CliRunner().invoke(app, ["curve-keys", str(keys), "--client", "../office"]).exit_code == 2


def test_who_is_on_the_list_hears_and_nobody_else_does(publisher: Publisher, keys: Path) -> None:
    assert hears(publisher, keys, "office.key_secret", HEARD_S)
    for stranger in (None, "stranger.key_secret"):
        assert not hears(publisher, keys, stranger, REFUSED_S)


def test_who_is_taken_off_the_list_is_not_let_in_again(publisher: Publisher, keys: Path) -> None:
    assert hears(publisher, keys, "gone.key_secret", HEARD_S)
    (keys / "clients" / "gone.key").unlink()
    assert not hears(publisher, keys, "gone.key_secret", REFUSED_S)


def test_who_has_the_secret_of_the_publisher_needs_no_other_key(publisher: Publisher, keys: Path) -> None:
    with Subscriber(publisher.address, server_key=keys / "server.key_secret") as page:
        for _ in range(100):
            publisher.send(UP)
            if page.receive(0.1) is not None:
                return
    raise AssertionError("nothing was heard")


def test_a_list_without_a_key_and_a_folder_that_is_none_are_refused(keys: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs publish\.curve_secret_file"):
        Publisher(PublishSettings(address="tcp://127.0.0.1:0", clients=str(keys / "clients")))
    secret = str(keys / "server.key_secret")
    with pytest.raises(ConfigError, match="must be a folder"):
        Publisher(PublishSettings(address="tcp://127.0.0.1:0", curve_secret_file=secret, clients=str(keys / "none")))
    with pytest.raises(ConfigError, match="must be a folder"):
        check_secret(StreamSettings(name="a", source="x", curve_secret_file=secret, clients=str(keys / "none")))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("cam", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
