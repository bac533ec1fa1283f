import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import msgspec
import pytest

from engines.errors import ConfigError, MessageError
from pipeline.settings.schema import PacketSettings
from pipeline.wire.packet_sockets import HIGH_WATER_MARK, PacketHub, PacketReader, PacketSender, check_packets_address
from pipeline.wire.packets import PacketMessage, pack_packet, packet_topic, unpack_packet
from tests.waiting import until

PATIENCE_S = 20.0
Senders = Callable[[str], PacketSender]
PACKET = PacketMessage(
    stream="door",
    session=1,
    number=0,
    codec="h264",
    extradata=b"",
    size=(64, 48),
    time_base=(1, 90_000),
    pts=0,
    dts=0,
    key=True,
    captured_ns=0,
    time_s=0.0,
    data=b"data",
)

pytestmark = pytest.mark.integration


def numbered(number: int, session: int = 1, stream: str = "door", data: bytes = b"data") -> PacketMessage:
    return msgspec.structs.replace(PACKET, number=number, session=session, stream=stream, data=data)


@pytest.fixture
def hub() -> Iterator[PacketHub]:
    with PacketHub(PacketSettings()) as hub:
        yield hub


@pytest.fixture
def sender_of(hub: PacketHub) -> Iterator[Senders]:
    """Makes senders that are closed after the test, even a failed one: a socket left open hangs whoever frees it."""
    with ExitStack() as made:
        yield lambda stream: made.enter_context(closing(PacketSender(hub.inner, stream)))


def awaited(sender: PacketSender) -> None:
    until(lambda: sender.look() or sender.wanted)


def test_a_packet_arrives_as_it_was_sent(hub: PacketHub, sender_of: Senders) -> None:
    sender = sender_of("door")
    with PacketReader(hub.address, ("door",)) as reader:
        awaited(sender)
        sender.send(PACKET)
        assert reader.read(PATIENCE_S) == PACKET


def test_who_sends_knows_whether_anybody_reads_its_stream_and_not_one_whose_name_begins_alike(
    hub: PacketHub, sender_of: Senders
) -> None:
    door, door2 = sender_of("door"), sender_of("door2")
    with PacketReader(hub.address, ("door2",)):
        awaited(door2)
        door.look()
        assert not door.wanted
        with PacketReader(hub.address):  # of all streams
            awaited(door)
        until(lambda: not (door.look() or door.wanted))
        assert door2.wanted
    until(lambda: not (door2.look() or door2.wanted))


def test_each_newcomer_is_told_of_though_others_read_the_same_already(hub: PacketHub, sender_of: Senders) -> None:
    sender = sender_of("door")
    with PacketReader(hub.address, ("door",)):
        awaited(sender)
        with PacketReader(hub.address, ("door",)):
            until(sender.look)


def test_what_is_sent_again_is_passed_over_and_what_is_lost_is_counted(hub: PacketHub, sender_of: Senders) -> None:
    sender = sender_of("door")
    with PacketReader(hub.address) as reader:
        awaited(sender)
        for packet in map(numbered, (0, 1, 0, 1, 2, 5)):
            sender.send(packet)
        sender.send(numbered(0, session=2))
        sender.send(numbered(6, session=1))
        until(lambda: (packet := reader.read(0.1)) is not None and packet.session == 2)
        assert reader.lost == {"door": 2}
        assert reader.read(0.1) is None


def test_a_reader_that_never_reads_loses_packets_and_holds_up_nobody(hub: PacketHub, sender_of: Senders) -> None:
    sender = sender_of("door")
    with PacketReader(hub.address) as idle, PacketReader(hub.address) as other:
        awaited(sender)
        until(lambda: not sender.look())
        began_s, seen, sent = time.monotonic(), 0, 4 * HIGH_WATER_MARK
        for number in range(sent):
            sender.send(numbered(number, data=bytes(20_000)))
            while other.read(0.001) is not None:
                seen += 1
        assert time.monotonic() - began_s < PATIENCE_S
        until(lambda: (seen_all := other.read(0.1)) is None or seen_all.number == sent - 1)
        assert seen > sent / 2
        received = sum(1 for _ in idle.waiting())
        assert received < sent


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5556", "tcp://192.168.1.2:5556", "tcp://127.0.0.1", "ipc://", "x"])
def test_an_address_that_others_reach_or_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"packets.address is .*, but must be ipc://PATH"):
        check_packets_address(PacketSettings(address=address))


def test_an_address_that_is_taken_is_refused() -> None:
    with (
        PacketHub(PacketSettings(address="tcp://127.0.0.1:*")) as other,
        pytest.raises(ConfigError, match="cannot be used"),
    ):
        PacketHub(PacketSettings(address=other.address))


def test_what_is_no_packet_is_refused_in_a_sentence() -> None:
    for body in (b"", b"\xff", b"{}", msgspec.msgpack.encode({"stream": "../x"})):
        with pytest.raises(MessageError, match="a packet does not follow the schema"):
            unpack_packet(body)


def test_packets_are_packed_under_the_topic_of_their_stream() -> None:
    topic, body = pack_packet(PACKET)
    assert topic == packet_topic("door") and unpack_packet(body) == PACKET
