import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engines.errors import ConfigError
from pipeline.frames.counters import FrameCounts, StreamState
from pipeline.frames.types import Ticket
from pipeline.runtime import shared_file
from pipeline.runtime.ring import CAUSES, Gone, Layout, Ring, accept, hand_over, take_back
from pipeline.runtime.worker_process import FORKING
from tests.pipeline.made_memory import named_memory
from tests.pipeline.made_readers import busy_process, held_by, reader, send, take

CAMERA, ENGINE, VIEWER = 0, 1, 2  # numbers of processes
BYTES = 5000  # no whole number of pages


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring.create(Layout(slots=4, slot_bytes=BYTES, streams=("door", "yard")), "4 frames")
    yield made
    made.close()


def claimed(ring: Ring, stream: str | None = "door", by: int = CAMERA) -> Ticket:
    ticket = ring.claim(by, stream)
    assert ticket is not None
    return ticket


# The way of a slot.


def test_pixels_are_there_for_whoever_takes_the_slot(ring: Ring) -> None:
    ticket = claimed(ring)
    ring.pixels(ticket)[:] = 7
    send(ring, CAMERA, [ticket], ENGINE)
    take(ring, ENGINE, [ticket])
    assert (ring.pixels(ticket) == 7).all()
    assert ring.pixels(ticket).shape == (BYTES,)


def test_slots_do_not_overlap(ring: Ring) -> None:
    tickets = [claimed(ring) for _ in range(4)]
    for value, ticket in enumerate(tickets):
        ring.pixels(ticket)[:] = value
    assert [int(ring.pixels(ticket).min()) for ticket in tickets] == [0, 1, 2, 3]
    assert [int(ring.pixels(ticket).max()) for ticket in tickets] == [0, 1, 2, 3]


def test_a_full_ring_has_no_slot_until_one_is_released(ring: Ring) -> None:
    tickets = [claimed(ring) for _ in range(4)]
    assert ring.claim(CAMERA, "door") is None
    ring.release(CAMERA, tickets[2:3])
    assert claimed(ring).slot == tickets[2].slot


def test_the_slot_that_rested_longest_is_taken_first(ring: Ring) -> None:
    slots = []
    for _ in range(8):
        ticket = claimed(ring)
        slots.append(ticket.slot)
        ring.release(CAMERA, [ticket])
    assert slots == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_frame_is_published_while_its_picture_is_still_looked_at(ring: Ring) -> None:
    ticket = claimed(ring)
    ring.published(CAMERA, ticket)
    assert ring.of("door").published == 1
    assert held_by(ring, CAMERA) == 1
    ring.release(CAMERA, [ticket], "shutdown")
    assert ring.of("door") == FrameCounts(captured=1, published=1, dropped={})
    assert held_by(ring, CAMERA) == 0


def test_what_a_dead_process_had_published_is_not_counted_again(ring: Ring) -> None:
    reported, under_way = claimed(ring), claimed(ring)
    ring.published(CAMERA, reported)
    assert ring.reclaim(CAMERA) == {"door": 1}
    assert ring.of("door") == FrameCounts(captured=2, published=1, dropped={"crash": 1})
    with pytest.raises(Gone):
        ring.published(CAMERA, under_way)


def test_a_stream_has_no_more_slots_than_it_may(ring: Ring) -> None:
    first, second = claimed(ring), claimed(ring)
    ring.batched(CAMERA, [first])
    ring.published(CAMERA, second)
    assert ring.claim(CAMERA, "door", most=2) is None
    assert ring.claim(CAMERA, "yard", most=2) is not None
    ring.release(CAMERA, [second])
    assert ring.claim(CAMERA, "door", most=2) is not None


def test_a_late_reader_hears_that_the_picture_is_gone(ring: Ring) -> None:
    old = claimed(ring)
    ring.release(CAMERA, [old])
    for _ in range(3):
        claimed(ring)
    new = claimed(ring)
    assert new.slot == old.slot and new.generation == old.generation + 1
    for use in (partial(take, ring), ring.batched):
        with pytest.raises(Gone):
            use(CAMERA, [old])
    with pytest.raises(Gone):
        send(ring, CAMERA, [old], ENGINE)
    ring.release(CAMERA, [old])
    assert held_by(ring, CAMERA) == 4, "releasing an old ticket freed the slot's new use"


def test_nobody_takes_what_was_sent_to_another(ring: Ring) -> None:
    ticket = claimed(ring)
    send(ring, CAMERA, [ticket], ENGINE)
    with pytest.raises(Gone):
        take(ring, VIEWER, [ticket])
    with pytest.raises(Gone):
        send(ring, CAMERA, [ticket], VIEWER)  # given away already


def test_one_ticket_that_is_gone_moves_none_of_a_batch(ring: Ring) -> None:
    kept, lost = claimed(ring), claimed(ring)
    ring.release(CAMERA, [lost], "stale")
    with pytest.raises(Gone):
        send(ring, CAMERA, [kept, lost], ENGINE)
    assert not ring.pending(ENGINE)
    assert held_by(ring, CAMERA) == 1


def test_what_is_on_its_way_is_pending_until_it_is_taken(ring: Ring) -> None:
    ticket = claimed(ring)
    assert not ring.pending(ENGINE)
    send(ring, CAMERA, [ticket], ENGINE)
    assert ring.pending(ENGINE)
    take(ring, ENGINE, [ticket])
    assert not ring.pending(ENGINE)


def test_only_so_many_frames_of_a_stream_wait_for_a_batch(ring: Ring) -> None:
    first = ring.claim(CAMERA, "door", most_waiting=2)
    assert first and ring.claim(CAMERA, "door", most_waiting=2)
    assert ring.claim(CAMERA, "door", most_waiting=2) is None
    assert ring.claim(CAMERA, "yard", most_waiting=2), "one stream's frames took another's room"
    ring.batched(CAMERA, [first])
    assert ring.claim(CAMERA, "door", most_waiting=2)
    assert ring.of("door").captured == 3, "a frame that found no room was counted"


def test_frames_that_wait_and_those_on_their_way_are_counted(ring: Ring) -> None:
    tickets = [claimed(ring), claimed(ring, "yard")]
    assert (ring.waiting, ring.sent_to(ENGINE)) == (2, 0)
    ring.batched(CAMERA, tickets)
    send(ring, CAMERA, tickets, ENGINE)
    assert (ring.waiting, ring.sent_to(ENGINE), ring.sent_to(VIEWER)) == (0, 2, 0)
    take(ring, ENGINE, tickets[:1])
    assert ring.sent_to(ENGINE) == 1
    ring.reclaim(ENGINE)
    assert ring.sent_to(ENGINE) == 0


def test_what_happened_to_a_stream_is_kept_where_every_process_sees_it(ring: Ring) -> None:
    assert ring.streams.state("door") == StreamState()
    for state in ("up", "down", "up"):
        ring.tell("door", state)
    ring.tell("yard")
    assert ring.streams.state("door") == StreamState("up", reconnects=1)
    assert ring.streams.state("yard") == StreamState()
    assert (ring.reported("door"), ring.reported("yard")) == (3, 1)


def test_slots_of_no_stream_are_in_no_books(ring: Ring) -> None:
    ticket = claimed(ring, None)
    send(ring, CAMERA, [ticket], ENGINE)
    assert ring.reclaim(CAMERA) == {}
    assert {ring.of(name).captured for name in ("door", "yard")} == {0}


def test_a_process_is_told_that_nothing_more_comes(ring: Ring) -> None:
    ring.shut(ENGINE)
    assert ring.is_shut(ENGINE) and not ring.is_shut(CAMERA)


# The books.


def test_every_way_to_end_is_in_the_books(ring: Ring) -> None:
    ring.release(CAMERA, [claimed(ring)])
    ring.release(CAMERA, [claimed(ring)], "stale")
    ring.miss("door", "stale")
    held = claimed(ring)
    account = ring.of("door")
    assert (account.captured, account.published, account.dropped, account.in_flight) == (4, 1, {"stale": 2}, 1)
    ring.release(CAMERA, [held], "crash")
    assert ring.of("door").in_flight == 0
    assert ring.of("yard").captured == 0


def test_a_frame_is_counted_once_however_often_it_is_released(ring: Ring) -> None:
    ticket = claimed(ring)
    for _ in range(3):
        ring.release(CAMERA, [ticket])
    assert ring.of("door").published == 1


@pytest.mark.parametrize("dead", [CAMERA, ENGINE], ids=["its sender died", "its receiver died"])
def test_what_was_on_its_way_is_given_up_and_refused_when_it_turns_up(ring: Ring, dead: int) -> None:
    ticket = claimed(ring)
    send(ring, CAMERA, [ticket], ENGINE)
    assert ring.reclaim(dead) == {"door": 1}
    assert ring.of("door").dropped == {"crash": 1}
    with pytest.raises(Gone):
        take(ring, ENGINE, [ticket])


def test_what_was_handed_on_is_not_lost_with_its_last_owner(ring: Ring) -> None:
    ticket = claimed(ring)
    send(ring, CAMERA, [ticket], ENGINE)
    take(ring, ENGINE, [ticket])
    assert ring.reclaim(CAMERA) == {}
    ring.release(ENGINE, [ticket])
    assert (ring.of("door").published, ring.of("door").dropped) == (1, {})


@pytest.fixture
def inputs(ring: Ring) -> Iterator[Ring]:
    made = Ring.create(Layout(slots=2, slot_bytes=16), "2 batches", ring.lock)
    yield made
    made.close()


def test_what_an_item_holds_in_two_rings_is_handed_over_at_once_or_not_at_all(ring: Ring, inputs: Ring) -> None:
    frame, batch = claimed(ring), claimed(inputs, None)
    inputs.release(CAMERA, [batch])
    with pytest.raises(Gone):
        hand_over(CAMERA, ENGINE, [(ring, [frame]), (inputs, [batch])])
    assert not ring.pending(ENGINE) and held_by(ring, CAMERA) == 1
    batch = claimed(inputs, None)
    holds = [(ring, [frame]), (inputs, [batch])]
    hand_over(CAMERA, ENGINE, holds)
    assert ring.pending(ENGINE) and inputs.pending(ENGINE)
    inputs.reclaim(CAMERA)
    with pytest.raises(Gone):
        accept(ENGINE, holds)
    assert ring.pending(ENGINE), "half of an item was taken"


def test_a_hand_over_that_came_to_nothing_is_undone(ring: Ring, inputs: Ring) -> None:
    holds = [(ring, [claimed(ring)]), (inputs, [claimed(inputs, None)])]
    hand_over(CAMERA, ENGINE, holds)
    take_back(CAMERA, ENGINE, holds)
    assert not ring.pending(ENGINE) and not inputs.pending(ENGINE)
    assert (held_by(ring, CAMERA), held_by(inputs, CAMERA)) == (1, 1)
    assert (held_by(ring, ENGINE), held_by(inputs, ENGINE)) == (0, 0)


def test_what_arrives_and_cannot_be_read_is_given_up(ring: Ring) -> None:
    taken, unread = claimed(ring), claimed(ring)
    send(ring, CAMERA, [taken], ENGINE)
    take(ring, ENGINE, [taken])
    send(ring, CAMERA, [unread], ENGINE)
    assert ring.refuse(ENGINE) == {"door": 1}
    assert not ring.pending(ENGINE) and held_by(ring, ENGINE) == 1
    assert ring.of("door").dropped == {"crash": 1}
    with pytest.raises(Gone):
        take(ring, ENGINE, [unread])


def test_what_is_released_before_it_was_taken_is_not_waited_for(ring: Ring) -> None:
    ticket = claimed(ring)
    send(ring, CAMERA, [ticket], ENGINE)
    ring.release(ENGINE, [ticket], "crash")
    assert not ring.pending(ENGINE)


def test_at_the_end_everything_is_given_up(ring: Ring) -> None:
    claimed(ring)
    send(ring, CAMERA, [claimed(ring, "yard")], ENGINE)
    assert ring.reclaim_all("shutdown") == {"door": 1, "yard": 1}
    assert all(ring.of(name).in_flight == 0 for name in ("door", "yard"))


class Life(RuleBasedStateMachine):
    """Any order of claims, hand-overs, releases and deaths of three processes."""

    @initialize()
    def begin(self) -> None:
        self.ring = Ring.create(Layout(3, 16, ("door", "yard")), "3 frames")
        self.sent: dict[Ticket, tuple[int, int]] = {}  # ticket -> from, to: in a socket
        self.held: dict[Ticket, int] = {}
        self.marks: dict[Ticket, int] = {}
        self.number = 0

    def teardown(self) -> None:
        self.ring.close()

    @rule(me=st.integers(0, 2), stream=st.sampled_from(["door", "yard"]))
    def claim(self, me: int, stream: str) -> None:
        ticket = self.ring.claim(me, stream)
        assert (ticket is None) == (len(self.held) + len(self.sent) == 3)
        if ticket is not None:
            assert ticket not in self.marks, "a ticket was given out twice"
            self.number = (self.number + 1) % 256
            self.ring.pixels(ticket)[:] = self.number
            self.marks[ticket], self.held[ticket] = self.number, me

    @rule(data=st.data(), to=st.integers(0, 2))
    def send(self, data: st.DataObject, to: int) -> None:
        if not self.held:
            return
        ticket = data.draw(st.sampled_from(sorted(self.held, key=str)))
        me = self.held.pop(ticket)
        send(self.ring, me, [ticket], to)
        self.sent[ticket] = me, to

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        if not self.sent:
            return
        ticket = data.draw(st.sampled_from(sorted(self.sent, key=str)))
        _, to = self.sent.pop(ticket)
        take(self.ring, to, [ticket])
        self.held[ticket] = to

    @rule(data=st.data(), cause=st.sampled_from([None, *CAUSES]))
    def release(self, data: st.DataObject, cause: str | None) -> None:
        if not self.held:
            return
        ticket = data.draw(st.sampled_from(sorted(self.held, key=str)))
        self.ring.release(self.held.pop(ticket), [ticket], cause)

    @rule(dead=st.integers(0, 2))
    def die(self, dead: int) -> None:
        lost = [t for t, me in self.held.items() if me == dead] + [t for t, ends in self.sent.items() if dead in ends]
        assert sum(self.ring.reclaim(dead).values()) == len(lost)
        for ticket in lost:
            self.held.pop(ticket, None)
            _, to = self.sent.pop(ticket, (0, 0))
            with pytest.raises(Gone):
                take(self.ring, to, [ticket])

    @invariant()
    def pictures_are_whole_and_the_books_right(self) -> None:
        alive = {*self.held, *self.sent}
        assert all((self.ring.pixels(ticket) == self.marks[ticket]).all() for ticket in alive)
        assert sum(self.ring.of(name).in_flight for name in ("door", "yard")) == len(alive)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


# Memory.


def test_too_little_memory_is_refused_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_file, "free_bytes", lambda: 10 * 2**20)
    with pytest.raises(
        ConfigError, match=r"needs 31[0-9] MiB of shared memory for 100 frames here, and 10 MiB are free"
    ):
        Ring.create(Layout(100, 3 * 2**20 + 2**17), "100 frames")


def test_the_memory_that_is_free_is_read() -> None:
    assert 2**20 < shared_file.free_bytes() < 2**50


def test_nothing_of_a_ring_has_a_name(ring: Ring) -> None:
    assert named_memory(os.getpid()) == []


# Processes.

FRAMES, DEATHS = 400, 4


def test_readers_that_die_cost_what_they_held_and_nothing_else() -> None:
    """One writer, three readers that kill themselves now and then, or are killed, and started again."""
    ring = Ring.create(Layout(slots=12, slot_bytes=BYTES, streams=("door",)), "12 frames")
    random.seed(5)
    readers: dict[int, tuple[Any, Any]] = {}

    def start(me: int) -> None:
        ours, theirs = FORKING.Pipe()
        process = FORKING.Process(target=reader, args=(ring, theirs, me))
        process.start()
        theirs.close()
        readers[me] = process, ours

    deaths = 0

    def bury() -> None:
        nonlocal deaths
        for me, (process, _) in list(readers.items()):
            if not process.is_alive():
                assert process.exitcode == -signal.SIGKILL, "a reader saw a wrong picture"
                ring.reclaim(me)
                deaths += 1
                start(me)

    for me in (1, 2, 3):
        start(me)
    end, count = time.monotonic() + 60, 0
    while (count < FRAMES or deaths < DEATHS) and time.monotonic() < end:
        ticket = ring.claim(0, "door")
        if ticket is None:
            bury()
            time.sleep(0.001)
            continue
        count += 1
        ring.pixels(ticket)[:] = ticket.generation % 256
        to = random.choice(list(readers))
        send(ring, 0, [ticket], to)
        try:
            readers[to][1].send(ticket)
        except BrokenPipeError:
            bury()
        if random.random() < 0.003:
            readers[to][0].kill()
    for _, pipe in readers.values():
        with suppress(BrokenPipeError):  # one was killed a moment ago
            pipe.send(None)
    for me, (process, _) in readers.items():
        process.join(20)
        ring.reclaim(me)
    account = ring.of("door")
    assert count >= FRAMES and deaths >= DEATHS
    assert account.captured == count == account.published + sum(account.dropped.values())
    assert account.published > count / 2
    assert len([ring.claim(0, "door") for _ in range(12)]) == 12, "a slot did not come back"
    ring.close()


def test_threads_of_several_processes_use_both_rings_of_a_run_at_once() -> None:
    """With a lock for each ring the kernel sees processes wait for each other in a circle, and says EDEADLK."""
    count, rounds = 4, 200
    frames = Ring.create(Layout(slots=2 * count, slot_bytes=16, streams=("door",)), "frames")
    inputs = Ring.create(Layout(slots=2 * count, slot_bytes=16), "batches", frames.lock)
    running = [FORKING.Process(target=busy_process, args=(frames, inputs, me, rounds)) for me in range(count)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0] * count
    published = 2 * count * rounds
    assert frames.of("door") == FrameCounts(captured=published, published=published, dropped={})
    assert sum(held_by(ring, me) for ring in (frames, inputs) for me in range(count)) == 0
    inputs.close()
    frames.close()


def test_a_dead_owner_leaves_the_lock_free() -> None:
    ring = Ring.create(Layout(slots=2, slot_bytes=16, streams=("door",)), "2 frames")
    pid = os.fork()
    if pid == 0:
        with ring.lock:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert ring.claim(0, "door") is not None
    ring.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_closing_gives_the_file_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    Ring.create(Layout(2, 16), "2 frames").close()
    assert len(os.listdir("/proc/self/fd")) == before
