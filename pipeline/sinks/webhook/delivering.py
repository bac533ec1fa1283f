"""Brings what is in the spool to its target, one after the other, for as long as it takes."""

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import structlog

from engines.errors import MessageError, kind_and_line, one_line
from pipeline.frames.backoff import Backoff
from pipeline.sinks.webhook.body import signed
from pipeline.sinks.webhook.settings import WebhookSettings
from pipeline.sinks.webhook.spool import Delivery, Spool
from pipeline.sinks.webhook.targets import Target, url_of

BACKOFF_S: Final = 0.5, 300.0  # the first and the longest wait before trying again, each jittered
LATER: Final = (408, 425, 429)  # of the 4xx answers: try again
MAX_ANSWER: Final = 65_536  # bytes that are read of one; nothing in it is of use

log = structlog.get_logger()
for _name in ("httpx", "httpcore"):  # whose other lines have the whole URL, and headers
    logging.getLogger(_name).setLevel(logging.WARNING)


class DeliveryRefused(Exception):
    """The target does not want this delivery, now or later."""


class TryLaterError(Exception):
    """It may want it later; ``after_s`` where it said when."""

    def __init__(self, cause: str, after_s: float = 0.0) -> None:
        super().__init__(cause)
        self.after_s = after_s


class Deliverer:
    """A thread that delivers, in order: while the oldest cannot be delivered, the others wait behind it.

    Args:
        settings: of the sink.
        target: where to.
        spool: what is delivered.
        tls: trusts whom; None: the system's.
        backoff_s: see BACKOFF_S.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        target: Target,
        spool: Spool,
        tls: ssl.SSLContext | None = None,
        backoff_s: tuple[float, float] = BACKOFF_S,
    ) -> None:
        self._settings, self._target, self._spool, self._backoff_s = settings, target, spool, backoff_s
        # No proxy of the environment: it would connect to whatever address it finds itself.
        self._client = httpx.Client(
            timeout=settings.timeout_s, verify=tls or ssl.create_default_context(), trust_env=False
        )
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until the thread is done, once the spool is closed."""
        self._thread.join(seconds)

    def _run(self) -> None:
        with self._client:
            while (next_one := self._spool.first()) is not None:
                name, delivery = next_one
                try:
                    self._deliver(name, delivery)
                except Exception:  # a bug; the next delivery may go well
                    log.exception("webhook failed", host=self._target.host)
                    self._spool.lose(name, "failed")

    def _deliver(self, name: str, delivery: Delivery) -> None:
        """Try until it has arrived, is refused or too old, or the spool is closed."""
        backoff, longest_s = Backoff(*self._backoff_s, random.Random()), self._backoff_s[1]
        while True:
            if time.time() - delivery.at_ns / 1e9 > self._settings.max_age_s:
                self._spool.lose(name, "expired")
                return
            try:
                self._try(delivery)
            except DeliveryRefused as error:
                log.warning("webhook refused", host=self._target.host, cause=str(error))
                self._spool.lose(name, "refused")
                return
            except TryLaterError as error:
                self._say_failing(str(error))
                if not self._spool.wait(max(backoff.next(), min(error.after_s, longest_s))):
                    return
            else:
                if self._failing:
                    log.info("webhook delivers again", host=self._target.host)
                self._failing = False
                self._spool.done(name)
                return

    def _try(self, delivery: Delivery) -> None:
        try:
            addresses = self._target.addresses()
        except MessageError as error:
            raise DeliveryRefused(str(error)) from None
        except OSError as error:
            raise TryLaterError(f"{self._target.host} cannot be looked up: {one_line(error)}") from None
        failure = ""
        for address in addresses:
            try:
                self._post(delivery, address)
                return
            except httpx.ConnectError as error:
                failure = kind_and_line(error)  # the next address may answer
            except httpx.HTTPError as error:
                raise TryLaterError(kind_and_line(error)) from None
        raise TryLaterError(failure)

    def _post(self, delivery: Delivery, address: str) -> None:
        settings, body = self._settings, delivery.body
        headers = {**settings.headers, "Content-Type": body.content_type, "webhook-id": delivery.id}
        if settings.secret is not None:  # anew at each try: receivers refuse what is old
            headers |= signed(str(settings.secret), delivery.id, int(time.time()), body.content)
        headers["Host"] = self._target.netloc
        extensions = {"sni_hostname": self._target.host} if self._target.scheme == "https" else {}
        request = self._client.build_request(
            "POST", url_of(self._target, address), content=body.content, headers=headers, extensions=extensions
        )
        answer = self._client.send(request, stream=True, follow_redirects=False)
        try:
            _read(answer, settings.timeout_s)
        finally:
            answer.close()
        _judge(answer)

    def _say_failing(self, cause: str) -> None:
        if not self._failing:
            log.warning("webhook is tried again later", host=self._target.host, cause=cause)
        self._failing = True


def _read(answer: httpx.Response, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
    """Read an answer, so that the connection can be used again; of a long or slow one, only the beginning."""
    end, size = clock() + timeout_s, 0
    for part in answer.iter_raw():
        size += len(part)
        if size > MAX_ANSWER or clock() > end:
            return


def _judge(answer: httpx.Response) -> None:
    status = answer.status_code
    if answer.is_success:
        return
    if status >= 500 or status in LATER:
        raise TryLaterError(f"it answered {status}", _retry_after(answer))
    raise DeliveryRefused(f"it answered {status}")  # redirects too: they lead to addresses that were not looked at


def _retry_after(answer: httpx.Response) -> float:
    """Seconds that an answer asks to wait for."""
    text = answer.headers.get("Retry-After", "")
    try:
        return float(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
