"""imagezmq as the way of frames from one process to another on one host: its default, request and reply."""

import tempfile

import imagezmq

from tools.benchmarking.processes import child
from tools.peers.measuring import Meter, arguments
from tools.peers.queue_transport import pictures


def send(address: str) -> None:
    """Send frames until the process is ended."""
    sender = imagezmq.ImageSender(connect_to=address)
    for picture in pictures():
        sender.send_image("camera", picture)


def main() -> None:
    """Receive."""
    meter = Meter(arguments(__doc__, source=False).parse_args().seconds)
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        address = f"ipc://{folder}/frames"
        hub = imagezmq.ImageHub(open_port=address)
        with child(send, address):
            hub.recv_image()
            while meter.count():
                hub.send_reply(b"OK")
                hub.recv_image()
        hub.close()
    meter.report(("imagezmq", "numpy", "pyzmq"), looks=False)


if __name__ == "__main__":
    main()
