"""The gallery as a run sees it: the people known at this moment, and tracks to be enrolled."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
import structlog

from engines.errors import GalleryError
from pipeline.frames.clock import timestamp
from pipeline.gallery.gallery import Gallery, Snapshot
from pipeline.gallery.search import Index
from pipeline.gallery.track_requests import Tracks, answer_requests

IN_PASSING: Final = 2000  # embeddings that are read between two frames, in some milliseconds; more in a thread
LEAD_NS: Final = 2_000_000_000  # people who expire are left out so much earlier: making the index takes a while, too

Made = tuple[int | None, Snapshot, Index]  # what was read at which revision

NOBODY: Final = Snapshot((), np.zeros((0, 0), np.float32))

log = structlog.get_logger()


class LiveGallery:
    """The known people, kept up to date while other processes change the file.

    Args:
        gallery: whose changes are looked for.
        look_s: how often.
        clock: seconds, for that.

    Attributes:
        index: of those who are known now.
    """

    def __init__(self, gallery: Gallery, look_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.index = Index(NOBODY)
        self._gallery = gallery
        self._look_s = look_s
        self._clock = clock
        self._looked_at = -np.inf
        self._snapshot = NOBODY
        self._revision: int | None = None
        self._thread = ThreadPoolExecutor(1, "gallery")
        self._making: Future[Made] | None = None

    def refresh(self, tracks_of: Callable[[str], Tracks | None]) -> bool:
        """Read the file if it is due; return whether ``index`` has changed.

        Args:
            tracks_of: the live face tracks of a stream, for those who want one enrolled; None for one not of this run.

        Raises:
            Exception: whatever reading the people or making the index raised in the thread, but for GalleryError.
        """
        now = self._clock()
        if now - self._looked_at < self._look_s:
            return False
        self._looked_at = now
        try:
            for answer in answer_requests(self._gallery, tracks_of):
                self._thread.submit(self._answer, answer)
            return self._take_up()
        except GalleryError as error:
            # Frames go on with the people known so far; the next look may find the file whole again.
            log.warning("gallery not read", error=str(error))
            return self._let_go()

    def _take_up(self) -> bool:
        if self._making is not None:
            if not self._making.done():
                return False
            made, self._making = self._making, None
            return self._adopt(*made.result())
        revision = self._gallery.revision
        if revision == self._revision:
            return self._let_go()
        if self._gallery.fingerprint not in (None, self._gallery.model):
            log.warning("gallery enrolled again with another model: nobody is known", gallery=str(self._gallery.path))
            return self._adopt(revision, NOBODY, Index(NOBODY))
        return self._make(self._gallery.size, _read)

    def _let_go(self) -> bool:
        """Remove expired people from the index, without reading the file."""
        left = self._snapshot.at(_soon())
        if self._making is not None or left is self._snapshot:
            return False
        revision = self._revision
        return self._make(len(left.names), lambda _: (revision, left, Index(left)))

    def _make(self, count: int, make: Callable[[Gallery], Made]) -> bool:
        if count > IN_PASSING:
            self._making = self._thread.submit(self._with_own, make)
            return False
        return self._adopt(*make(self._gallery))

    def _adopt(self, revision: int | None, snapshot: Snapshot, index: Index) -> bool:
        self._revision, self._snapshot, self.index = revision, snapshot, index
        return True

    def _with_own(self, make: Callable[[Gallery], Made]) -> Made:
        # A connection of its own: waiting for writers must not delay readers.
        with Gallery(self._gallery.path, self._gallery.fingerprint) as gallery:
            return make(gallery)

    def _answer(self, answer: Callable[[Gallery], None]) -> None:
        try:
            with Gallery(self._gallery.path, self._gallery.fingerprint) as gallery:
                answer(gallery)
        except GalleryError as error:
            log.warning("track not enrolled", error=str(error))
        except Exception:  # the answer has the error; no thread waits for this one, and the run needs no enrolment
            log.exception("track not enrolled")


def _read(gallery: Gallery) -> Made:
    revision = gallery.revision  # first: what changes meanwhile is read again
    snapshot = gallery.snapshot().at(_soon())
    return revision, snapshot, Index(snapshot)


def _soon() -> str:
    return timestamp(time.time_ns() + LEAD_NS)
