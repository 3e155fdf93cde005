"""The cases that TFTP servers are known to get wrong, as far as they concern the sessions.

The numbers are those of the project's list of such cases; the other cases need an adapter or a backend.
"""

import pytest
from driving import OACK, Reading, Waits, Writing, numbered
from exchange import ATFTP, EDK2, GRUB, Exchange, Firmware, Receiver, Sender, UBoot, perfect

from bootfw.tftp.negotiation import Limits, negotiate
from bootfw.tftp.path import relative
from bootfw.tftp.read import Input, State
from bootfw.values import Agreed, Mode, Outcome
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp as wire
from bootfw.wire.tftp import Ack, Data, Error, OptionAck

ADAPTIVE = Adaptive()


def download(content: bytes, agreed: Agreed, client: Firmware, **exchange_options: object) -> tuple[Exchange, Reading]:
    reading = Reading(content, agreed, ADAPTIVE.begin(agreed))
    exchange = Exchange(Sender(reading), client, **exchange_options).run()  # type: ignore[arg-type]
    assert client.complete
    assert client.content == content
    return exchange, reading


def test_case_01_request_sent_three_times_before_any_reply() -> None:
    reading = Reading(numbered(20), Agreed(8, acknowledged=OACK))
    reading.give(Input.REQUESTED)
    reading.give(Input.REQUESTED)
    assert [wire.parse(datagram) for datagram in reading.datagrams] == [OptionAck(OACK)] * 3
    assert [reading.ack(0), reading.ack(0), reading.ack(0)] == [[Data(1, numbered(8))], [], []]


def test_case_02_request_again_after_block_1_is_acknowledged() -> None:
    for agreed in (Agreed(8), Agreed(8, acknowledged=OACK)):
        reading = Reading(numbered(20), agreed)
        reading.ack(0)
        reading.ack(1)
        assert reading.give(Input.REQUESTED) == []
        assert reading.session.state is State.AWAITING_ACK


def test_case_05_a_hundred_copies_of_an_old_ack() -> None:
    reading = Reading(numbered(40))
    reading.ack(1)
    assert [reading.ack(1, at=at / 10) for at in range(9)] == [[]] * 9
    assert [reading.ack(number) for number in [1, 0] * 50] == [[]] * 100
    assert reading.session.retransmitted == 0


def duplicate_all(datagram: bytes) -> list[float]:
    """The delays of two copies."""
    return [0.0005, 0.00051]


@pytest.mark.parametrize("client", [EDK2, UBoot, GRUB])
def test_case_06_everything_is_duplicated(client: type[Firmware]) -> None:
    agreed = Agreed(8, acknowledged=OACK)
    exchange, _ = download(numbered(8 * 500), agreed, client(), fate=duplicate_all)
    assert len(exchange.sent(3)) == 501


@pytest.mark.parametrize(("windowsize", "max_ratio"), [(4, 1.1), (16, 1.1)])
def test_case_06_everything_is_duplicated_and_edk2_answers_each_copy(windowsize: int, max_ratio: float) -> None:
    agreed = Agreed(8, windowsize, acknowledged=OACK)
    exchange, _ = download(numbered(8 * 500), agreed, EDK2(windowsize), fate=duplicate_all)
    assert len(exchange.sent(3)) <= max_ratio * 501


@pytest.mark.parametrize("windowsize", [1, 4, 16])
def test_case_06_everything_is_duplicated_between_our_own_sessions(windowsize: int) -> None:
    content = numbered(8 * 500)
    reading = Reading(content, Agreed(8, windowsize), ADAPTIVE.begin(Agreed()))
    writing = Writing(Agreed(8, windowsize), ADAPTIVE.begin(Agreed()))
    exchange = Exchange(Sender(reading), Receiver(writing), duplicate_all).run()
    assert writing.content == content
    assert len(exchange.sent(3)) <= 501 + windowsize
    acks = 2 * 501 if windowsize == 1 else 501 // windowsize
    assert len(exchange.sent(4)) <= acks + 10


def test_case_07_ack_of_an_unsent_block_is_ignored() -> None:
    content = numbered(80)
    for windowsize, number in ((1, 2), (1, 3), (4, 5), (4, 6)):
        reading = Reading(content, Agreed(8, windowsize))
        reading.take()
        assert reading.ack(number) == []
        assert reading.session.acked == 0
        assert reading.ack(1)[0] == Data(2, content[8:16])


def test_case_08_ack_in_the_middle_of_a_window() -> None:
    content = numbered(8 * 20)
    reading = Reading(content, Agreed(8, 8))
    reading.take()
    assert reading.ack(3) == [Data(block, content[8 * block - 8 : 8 * block]) for block in range(4, 12)]


def test_case_09_first_block_of_a_window_lost_and_three_equal_acks() -> None:
    content = numbered(8 * 20)
    reading = Reading(content, Agreed(8, 4))
    window = reading.ack(4)[-4:]
    assert [packet.block for packet in window if isinstance(packet, Data)] == [5, 6, 7, 8]
    assert [reading.ack(4) for _ in range(3)] == [window, [], []]


def test_case_09_in_real_time_with_edk2() -> None:
    agreed = Agreed(8, 4, acknowledged=OACK)
    lost: list[bytes] = []

    def lossy(datagram: bytes) -> list[float]:
        if datagram[:4] == b"\0\3\0\x05" and not lost:
            lost.append(datagram)
            return []
        return [0.0005]

    exchange, reading = download(numbered(8 * 20), agreed, EDK2(4), fate=lossy)
    assert lost
    assert reading.session.retransmitted == 4
    assert exchange.now < 0.02, "no timer was needed"


def test_case_09_ack_duplicated_by_the_network_does_not_acknowledge_the_window() -> None:
    reading = Reading(numbered(8 * 40), Agreed(8, 4))
    reading.take()
    assert reading.ack(4, at=0.010) != []
    assert reading.ack(4, at=0.0149) == []
    assert reading.ack(4, at=0.0151) != [], "this one can be an answer"
    assert reading.ack(4, at=0.5) == []


@pytest.mark.parametrize("client", [EDK2, UBoot, ATFTP])
def test_case_09_a_late_ack_has_no_block_sent_twice(client: type[Firmware]) -> None:
    """The timer sends one new block and a marker. The ACK of the new block follows the late ACK: there is no gap."""
    agreed = Agreed(8, 4, acknowledged=OACK)
    delayed: list[bytes] = []

    def delay_one_ack(datagram: bytes) -> list[float]:
        if datagram == wire.ack(40) and not delayed:
            delayed.append(datagram)
            return [0.0497]
        return [0.0005]

    _, reading = download(numbered(8 * 400), agreed, client(4), fate=delay_one_ack)
    assert delayed
    assert reading.session.retransmitted == 0


@pytest.mark.parametrize("client", [EDK2, UBoot])
@pytest.mark.parametrize("windowsize", [4, 16])
def test_case_09_one_late_block_costs_one_window_and_no_more(client: type[Firmware], windowsize: int) -> None:
    """The block is not lost, so the client has the blocks that are sent again, and EDK2 answers each of them."""
    agreed = Agreed(8, windowsize, acknowledged=OACK)
    delayed: list[bytes] = []

    def delay_one_block(datagram: bytes) -> list[float]:
        if datagram[:4] == b"\0\3\0\x16" and not delayed:
            delayed.append(datagram)
            return [0.0012]
        return [0.0005]

    _, reading = download(numbered(8 * 400), agreed, client(windowsize), fate=delay_one_block)
    assert delayed
    assert reading.session.retransmitted < windowsize


def test_case_09_block_lost_twice_is_reported_again_by_edk2() -> None:
    agreed = Agreed(8, 8, acknowledged=OACK)
    lost: list[bytes] = []

    def lossy(datagram: bytes) -> list[float]:
        if datagram[:4] == b"\0\3\0\x14" and len(lost) < 2:
            lost.append(datagram)
            return []
        return [0.0005]

    exchange, _ = download(numbered(8 * 400), agreed, EDK2(8), fate=lossy)
    assert len(lost) == 2
    assert exchange.now < 0.06, "no timer was needed"


def test_case_10_ack_of_a_window_lost_and_a_client_that_repeats_it_after_5_seconds() -> None:
    """The client ignores blocks that it has; it answers a new block and the marker behind it."""
    agreed = Agreed(8, 4, acknowledged=OACK)
    lost: list[bytes] = []

    def lossy(datagram: bytes) -> list[float]:
        if datagram == wire.ack(8) and not lost:
            lost.append(datagram)
            return []
        return [0.0005]

    exchange, reading = download(numbered(8 * 20), agreed, UBoot(4), fate=lossy)
    assert lost
    assert exchange.now < 0.1
    assert reading.session.outcome is Outcome.COMPLETE


@pytest.mark.parametrize(
    ("windowsize", "start", "blocks"),
    [(16, 0, 200_000), (1, 65_000, 66_000), (1, 130_900, 131_600), (1, 196_500, 197_000)],
)
def test_case_11_roll_over_with_acks_repeated(windowsize: int, start: int, blocks: int) -> None:
    """200,000 blocks are 100 MB at 512 bytes each. Between the roll-overs nothing special happens, so it is skipped."""
    size = 8 * blocks + 5
    content = numbered(size)
    reading = Reading(content, Agreed(8, windowsize), resumed=start or None)
    received = bytearray()
    expected = start
    numbers = set()
    packets = reading.take()
    while reading.session.outcome is None:
        for packet in packets:
            assert isinstance(packet, Data)
            assert packet.block == (expected + 1) % 65536
            expected += 1
            received += packet.payload
            numbers.add(packet.block)
        now = reading.now + 0.001
        packets = reading.ack(expected % 65536, at=now)
        if expected % 1000 < 2 * windowsize or (expected + 200) % 65536 < 400:
            assert reading.ack(expected % 65536, at=now + 0.0001) == []
            assert reading.ack((expected - 1) % 65536, at=now + 0.0001) == []
            assert reading.ack((expected + 40_000) % 65536, at=now + 0.0001) == []
    assert received == content[8 * start :]
    assert numbers == {number % 65536 for number in range(start + 1, blocks + 2)}
    assert reading.session.outcome is Outcome.COMPLETE
    assert (reading.session.acked, reading.session.bytes_transferred) == (blocks + 1, size)


def test_case_11_roll_over_while_receiving_with_blocks_repeated() -> None:
    writing = Writing(Agreed(8))
    content = numbered(8 * 66_000 + 5)
    for block in range(1, 66_002):
        payload = content[8 * block - 8 : 8 * block]
        assert writing.data(block % 65536, payload)[-1] == Ack(block % 65536)
        if block < 400 or 65_336 < block < 66_001:
            again = [Ack(block % 65536)] if block % 2 else []
            assert writing.data(block % 65536, payload) == again, "not for the repeat of the ACK before"
            assert writing.data((block - 1) % 65536, payload) == []
    assert writing.content == content
    assert writing.session.stored == 66_001


def test_case_06_a_client_that_answers_every_ack_is_not_sent_each_ack_twice_from_then_on() -> None:
    """curl sends DATA again for each repeated ACK."""
    writing = Writing(Agreed(8))
    writing.take()
    writing.data(1, b"12345678")
    acks = writing.tick()
    assert acks == [Ack(1)]
    acks.append(Ack(1))
    for block in range(2, 20):
        acks = [ack for _ in acks for ack in writing.data(block, b"12345678", at=writing.now + 0.001)]
        assert acks == [Ack(block)]
    assert writing.session.retransmitted == 1


def at_block(block: int, windowsize: int) -> Reading:
    """Everything before *block* is acknowledged."""
    # With windows, a session that continues does not know what has been sent.
    resumed = block - 100 if windowsize == 1 else None
    reading = Reading(bytes(8 * 65_600), Agreed(8, windowsize), resumed=resumed)
    while reading.session.acked < block - 1:
        reading.ack(min(reading.session.acked + windowsize, block - 1) % 65536)
    reading.take()
    return reading


@pytest.mark.parametrize("windowsize", [1, 16])
def test_case_12_loss_exactly_at_the_roll_over(windowsize: int) -> None:
    reading = at_block(65_536, windowsize)
    assert isinstance(reading.tick()[0], Data)
    assert reading.ack(65_534) == [], "late"
    again = reading.tick()[0]
    assert isinstance(again, Data)
    assert again.block == 0
    assert reading.session.acked == 65_535
    following = reading.ack(0)[0]
    assert isinstance(following, Data)
    assert following.block == 1
    assert reading.session.acked == 65_536
    assert [reading.ack(number) for number in (65_535, 65_534)] == [[], []]


@pytest.mark.parametrize("windowsize", [1, 4])
@pytest.mark.parametrize(
    ("size", "lengths"), [(0, [0]), (1, [1]), (7, [7]), (8, [8, 0]), (9, [8, 1]), (16, [8, 8, 0]), (32, [8] * 4 + [0])]
)
@pytest.mark.parametrize("known", [True, False])
def test_case_13_sizes(size: int, lengths: list[int], windowsize: int, known: bool) -> None:
    content = numbered(size)
    reading = Reading(content, Agreed(8, windowsize), known=known)
    packets: list[wire.Packet] = []
    while reading.session.outcome is None:
        packets += reading.take()
        packets += reading.ack(len(packets))
    assert packets == [Data(index + 1, content[8 * index : 8 * index + n]) for index, n in enumerate(lengths)]
    assert reading.session.outcome is Outcome.COMPLETE
    assert (reading.session.acked, reading.session.bytes_transferred) == (len(lengths), size)


@pytest.mark.parametrize("silence", [6.0, 10.5, 50.0])
def test_case_14_pxelinux_pauses_between_oack_and_ack_0(silence: float) -> None:
    reading = Reading(numbered(20), Agreed(8, acknowledged=OACK), ADAPTIVE.begin(Agreed()))
    assert reading.take() == [OptionAck(OACK)]
    deadline = reading.session.deadline
    repeats = 0
    while deadline is not None and deadline <= silence:
        repeats += 1
        assert reading.tick() == [OptionAck(OACK)][: repeats <= 2]
        deadline = reading.session.deadline
    assert reading.ack(0, at=silence) == [Data(1, numbered(8))]


def test_case_15_client_pauses_40_seconds_in_the_middle() -> None:
    reading = Reading(numbered(80), watchdog=ADAPTIVE.begin(Agreed()))
    for block in (1, 2, 3):
        reading.ack(block, at=block / 1000)
    while reading.session.deadline is not None and reading.session.deadline < 40:
        reading.tick()
    assert reading.session.retransmitted < 20
    assert reading.ack(4, at=40.0) == [Data(5, numbered(80)[32:40])]


def test_case_16_size_probe() -> None:
    agreed = Agreed(8, tsize=20, acknowledged=(("tsize", "20"),))
    for code, text in ((8, "User aborted the transfer"), (0, "TFTP Aborted")):
        reading = Reading(numbered(20), agreed)
        reading.take()
        assert reading.give(Input.PEER_ERROR, (code, text)) == []
        assert reading.session.outcome is Outcome.SIZE_PROBE
        assert reading.fetched == [], "nothing was read for it"


def test_case_17_last_ack_lost_and_client_gone() -> None:
    reading = Reading(numbered(20))
    reading.ack(1)
    reading.ack(2)
    while reading.session.outcome is None:
        reading.tick()
    assert reading.session.outcome is Outcome.UNCONFIRMED
    assert all(not isinstance(wire.parse(datagram), Error) for datagram in reading.datagrams)


@pytest.mark.parametrize(
    "option",
    [
        ("timeout", "0"),
        ("timeout", "256"),
        ("timeout", "abc"),
        ("blksize", "7"),
        ("blksize", "65465"),
        ("blksize", "-1"),
        ("blksize", ""),
        ("blksize", "1e3"),
        ("windowsize", "0"),
        ("tsize", "-1"),
        ("blksize", "9" * 300),
    ],
)
def test_case_18_invalid_option_values(option: tuple[str, str]) -> None:
    packet = wire.parse(wire.request(False, "f", "octet", [option]))
    assert isinstance(packet, wire.Request)
    agreed = negotiate(packet.options, write=False, mode=Mode.OCTET, size=20, limits=Limits(1468, 64))
    assert agreed == Agreed()


def test_case_19_unknown_repeated_and_odd_options() -> None:
    data = b"\0\1f\0octet\0rollover\x000\0blksize\x00600\0BLKSIZE\x00700\0tsize"
    packet = wire.parse(data)
    assert isinstance(packet, wire.Request)
    agreed = negotiate(packet.options, write=False, mode=Mode.OCTET, size=20, limits=Limits(1468, 64))
    assert agreed.acknowledged == (("blksize", "600"),)
    assert isinstance(wire.parse(wire.request(False, "n" * 513, "octet")), wire.Request)


def test_case_20_capitals() -> None:
    packet = wire.parse(b"\0\1f\0OcTeT\0BLKSIZE\x00600\0")
    assert isinstance(packet, wire.Request)
    assert packet.mode == "octet"
    agreed = negotiate(packet.options, write=False, mode=Mode.OCTET, size=20, limits=Limits(1468, 64))
    assert wire.option_ack(agreed.acknowledged) == b"\0\6BLKSIZE\x00600\0"


def test_case_21_only_requested_options() -> None:
    agreed = negotiate([("blksize", "600")], write=False, mode=Mode.OCTET, size=20, limits=Limits(1468, 64))
    reading = Reading(numbered(20), agreed)
    assert reading.take() == [OptionAck((("blksize", "600"),))]


@pytest.mark.parametrize(
    ("filename", "path"),
    [
        ("../../etc/passwd", "../../etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        (r"..\\..\\x", "../../x"),
        ("a/./b", "a/b"),
        ("//a", "a"),
    ],
)
def test_case_23_paths_become_relative(filename: str, path: str) -> None:
    assert relative(filename) == path


@pytest.mark.parametrize("length", [0, 10, 19])
def test_case_24_file_shrinks_while_it_is_sent(length: int) -> None:
    reading = Reading(numbered(20), lazy=True)
    reading.fetch()
    reading.ack(1)
    reading.fetch()
    reading.ack(2)
    reading.content = numbered(length)
    assert reading.fetch() == [Error(0, "file changed while being sent")]
    assert reading.session.outcome is Outcome.FAILED


def test_case_24_file_grows_while_it_is_sent() -> None:
    reading = Reading(numbered(20), lazy=True)
    reading.content = numbered(400)
    packets = reading.fetch()
    for block in (1, 2):
        reading.ack(block)
        packets += reading.fetch()
    assert packets[-1] == Data(3, numbered(20)[16:]), "the client was told 20 bytes"
    reading.ack(3)
    assert reading.session.outcome is Outcome.COMPLETE


def test_clients_on_a_perfect_link_get_each_block_once() -> None:
    for windowsize, client in ((1, GRUB()), (1, EDK2()), (4, EDK2(4)), (16, UBoot(16))):
        agreed = Agreed(8, windowsize, acknowledged=OACK)
        exchange, reading = download(numbered(8 * 100 + 3), agreed, client, fate=perfect)
        assert len(exchange.sent(3)) == 101
        assert reading.session.retransmitted == 0
        assert reading.session.outcome is Outcome.COMPLETE


def test_grub_gets_the_file_on_a_lossy_link_although_it_has_no_timer() -> None:
    fates = iter([[], [0.001], [0.001], [], [0.001], [], [], [0.001], [0.001], [0.001], []])

    def lossy(datagram: bytes) -> list[float]:
        return next(fates, [0.001])

    _, reading = download(numbered(8 * 10), Agreed(8, acknowledged=OACK), GRUB(), fate=lossy)
    assert reading.session.outcome is Outcome.COMPLETE


def test_waits_are_computed_in_order() -> None:
    attempts: list[int] = []

    class RecordingWaits(Waits):
        def wait(self, attempt: int) -> float | None:
            attempts.append(attempt)
            return super().wait(attempt)

    reading = Reading(numbered(20), watchdog=RecordingWaits())
    reading.tick()
    reading.ack(1)
    reading.tick()
    reading.tick()
    reading.tick()
    assert attempts == [1, 2, 1, 2, 3, 4]
