"""Which packets gave a picture."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.ledger import REORDERED, PacketLedger


@given(st.lists(st.booleans(), max_size=200), st.integers(0, REORDERED - 1))
def test_every_packet_gives_a_picture_or_is_lost(gives: list[bool], delay: int) -> None:
    ledger, lost, shown = PacketLedger(), 0, 0
    held: list[int] = []
    for number, good in enumerate(gives):
        ledger.sent(number)
        held += [number] if good else []
        if len(held) > delay:
            lost += ledger.gave(held.pop(0))
            shown += 1
    for number in held:
        lost += ledger.gave(number)
        shown += 1
    lost += ledger.end()
    assert (shown, lost) == (sum(gives), len(gives) - sum(gives))
    assert ledger.oldest is None


@given(st.permutations(range(REORDERED)))
def test_pictures_may_come_in_another_order(order: list[int]) -> None:
    ledger = PacketLedger()
    for number in range(REORDERED):
        ledger.sent(number)
    assert sum(ledger.gave(number) for number in order) + ledger.end() == 0


def test_a_refused_packet_is_lost_once() -> None:
    ledger = PacketLedger()
    ledger.sent(0)
    assert (ledger.refused(0), ledger.refused(0), ledger.end()) == (1, 0, 0)


def test_a_lost_packet_is_known_soon_after_later_ones_gave_pictures() -> None:
    ledger = PacketLedger()
    for number in range(REORDERED + 2):
        ledger.sent(number)
    known = [ledger.gave(number) for number in range(1, REORDERED + 2)]
    assert known.index(1) == len(known) - 1 and sum(known) == 1


def test_a_second_field_gives_no_picture_of_its_own() -> None:
    ledger = PacketLedger()
    lost = 0
    for number in range(100):
        ledger.sent(number)
        if number % 2 == 0:
            lost += ledger.gave(number, interlaced=True)
    assert lost + ledger.end() == 0


def test_a_picture_that_names_no_packet_is_of_the_oldest() -> None:
    ledger = PacketLedger()
    for number in range(3):
        ledger.sent(number)
    assert ledger.gave(None) == 0
    assert ledger.oldest == 1
    assert ledger.end() == 2
