"""What processes count beside frames, as the process that comes after a dead one finds it."""

from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest

from pipeline.frames.stage_times import SKIPPED, batches_of
from pipeline.runtime.run_books import CAUSE_BYTES, RunBooks
from pipeline.runtime.summary import FileEnd
from pipeline.settings.schema import Config


@pytest.fixture
def books() -> Iterator[RunBooks]:
    rows = [{"name": name, "source": "clip.mp4"} for name in ("door", "yard")]
    settings = {"streams": rows, "zmq": {"spare_streams": 1}, "inference": {"max_batch": 4}}
    with closing(RunBooks.create(msgspec.convert(settings, Config))) as books:
        yield books


def test_nothing_was_counted_at_first(books: RunBooks) -> None:
    assert [books.end_of(row) for row in range(3)] == [None] * 3
    assert [books.left_out(row) for row in range(3)] == [0] * 3
    assert batches_of(books.batches) == {} and not books.faces.any() and not books.sinks.any()


def test_a_file_s_end_is_kept_however_long_its_cause_is(books: RunBooks) -> None:
    books.end(0, FileEnd("part", "is not whole: ä"))
    books.end(2, FileEnd("nothing", "ü" * CAUSE_BYTES))
    assert books.end_of(0) == FileEnd("part", "is not whole: ä")
    assert books.end_of(1) is None
    assert books.end_of(2) == FileEnd("nothing", "ü" * (CAUSE_BYTES // 2))


def test_counts_of_one_kind_are_no_others(books: RunBooks) -> None:
    books.batches[[SKIPPED, 1, 4]] = 7, 2, 1
    books.recorded[2] = 9, 5
    assert (batches_of(books.batches), books.left_out(2), books.left_out(1)) == ({1: 2, 4: 1}, 4, 0)
    assert not books.faces.any() and not books.sinks.any()
