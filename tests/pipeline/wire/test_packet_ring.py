from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pipeline.wire.packet_ring import PacketRing


@dataclass(frozen=True)
class Item:
    index: int
    key: bool
    time_s: float
    nbytes: int


def items(kinds: list[tuple[bool, int]]) -> list[Item]:
    return [Item(index, key, index * 0.04, nbytes) for index, (key, nbytes) in enumerate(kinds)]


streams = st.lists(st.tuples(st.booleans(), st.integers(1, 100)), max_size=200).map(items)


@given(streams, st.floats(0.0, 3.0), st.integers(1, 2000))
def test_it_holds_the_last_packets_without_a_gap_from_a_key_frame_on_and_no_more_bytes_than_allowed(
    packets: list[Item], seconds: float, max_bytes: int
) -> None:
    ring: PacketRing[Item] = PacketRing(seconds, max_bytes)
    for packet in packets:
        ring.add(packet)
        held = list(ring)
        assert ring.nbytes == sum(each.nbytes for each in held) <= max_bytes
        if held:
            assert held[0].key
            assert held == packets[held[0].index : packet.index + 1]


@given(streams, st.floats(0.0, 3.0))
def test_it_holds_as_many_seconds_as_it_should_and_no_group_more_than_they_need(
    packets: list[Item], seconds: float
) -> None:
    ring: PacketRing[Item] = PacketRing(seconds, 10**9)
    for packet in packets:
        ring.add(packet)
    held = list(ring)
    keys = [each for each in packets if each.key]
    assert bool(held) == bool(keys)
    if held:
        needed = [each for each in keys if each.time_s <= packets[-1].time_s - seconds]
        assert held[0] == (needed[-1] if needed else keys[0])


def test_what_is_asked_for_since_a_time_begins_at_the_key_frame_before_it() -> None:
    ring: PacketRing[Item] = PacketRing(100.0, 10**9)
    for packet in items([(index % 5 == 0, 1) for index in range(20)]):
        ring.add(packet)
    assert [each.index for each in ring.since(0.04 * 12)] == list(range(10, 20))
    assert [each.index for each in ring.since(-1.0)] == list(range(20))
    assert [each.index for each in ring.since(99.0)] == list(range(15, 20))
    assert [each.index for each in ring.newest()] == list(range(15, 20))


def test_a_group_that_alone_is_too_large_is_forgotten_until_the_next_key_frame() -> None:
    ring: PacketRing[Item] = PacketRing(10.0, 100)
    for packet in items([(True, 60), (False, 60), (False, 1), (True, 5), (False, 5)]):
        ring.add(packet)
    assert [each.index for each in ring] == [3, 4]


def test_nothing_comes_of_a_ring_that_was_cleared() -> None:
    ring: PacketRing[Item] = PacketRing(10.0, 100)
    ring.add(Item(0, True, 0.0, 5))
    ring.clear()
    ring.add(Item(1, False, 0.04, 5))
    assert list(ring) == list(ring.newest()) == list(ring.since(0.0)) == [] and ring.nbytes == 0
