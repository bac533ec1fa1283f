"""imagezmq as the way of frames from one process to another on one host: its default, request and reply."""

import tempfile
from typing import Final

import imagezmq

from tools.peers.measuring import Meter, arguments, report
from tools.peers.sender import pictures, sending

PACKAGES: Final = ("imagezmq", "numpy", "pyzmq")


def send(address: str) -> None:
    """Send frames until the process is ended."""
    sender = imagezmq.ImageSender(connect_to=address)
    for picture in pictures():
        sender.send_image("camera", picture)


def main() -> None:
    """Receive."""
    options = arguments(__doc__ or "", source=False).parse_args()
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        address = f"ipc://{folder}/frames"
        hub = imagezmq.ImageHub(open_port=address)
        with sending(send, address) as sender:
            meter = Meter(options.seconds, [sender])
            going = True
            while going:
                hub.recv_image()
                going = meter.count()
                hub.send_reply(b"OK")
            report(meter.measured(looks=False), PACKAGES)
        hub.close()


if __name__ == "__main__":
    main()
