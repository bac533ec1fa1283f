"""What a broker has to be told: retained state, of which the last value counts, and events, of which each does."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

GONE: Final = b""  # a retained message of no length takes the topic's state away


@dataclass(frozen=True, slots=True)
class Item:
    """One message to the broker."""

    topic: str
    payload: bytes
    event: int | None = None  # its number; None: it is state, and retained

    @property
    def retained(self) -> bool:
        return self.event is None


class Outbox:
    """The state that a broker should have, what of it has yet to be sent, and the events that wait. Thread-safe.

    Args:
        room: events that wait at the most; the oldest are lost beyond that, and counted.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._state: dict[str, bytes] = {}
        self._unsent: dict[str, None] = {}  # topics, in the order in which they changed
        self._events: dict[int, tuple[str, bytes]] = {}
        self._next = 0
        self._lost: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.wake: Callable[[], None] = lambda: None  # called when there is something to send

    def set(self, topic: str, payload: str | bytes) -> None:
        """Let the broker keep this; nothing happens where it is so."""
        value = payload.encode() if isinstance(payload, str) else payload
        with self._lock:
            if self._state.get(topic) == value:
                return
            self._state[topic] = value
            self._unsent[topic] = None
        self.wake()

    def say(self, topic: str, payload: str | bytes) -> None:
        """Tell an event, once."""
        with self._lock:
            if len(self._events) >= self._room:
                del self._events[next(iter(self._events))]
                self._lost["unsent"] += 1
            self._events[self._next] = topic, payload.encode() if isinstance(payload, str) else payload
            self._next += 1
        self.wake()

    def clear(self, root: str) -> None:
        """Take a topic's state away, and that of all below it."""
        with self._lock:
            for topic in self._state:
                if topic == root or topic.startswith(f"{root}/"):
                    self._state[topic] = GONE
                    self._unsent[topic] = None
        self.wake()

    def found(self, topic: str) -> None:
        """The broker has a retained message here, of an earlier run perhaps: it goes where this run has none."""
        if topic not in self._state:
            self.set(topic, GONE)

    def again(self, topics: Collection[str] | None = None) -> None:
        """Send the state of some topics again; None: all of it, to a broker that may have lost or missed any."""
        with self._lock:
            wanted = self._state if topics is None else [topic for topic in topics if topic in self._state]
            self._unsent.update(dict.fromkeys(wanted))
        self.wake()

    def take(self, count: int) -> list[Item]:
        """Return up to so many things to send; :meth:`sent` or :meth:`again` has to follow.

        State and events share the room: neither waits for a long queue of the other.
        """
        with self._lock:
            events = list(itertools.islice(self._events.items(), max(count // 2, count - len(self._unsent))))
            items = [Item(topic, body, number) for number, (topic, body) in events]
            for topic in list(itertools.islice(self._unsent, count - len(items))):
                del self._unsent[topic]
                items.append(Item(topic, self._state[topic]))
            return items

    def sent(self, items: Collection[Item]) -> None:
        """The broker has said that it has these."""
        with self._lock:
            for item in items:
                if item.event is not None:
                    self._events.pop(item.event, None)
                elif item.payload == GONE == self._state.get(item.topic) and item.topic not in self._unsent:
                    del self._state[item.topic]

    @property
    def state(self) -> dict[str, bytes]:
        """What the broker should keep."""
        with self._lock:
            return {topic: value for topic, value in self._state.items() if value != GONE}

    @property
    def lost(self) -> dict[str, int]:
        """Events that were never sent, by cause."""
        with self._lock:
            return dict(self._lost)

    def give_up(self) -> None:
        """Nothing is sent any more: events that wait are lost."""
        with self._lock:
            if self._events:
                self._lost["shutdown"] += len(self._events)
            self._events.clear()
