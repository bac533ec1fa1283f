"""The server's process, its certificate, and being started again."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography import x509

from engines.errors import ConfigError
from pipeline.service.page_process import PageProcess
from pipeline.service.web.certificate import own_certificate
from pipeline.service.web.place import check_place, split_address
from pipeline.settings.schema import WebSettings
from tests.ports import free_port
from tests.waiting import until

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # of libraries, which have heaps of their own


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:8080", ("127.0.0.1", 8080)), ("[::1]:0", ("[::1]", 0)), ("cam.local:65535", ("cam.local", 65535))],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize("address", ["8080", ":8080", "host", "host:99999", "http://host:80", "a b:80", "::1:80"])
def test_what_is_no_address_is_refused_in_one_sentence(address: str) -> None:
    with pytest.raises(ConfigError, match="must be HOST:PORT"):
        split_address(address)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"accounts": "{folder}/nowhere/accounts.sqlite"}, "accounts file .*nowhere/accounts.sqlite: cannot be opened"),
        ({"address": "127.0.0.1:{taken}"}, "web.address is '127.0.0.1:[0-9]+', which cannot be listened on: Address"),
        ({"certificate": "{folder}/site.crt"}, "web.certificate and web.key must both be there"),
        ({"address": "0.0.0.0:0", "accounts": "{folder}/nowhere/accounts.sqlite"}, "certificate .* cannot be made"),
    ],
    ids=["accounts", "address", "certificate", "own certificate"],
)
def test_a_page_that_cannot_be_served_is_refused_before_the_run_begins(
    wrong: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    given = {"address": "127.0.0.1:0", "accounts": "{folder}/accounts.sqlite"} | wrong
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"folder": tmp_path, "taken": taken.getsockname()[1]}
        with pytest.raises(ConfigError, match=sentence):
            check_place(WebSettings(**{key: value.format(**places) for key, value in given.items()}))


HEAPS = """
import ctypes, os, sys, threading
from pipeline.service.web.server import share_one_heap
c = ctypes.CDLL(None)
def heaps(shared):
    if shared:
        share_one_heap()
    all_there = threading.Barrier(4)
    threads = [threading.Thread(target=lambda: (c.malloc(100_000), all_there.wait())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    c.malloc_info(0, ctypes.c_void_p.in_dll(c, "stdout"))
    c.fflush(None)
for shared in (False, True):  # each in a process of its own, of one that has imported all
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
    else:
        heaps(shared)
        os._exit(0)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="the C library is not glibc")
def test_threads_of_the_server_share_one_heap() -> None:
    command = [sys.executable, "-c", HEAPS]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD).stdout
    without, shared = told.split("</malloc>\n<malloc")  # one report of each
    assert without.count("<heap nr") > 1 and shared.count("<heap nr") == 1


def test_the_servers_own_certificate_is_made_once_for_its_names_with_a_private_key(tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path, ("cameras.example", "10.0.0.5"))
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "cameras.example" in names.get_values_for_type(x509.DNSName)
    assert "10.0.0.5" in map(str, names.get_values_for_type(x509.IPAddress))
    assert key.stat().st_mode & 0o777 == 0o600
    before = certificate.read_bytes()
    assert own_certificate(tmp_path, ()) == (certificate, key) and certificate.read_bytes() == before


def test_a_page_that_ends_is_started_again_until_it_is_stopped(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    code = f"import os, time; open({str(marks)!r}, 'a').write('x'); time.sleep(600)"
    page = PageProcess([sys.executable, "-c", code])
    page.start()
    try:
        until(lambda: marks.exists() and marks.read_text() == "x")
        first = page.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: marks.read_text() == "xx")
        assert page.pid != first
    finally:
        page.stop()
    assert page.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(page.pid, 0)


@pytest.mark.integration
def test_beyond_this_host_there_is_tls_and_a_login(tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "tools.main",
        "view",
        "--address",
        f"0.0.0.0:{port}",
        "--results",
        "tcp://127.0.0.1:9",
    ]
    root = Path(__file__).resolve().parents[4]
    with (tmp_path / "err").open("w") as err:
        server = subprocess.Popen(command, cwd=tmp_path, stderr=err, env=os.environ | {"PYTHONPATH": str(root)})
    try:
        until(lambda: "good for one login" in (tmp_path / "err").read_text())
        found = re.search(r"the password (\S+),", (tmp_path / "err").read_text())
        assert found is not None
        url = f"https://127.0.0.1:{port}"
        with httpx.Client(base_url=url, verify=False) as client:
            until(lambda: _answers(client))
            assert client.get("/api/me").status_code == 401
            login = {"user": "admin", "password": found[1], "new": "correct horse battery"}
            assert client.post("/api/login", json=login).json()["role"] == "admin"
            assert client.get("/api/streams").json() == []
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/api/me")
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) is not None
    finally:
        server.kill()
        server.wait()
    assert (tmp_path / "trunkline-web.crt").exists() and (tmp_path / "accounts.sqlite").exists()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def test_settings_of_the_page_are_checked() -> None:
    from pipeline.settings.load import parse

    text = '[[streams]]\nname = "door"\nsource = "0"\n[web]\n'
    assert parse(text, "a").web is not None
    for wrong in ('address = "8080"', 'certificate = "a.pem"', 'colour = "red"'):
        with pytest.raises(ConfigError, match=r"a: web\."):
            parse(text + wrong, "a")
    assert msgspec.structs.asdict(parse(text, "a").web)["address"] == "127.0.0.1:8080"  # type: ignore[arg-type]
