"""``multiprocessing.Queue`` as the way of frames from one process to another."""

import multiprocessing
from multiprocessing.queues import Queue
from typing import Final

from tools.peers.measuring import Meter, arguments, report
from tools.peers.sender import Pixels, pictures, sending

PACKAGES: Final = ("numpy",)
WAITING: Final = 4  # frames at the most


def send(queue: "Queue[Pixels]") -> None:
    """Put frames until the process is ended."""
    for picture in pictures():
        queue.put(picture)


def main() -> None:
    """Receive."""
    options = arguments(__doc__ or "", source=False).parse_args()
    queue: Queue[Pixels] = multiprocessing.get_context("spawn").Queue(WAITING)
    with sending(send, queue) as sender:
        meter = Meter(options.seconds, [sender])
        going = True
        while going:
            queue.get()
            going = meter.count()
        report(meter.measured(looks=False), PACKAGES)


if __name__ == "__main__":
    main()
