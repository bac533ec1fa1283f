"""Passwords in source addresses are never shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.redact import redact


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        pytest.param("0", "0", id="a camera's index"),
        pytest.param("", "", id="empty"),
        pytest.param("clips/door@2x.mp4", "clips/door@2x.mp4", id="a file with an @ in its name"),
        pytest.param("rtsp://10.0.0.7:554/live", "rtsp://10.0.0.7:554/live", id="no userinfo"),
        pytest.param("rtsp://ada@cam/live", "rtsp://ada@cam/live", id="a user without a password"),
        pytest.param("rtsp://ada@cam:554/live", "rtsp://ada@cam:554/live", id="a user, no password, a port"),
        pytest.param("rtsp://ada:pw@cam:554/live", "rtsp://ada@cam:554/live", id="user and password"),
        pytest.param("rtsp://:pw@cam/live", "rtsp://@cam/live", id="a password without a user"),
        pytest.param("rtsp://ada:p@w/x:y?z#@cam/live", "rtsp://ada@cam/live", id="unescaped @ / : ? # in the password"),
        pytest.param("rtsp://ada:my pw@cam/live", "rtsp://ada@cam/live", id="a space in the password"),
        pytest.param("rtsp://a@b.org:pw@cam/live", "rtsp://a@b.org@cam/live", id="an e-mail address as the user"),
        pytest.param("rtsp://ada:pw@[fe80::1]:554/x", "rtsp://ada@[fe80::1]:554/x", id="an IPv6 host"),
        pytest.param("rtsp://[::1]:554/x", "rtsp://[::1]:554/x", id="an IPv6 host without userinfo"),
        pytest.param("ada:pw@cam/live", "ada@cam/live", id="the scheme was forgotten"),
        pytest.param("http://cam/?pwd=x&ch=1", "http://cam/?pwd=***&ch=1", id="a secret in the query"),
        pytest.param("http://cam/?ch=1&API_KEY=x", "http://cam/?ch=1&API_KEY=***", id="upper case, the last one"),
        pytest.param("http://cam/?ch=1&user=ada", "http://cam/?ch=1&user=ada", id="a query without secrets"),
        pytest.param("rtsp://cam/user=a&password=x&ch=1", "rtsp://cam/user=a&password=***&ch=1", id="in the path"),
        pytest.param("srt://cam:9?passphrase=x", "srt://cam:9?passphrase=***", id="an SRT passphrase"),
    ],
)
def test_what_is_shown(source: str, shown: str) -> None:
    assert redact(source) == shown


@given(before=st.text(), after=st.text(), user=st.text(alphabet="abc.@"))
def test_no_part_of_any_password_gets_through(before: str, after: str, user: str) -> None:
    assert redact(f"rtsp://{user}:{before}SECRET{after}@cam/live") == f"rtsp://{user}@cam/live"


@given(value=st.text().map(lambda text: text.replace("&", "")), name=st.sampled_from(["password", "token", "auth"]))
def test_no_secret_value_gets_through(value: str, name: str) -> None:
    assert redact(f"http://cam/?{name}=SECRET{value}&ch=1").count("SECRET") == 0


@given(st.text())
def test_redacting_twice_changes_nothing(source: str) -> None:
    assert redact(redact(source)) == redact(source)
