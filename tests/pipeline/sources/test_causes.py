"""Whatever an address does not do is a cause and a remedy, told by real servers that fail in each way."""

import base64
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import pytest

from engines.errors import ConfigError, SourceError
from pipeline.settings.schema import StreamSettings
from pipeline.sources.causes import check_address, opening_cause
from pipeline.sources.opening import opened
from tests.pipeline.made_captures import Read
from tests.pipeline.made_clips import write_clip
from tests.pipeline.made_http import http_server

SECRET = "p@ss:w/rd?#1%"


def settings(source: str, **values: object) -> StreamSettings:
    return StreamSettings(name="door", source=source, timeout_s=2.0, **values)  # type: ignore[arg-type]


def cause(source: str, **values: object) -> str:
    """Why it cannot be opened."""
    with pytest.raises(SourceError) as raised, opened(settings(source, **values), live=True):
        pass
    return str(raised.value)


@contextmanager
def rtsp_server(status: str, *headers: str) -> Iterator[str]:
    """Answers every request with one status; gives the address."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def serve() -> None:
        while not over.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(1.0)
                try:
                    while request := client.recv(4096).decode():
                        number = next(line[5:].strip() for line in request.splitlines() if line.startswith("CSeq"))
                        lines = [f"RTSP/1.0 {status}", f"CSeq: {number}", *headers]
                        client.sendall("\r\n".join([*lines, "", ""]).encode())
                except (OSError, StopIteration):
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/front"
    finally:
        over.set()
        thread.join()
        listener.close()


@contextmanager
def hanging_up(said: bytes) -> Iterator[int]:
    """Says something to whoever comes, and hangs up; gives the port."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not over.is_set():
                with suppress(OSError):
                    client, _ = listener.accept()
                    with client:
                        client.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


class TestHttp:
    """Statuses of a web server."""

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            (401, "wants a user name and a password (401 Unauthorized): set user and password of the stream"),
            (403, "is not allowed to this user (403 Forbidden): "),
            (404, "there is no such file (404 Not Found): check the path"),
            (400, "the server does not understand the request (400 Bad Request): "),
            (410, "the server refuses the request (4xx): "),
            (429, "is asked too often (429 Too Many Requests): "),
            (503, "the server has a fault of its own (5xx): "),
        ],
    )
    def test_each_is_told(self, status: int, said: str) -> None:
        headers = {"WWW-Authenticate": 'Basic realm="door"'} if status == 401 else {}
        with http_server(lambda request: (status, b"", headers)) as address:
            assert cause(f"{address}/clip.mp4").startswith(said)

    def test_a_redirection_to_a_file_of_this_host(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "clip.mp4", 5)
        with http_server(lambda request: (302, b"", {"Location": f"file://{tmp_path}/clip.mp4"})) as address:
            assert "leads to one that is not of the network" in cause(f"{address}/clip.mp4")

    def test_what_is_no_video_is_none(self) -> None:
        with http_server(lambda request: (200, b"hello" * 100, {})) as address:
            assert cause(f"{address}/clip.mp4") == "is not a video"

    @pytest.mark.parametrize("password", [SECRET, "plain"])
    def test_user_and_password_may_have_any_characters(self, tmp_path: Path, password: str) -> None:
        content = write_clip(tmp_path / "clip.mp4", 5, container_options={"movflags": "faststart"}).read_bytes()
        wanted = "Basic " + base64.b64encode(f"ada@home:{password}".encode()).decode()

        def answer(request: object) -> tuple[int, bytes, dict[str, str]]:
            if getattr(request, "headers").get("Authorization") != wanted:  # noqa: B009, of any handler
                return 401, b"", {"WWW-Authenticate": 'Basic realm="door"'}
            return 200, content, {}

        with http_server(answer) as address:
            assert len(Read(f"{address}/clip.mp4", user="ada@home", password=password, live=False).frames) == 5
            wrong = cause(f"{address}/clip.mp4", user="ada@home", password="no" + password)
            assert wrong.startswith("refuses the user name or the password (401 Unauthorized): ")


class TestRtsp:
    """Statuses of a camera."""

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            ("404 Not Found", "there is no such stream (404 Not Found): check the path of the address"),
            ("403 Forbidden", "is not allowed to this user (403 Forbidden): "),
            ("461 Unsupported Transport", 'does not send by tcp or not to this client: set transport = "udp"'),
            ("500 Internal Server Error", "the server has a fault of its own (5xx): "),
        ],
    )
    def test_each_is_told(self, status: str, said: str) -> None:
        with rtsp_server(status) as address:
            assert cause(address).startswith(said)

    def test_a_password_that_is_missing_or_wrong(self) -> None:
        with rtsp_server("401 Unauthorized", 'WWW-Authenticate: Basic realm="door"') as address:
            assert cause(address).startswith("wants a user name and a password (401 Unauthorized): ")
            wrong = cause(address, user="ada", password=SECRET)
        assert wrong.startswith("refuses the user name or the password (401 Unauthorized): ")
        assert SECRET not in wrong


class TestNetwork:
    """No server at all, or none that speaks."""

    @pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp", "tcp"])
    def test_nobody_listens(self, scheme: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        said = f"Connection refused: nobody listens at 127.0.0.1:{port}; check the port, and whether it is switched on"
        assert cause(f"{scheme}://ada:{'secret'}@127.0.0.1:{port}/live") == said

    def test_somebody_listens_and_says_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            assert cause(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live") == "no answer within 2 s"

    @pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9\r\n"], ids=["nothing", "something else"])
    @pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "rtmp", "tcp"])
    def test_somebody_listens_and_hangs_up(self, scheme: str, said: bytes) -> None:
        with hanging_up(said) as port:
            told = cause(f"{scheme}://127.0.0.1:{port}/live")
        assert told.startswith("hangs up, or ") or (said and scheme == "rtsps" and "does not speak TLS" in told)

    def test_a_playlist_without_its_segments(self) -> None:
        playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n"
        with http_server(
            lambda request: (200, playlist, {}) if "m3u8" in getattr(request, "path") else (404, b"", {})  # noqa: B009
        ) as address:
            assert cause(f"{address}/live.m3u8").startswith("is not a playlist of video that can be read: ")

    def test_a_name_that_nobody_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = cause("rtsp://no-such-host.invalid/live")
        assert said.startswith("the name no-such-host.invalid is not known: check its spelling, and the DNS")

    @pytest.mark.parametrize("number", [101, 113])
    def test_no_route(self, number: int) -> None:
        error = av.OSError(number, "No route to host")
        said = opening_cause(error, settings("rtsp://ada:secret@10.9.8.7:554/live"))
        assert said == "there is no route to 10.9.8.7:554: check the address, the network and the firewall"

    def test_a_protocol_that_is_not_there(self) -> None:
        assert cause("nosuch://127.0.0.1/live").startswith("this FFmpeg was built without nosuch: ")

    def test_an_error_without_a_translation_keeps_its_text_but_no_secret(self) -> None:
        door = settings("rtsp://10.0.0.7/live", user="ada", password=SECRET)
        said = opening_cause(ValueError(f"bad address rtsp://ada:{SECRET}@10.0.0.7/live of {SECRET}"), door)
        assert said.startswith("cannot be opened: bad address ")
        assert SECRET not in said and "rd?#1" not in said


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of localhost, signed by itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the command openssl")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-keyout",
        key,
        "-out",
        certificate,
        "-days",
        "2",
        "-nodes",
    ]
    names = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return certificate, key


class TestTls:
    """Certificates."""

    @pytest.fixture
    @staticmethod
    def port(certificate: tuple[Path, Path]) -> Iterator[int]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        with http_server(lambda request: (404, b"", {}), tls=context) as address:
            yield int(address.rpartition(":")[2])

    def test_a_certificate_that_nobody_signed(self, port: int) -> None:
        assert cause(f"https://localhost:{port}/clip.mp4").startswith("there is no such file")
        said = cause(f"https://localhost:{port}/clip.mp4", verify_tls=True)
        assert said.startswith("its TLS certificate is refused: self-signed certificate; ")

    def test_a_certificate_of_another_name(
        self, port: int, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert cause(f"https://localhost:{port}/clip.mp4", verify_tls=True).startswith("there is no such file")
        said = cause(f"https://127.0.0.1:{port}/clip.mp4", verify_tls=True)
        assert said.startswith("its TLS certificate is refused: IP address mismatch, certificate is not valid for ")

    def test_a_server_without_tls(self) -> None:
        with http_server(lambda request: (404, b"", {})) as address:
            said = cause(f"{address.replace('http', 'https')}/clip.mp4")
        assert said.startswith("does not speak TLS at 127.0.0.1:")


class TestFiles:
    """Of this host."""

    def test_a_file_that_may_not_be_read(self) -> None:
        assert opening_cause(av.PermissionError(13, "Permission denied"), settings("clip.mp4")).startswith(
            "cannot be read: this user has no permission"
        )

    def test_pixels_without_a_header(self, tmp_path: Path) -> None:
        (tmp_path / "clip.yuv").write_bytes(bytes(1000))
        assert cause(str(tmp_path / "clip.yuv")).startswith("is no video that tells its own size and format: ")

    @pytest.mark.parametrize(
        ("header", "said"),
        [
            (b"\x84\x42\x86\x81\x01", "is not whole: it ends before its first picture"),
            (b"\x84\x42\xf2\x81\x08", "is of a kind that this FFmpeg cannot read: convert it to MP4 or MKV"),
        ],
    )
    def test_headers_that_lead_to_nothing(self, tmp_path: Path, header: bytes, said: str) -> None:
        (tmp_path / "clip.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + header + b"\x18\x53\x80\x67")
        assert cause(str(tmp_path / "clip.mkv")) == said

    def test_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "clip.mp4").touch()
        assert cause(str(tmp_path / "clip.mp4")) == "is empty"

    def test_a_missing_file_below_the_home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cause("~/clip.mp4") == "does not exist"


@pytest.mark.parametrize(
    ("source", "values", "said"),
    [
        ("rtsp://ada:p/ss@10.0.0.7/live", {}, "cannot be understood: characters such as @ : / ? #"),
        ("rtsp://ada:p#ss@10.0.0.7/live", {}, "must be percent-encoded"),
        ("rtsp://ada:p?ss@10.0.0.7/live", {}, "user and password of the stream"),
        ("rtsp://[bad/live", {}, "but must have a host, and a port from 1 to 65535 or none"),
        ("rtsp://10.0.0.7:99999/live", {}, "but must have a host, and a port from 1 to 65535 or none"),
        ("http://10.0.0.7:0/live", {}, "but must have a port from 1 to 65535, or none"),
        ("rtsp://", {}, "but must have a host after the ://"),
        ("ftp://", {}, "but must have a host after the ://"),
        ("http:///live", {"user": "ada"}, "but must have a host after the ://"),
        ("clip.mp4", {"user": "ada"}, "but must be an address where user and password are there"),
        ("rtsp://ada@10.0.0.7/live", {"password": "x"}, "which has a user name in it: give it there, or as user and"),
    ],
)
def test_an_address_that_cannot_be_understood_is_refused(source: str, values: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_address(settings(source, **values))
    assert said in str(raised.value)
    assert "p/ss" not in str(raised.value) and "p#ss" not in str(raised.value)


@pytest.mark.parametrize(
    "source",
    [
        "udp://:5000",
        "tcp://:5000?listen=1",
        "unix:///run/camera",
        "rtp://@:5000",
        "rtsp://10.0.0.7/user@home/live",
        "rtsp://ada:p%2Fss@10.0.0.7/live",
        "rtsp://cam.local:554/live?mail=a@b",
    ],
)
def test_an_address_that_can_be_understood_is_taken(source: str) -> None:
    check_address(settings(source))


def test_an_address_that_cannot_be_understood_ends_no_thread() -> None:
    assert cause("rtsp://[bad/live").startswith("the address is none that can be understood")
