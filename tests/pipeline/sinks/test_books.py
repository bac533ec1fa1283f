"""What became of messages is known also after the process that had them died."""

import threading
import time

import numpy as np

from pipeline.sinks.base import SinkThread
from pipeline.sinks.books import WORDS, SinkBook
from tests.pipeline.sinks.test_base import Kept, message, until


def test_what_waited_in_a_process_that_died_is_lost_by_crash() -> None:
    row = np.zeros(WORDS, np.int64)
    book = SinkBook(row)
    for _ in range(5):
        book.give()
    book.note_sent()
    book.lose("full", 2)
    assert book.waiting == 2
    after = SinkBook(row)
    assert (after.died, after.waiting, after.sent) == (2, 0, 1)
    assert {cause: count for cause, count in after.lost.items() if count} == {"full": 2, "crash": 2}
    assert SinkBook(row).died == 0


def test_a_thread_counts_on_where_another_process_was_killed() -> None:
    row, gate = np.zeros(WORDS, np.int64), threading.Event()
    killed = SinkThread("store", sink := Kept(lambda: sink.heard and gate.wait()), 10, SinkBook(row))
    for number in range(4):
        killed.send(message(number))
    until(lambda: killed.counts.sent == 1)
    after = SinkThread("store", Kept(), 10, SinkBook(row.copy()))  # as its successor finds the memory
    after.send(message(4))
    after.finish()
    assert after.join(time.monotonic() + 5.0)
    assert (after.counts.sent, after.counts.lost, after.counts.waiting) == (2, {"crash": 3}, 0)
    gate.set()
    killed.finish()
    assert killed.join(time.monotonic() + 5.0)
