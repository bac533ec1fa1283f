"""Which servers a webhook may reach."""

import pytest

from engines.errors import ConfigError, MessageError
from pipeline.sinks.webhook.targets import Target, url_of


def resolving(*addresses: str) -> object:
    return lambda host, port, type: [(2, type, 6, "", (address, port)) for address in addresses]


NOT_PUBLIC = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_that_leads_to_an_address_that_is_not_public_is_refused(address: str) -> None:
    target = Target("https://hooks.example.org/a", (), resolving("93.184.215.14", address))  # type: ignore[arg-type]
    with pytest.raises(MessageError, match="is not a public address"):
        target.addresses()


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_an_address_that_is_not_public_is_refused_before_anything_runs(address: str) -> None:
    with pytest.raises(
        ConfigError, match=r"url is .* not a public address: name its host, address or network in allow"
    ):
        Target(f"http://{address}:8080/", ())


@pytest.mark.parametrize("allow", ["10.1.2.3", "10.0.0.0/8", "hooks.lan", "HOOKS.lan"])
def test_what_is_named_may_be_reached(allow: str) -> None:
    assert Target("http://hooks.lan/", (allow,), resolving("10.1.2.3")).addresses() == ["10.1.2.3"]  # type: ignore[arg-type]


def test_a_name_in_allow_is_for_that_name_alone() -> None:
    target = Target("http://evil.example.org/", ("hooks.lan", "10.0.0.0/16"), resolving("10.1.2.3"))  # type: ignore[arg-type]
    with pytest.raises(MessageError):
        target.addresses()


def test_public_addresses_are_connected_to_by_number() -> None:
    target = Target("https://hooks.example.org/in?key=a", (), resolving("93.184.215.14", "2606:2800::1"))  # type: ignore[arg-type]
    four, six = target.addresses()
    assert url_of(target, four) == "https://93.184.215.14:443/in?key=a"
    assert url_of(target, six) == "https://[2606:2800::1]:443/in?key=a"


@pytest.mark.parametrize(
    "url",
    ["ftp://a", "hooks.example.org", "http://", "https://ada:pw@a.example.org/", "http://a:99999/", "http://[::/"],
)
def test_other_urls_are_refused_and_their_secrets_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"url is .* but must be") as refusal:
        Target(url, ())
    assert "pw" not in str(refusal.value)


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"allow has '10.0.0.1/8', which is no network"):
        Target("https://a.example.org", ("10.0.0.1/8",))
