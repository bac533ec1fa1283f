"""A live RTSP server in a process of its own, which tests can kill, freeze and start again."""

import signal
import socket
import subprocess
from pathlib import Path

SYSTEM_PYTHON = Path("/usr/bin/python3")
SERVER = Path(__file__).with_name("rtsp_server.py")
NEEDED = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert all(Gst.ElementFactory.find(name) for name in ("qtdemux", "h264parse", "rtph264pay", "appsrc"))
"""


def gstreamer_works() -> bool:
    if not SYSTEM_PYTHON.exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", NEEDED], capture_output=True, timeout=30).returncode == 0


class Server:
    """rtsp_server.py as a process that can die and come back on its port."""

    def __init__(self, clip: Path, *secret: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
        self._clip, self._secret = clip, secret  # user and password, if it wants them
        self.start()

    @property
    def address(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/stream"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, SERVER, self._clip, str(self._port), *self._secret], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"listening on {self._port}\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)
