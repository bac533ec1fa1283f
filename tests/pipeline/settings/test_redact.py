"""Passwords, keys and tokens in source addresses are never shown."""

import pickle
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.settings.redact import FromVariable, redact, redact_in

PLACES = ["cam", "cam:554", "10.0.0.7", "10.0.0.7:8554", "live.example.org", "live.example.org:443", "[fe80::1]:554"]
SCHEMES = ["rtsp", "rtsps", "rtmp", "srt", "http", "https", "zmq+tcp", "tcp", "udp"]
# Where a secret can stand in an address; PLACE is the host, with a port or without.
FORMS = [
    "{scheme}://{secret}@{place}/live",
    "{scheme}://ada:{secret}@{place}/live",
    "{scheme}://{secret}:{secret}@{place}",
    "{scheme}://{place}/{secret}",
    "{scheme}://{place}/live/{secret}/1",
    "{scheme}://{place}/app;jwt={secret}/live",
    "{scheme}://{place}/user=ada&password={secret}&channel=1",
    "{scheme}://{place}?{secret}",
    "{scheme}://{place}/live?p={secret}&channel=1",
    "{scheme}://{place}/live?channel={secret}",
    "{scheme}://{place}/live?{secret}=1",
    "{scheme}://{place}/live?channel=1&sig={secret}",
    "{scheme}://{place}/live#{secret}",
    "{scheme}://ada:{secret}@{place}/live/{secret}?token={secret}#{secret}",
]
LETTERS = string.ascii_letters + string.digits + "-._~!$'()*+,;=:%"  # RFC 3986, in all of these places
SECRETS = st.text(LETTERS, min_size=1, max_size=12).map(lambda text: f"S3cr{text}eT")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        pytest.param("0", "0", id="a camera's index"),
        pytest.param("", "", id="empty"),
        pytest.param("clips/door@2x.mp4", "clips/door@2x.mp4", id="a file with an @ in its name"),
        pytest.param("file:///clips/ada.mp4", "file:///clips/ada.mp4", id="a file as an address"),
        pytest.param("ipc:///tmp/results", "ipc:///tmp/results", id="a socket of this host"),
        pytest.param("tcp://*:5555", "tcp://*:5555", id="any host"),
        pytest.param("rtsp://10.0.0.7:554/live", "rtsp://10.0.0.7:554/live", id="no userinfo"),
        pytest.param("rtsp://token@cam:554/live", "rtsp://***@cam:554/live", id="a user may be a token"),
        pytest.param("rtsp://ada:pw@cam:554/live", "rtsp://***@cam:554/live", id="user and password"),
        pytest.param("rtsp://:pw@cam/live", "rtsp://***@cam/live", id="a password without a user"),
        pytest.param("rtsp://ada:p@w/x?z#@10.0.0.7/live", "rtsp://***@10.0.0.7/live", id="unescaped @ / ? # in it"),
        pytest.param("rtsp://ada:p@w/x@cam/live", "rtsp://***", id="unescaped, and which is the host is not certain"),
        pytest.param("http://cam.org:80/live?to=a@b.org", "http://cam.org:80/live?***", id="an @ in the query"),
        pytest.param("rtsp://ada:my pw@cam/live", "rtsp://***@cam/live", id="a space in the password"),
        pytest.param("rtsp://a@b.org:pw@cam/live", "rtsp://***@cam/live", id="an e-mail address as the user"),
        pytest.param("rtsp://cam:secret/live", "rtsp://***", id="a password where the port should be"),
        pytest.param("rtsp://ada:pw@[fe80::1]:554/1", "rtsp://***@[fe80::1]:554/1", id="an IPv6 host"),
        pytest.param("ada:pw@cam/live", "***@cam/live", id="the scheme was forgotten"),
        pytest.param("rtsp:/ada:pw@cam/live", "***@cam/live", id="a slash was forgotten"),
        pytest.param("crypto+http://cam/live", "crypto+http://cam/live", id="a protocol in a protocol"),
        pytest.param("concat:rtsp://a:pw@cam/1", "***rtsp://***@cam/1", id="a protocol with options"),
        pytest.param("http://cam/?pwd=x&ch=1", "http://cam/?pwd=***&ch=1", id="a secret in the query"),
        pytest.param("http://cam/?ch=1&API_KEY=x", "http://cam/?ch=1&API_KEY=***", id="upper case, the last one"),
        pytest.param("rtmp://tv.org/app/a1b2-c3d4", "rtmp://tv.org/***/***", id="an RTMP stream key"),
        pytest.param("rtsp://cam/Streaming/Channels/101", "rtsp://cam/Streaming/Channels/101", id="a maker's path"),
        pytest.param(
            "rtsp://cam/cam/realmonitor?channel=1&subtype=0",
            "rtsp://cam/cam/realmonitor?channel=1&subtype=0",
            id="another maker's",
        ),
        pytest.param("srt://cam:9?passphrase=x", "srt://cam:9?passphrase=***", id="an SRT passphrase"),
    ],
)
def test_what_is_shown(source: str, shown: str) -> None:
    assert redact(source) == shown
    assert redact(shown) == shown


@given(form=st.sampled_from(FORMS), scheme=st.sampled_from(SCHEMES), place=st.sampled_from(PLACES), secret=SECRETS)
def test_no_secret_is_shown_wherever_it_stands_and_scheme_host_and_port_are(
    form: str, scheme: str, place: str, secret: str
) -> None:
    source = form.format(scheme=scheme, place=place, secret=secret)
    for shown in (redact(source), redact_in(f"[Errno 5] cannot open '{source}': refused", source)):
        assert secret not in shown
        assert "S3cr" not in shown
        assert f"{scheme}://" in shown
        assert place in shown


@given(before=st.text(), after=st.text(), user=st.text(alphabet="abc.@"), place=st.sampled_from(PLACES))
def test_no_part_of_any_password_gets_through_however_it_is_written(
    before: str, after: str, user: str, place: str
) -> None:
    assert "SECRET" not in redact(f"rtsp://{user}:{before}SECRET{after}@{place}/live")


@given(before=st.text(), after=st.text(), name=st.sampled_from(["password", "p", "token", "auth", ""]))
def test_no_value_of_a_query_gets_through_however_it_is_written(before: str, after: str, name: str) -> None:
    assert "SECRET" not in redact(f"http://ada:pw@cam.example.org/?ch=1&{name}={before}SECRET{after}&fps=25")


@given(st.text() | st.text(alphabet="ab1:/@?#&=.[]*"))
def test_redacting_twice_changes_nothing(source: str) -> None:
    assert redact(redact(source)) == redact(source)


@pytest.mark.parametrize("piece", ["a", "pas", "key=", "a.", "@", ":", "://", "/", "1", "?", "&", "a1_", "[", "x://"])
@pytest.mark.parametrize("before", ["", "rtsp://", "rtsp://cam/", "rtsp://cam/?", "rtsp://ada@cam/@"])
def test_time_is_linear_in_the_length(before: str, piece: str) -> None:
    text = before + piece * (100_000 // len(piece))
    began_s = time.process_time()
    redact(text)
    redact_in(text, text[1:])
    assert time.process_time() - began_s < 1.25  # as a square it would take minutes


def test_addresses_in_another_librarys_words_are_redacted() -> None:
    text = "tried rtsp://ada:pw@cam/live, then 'http://cam/k3y'; see (tcp://127.0.0.1:5)"
    assert redact_in(text) == "tried rtsp://***@cam/live, then 'http://cam/***'; see (tcp://127.0.0.1:5)"


def test_what_came_from_a_variable_is_shown_as_it_is_written() -> None:
    filled = FromVariable("rtsp://ada:pw@cam/live", "rtsp://ada:${PW}@cam/live")
    assert filled == "rtsp://ada:pw@cam/live"
    assert redact(filled) == "rtsp://***@cam/live"
    assert redact(FromVariable("hunter2", "${CAM}")) == "${CAM}"
    assert f"{FromVariable('hunter2', '${CAM}')!r}" == "'${CAM}'"
    assert pickle.loads(pickle.dumps(filled)).written == filled.written
    assert "pw" not in redact_in(f"cannot open {filled}", filled)
