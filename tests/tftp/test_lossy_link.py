"""Both sessions with a bad network between them, under every watchdog policy."""

from random import Random

import pytest
from attrs import define, field
from driving import OACK, Reading, Waits, Writing, numbered
from exchange import EDK2, Exchange, Firmware, Receiver, Sender, UBoot
from hypothesis import given, settings
from hypothesis import strategies as st

from bootfw.tftp.read import BEYOND_WINDOW
from bootfw.tftp.write import State
from bootfw.values import Agreed, Outcome
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.watchdogs.exponential import Exponential
from bootfw.watchdogs.fixed import Fixed
from bootfw.watchdogs.hpa import HPA

POLICIES = {"fixed": Fixed(), "hpa": HPA(), "exponential": Exponential(), "adaptive": Adaptive()}


@define(eq=False)
class BadLink:
    """Loses, duplicates and delays datagrams; with the same seed it does the same."""

    seed: int
    drop: float
    duplicate: float
    reorder: float
    random: Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.random = Random(self.seed)

    def __call__(self, datagram: bytes) -> list[float]:
        if self.random.random() < self.drop:
            return []
        copies = 2 if self.random.random() < self.duplicate else 1
        return [
            0.0005 + (self.random.uniform(0, 0.003) if self.random.random() < self.reorder else 0.0)
            for _ in range(copies)
        ]


links = st.builds(
    BadLink,
    seed=st.integers(0, 2**32),
    drop=st.sampled_from([0.0, 0.02, 0.05, 0.3, 0.9, 1.0]),
    duplicate=st.sampled_from([0.0, 0.05, 1.0]),
    reorder=st.sampled_from([0.0, 0.05, 0.5]),
)


@settings(max_examples=300, deadline=None)
@given(
    link=links,
    policies=st.tuples(*[st.sampled_from(list(POLICIES.values()))] * 2),
    windowsize=st.integers(1, 16),
    timeout=st.none() | st.integers(1, 5),
    size=st.integers(0, 600),
    known=st.booleans(),
    oack=st.booleans(),
    fetch_seconds=st.sampled_from([0.0, 0.0, 0.002, 0.08]),
    store_seconds=st.sampled_from([0.0, 0.0, 0.002, 0.08]),
)
def test_the_file_arrives_intact_or_both_give_up(
    link: BadLink,
    policies: tuple[Fixed, Fixed],
    windowsize: int,
    timeout: int | None,
    size: int,
    known: bool,
    oack: bool,
    fetch_seconds: float,
    store_seconds: float,
) -> None:
    content = numbered(size)
    agreed = Agreed(8, windowsize, timeout, acknowledged=OACK if oack else ())
    plain = Agreed(8, windowsize, timeout)
    reading = Reading(content, agreed, policies[0].begin(agreed), known, lazy=fetch_seconds > 0)
    writing = Writing(plain, policies[1].begin(plain), lazy=store_seconds > 0)
    blocks = size // 8 + 1
    # Each policy has at most 15 sendings for one step; a step is at least one block or the OACK.
    exchange = Exchange(Sender(reading, fetch_seconds), Receiver(writing, store_seconds), link)
    exchange.run(until=100.0 * (blocks + 2), most=16 * windowsize * (blocks + 2) * 4)
    sending, receiving = reading.session, writing.session
    assert sending.outcome is not None
    assert receiving.state is State.CLOSED
    assert content.startswith(bytes(writing.content))
    if receiving.outcome is Outcome.COMPLETE:
        assert writing.content == content
        assert writing.finished
        assert sending.outcome in (Outcome.COMPLETE, Outcome.UNCONFIRMED, Outcome.TIMED_OUT)
    else:
        assert receiving.outcome is Outcome.TIMED_OUT
        assert not writing.finished
        assert sending.outcome in (Outcome.UNCONFIRMED, Outcome.TIMED_OUT)
    if link.drop == link.reorder == 0.0:
        assert receiving.outcome is Outcome.COMPLETE
        assert sending.outcome is Outcome.COMPLETE


@pytest.mark.parametrize("windowsize", [1, 4, 16])
@pytest.mark.parametrize("policy", POLICIES)
def test_5_percent_loss_both_ways_with_duplicates_and_reordering(policy: str, windowsize: int) -> None:
    content = numbered(8 * 1000 + 3)
    agreed = Agreed(8, windowsize, acknowledged=OACK)
    plain = Agreed(8, windowsize)
    reading = Reading(content, agreed, POLICIES[policy].begin(agreed))
    writing = Writing(plain, POLICIES[policy].begin(plain))
    exchange = Exchange(Sender(reading), Receiver(writing), BadLink(7, 0.05, 0.02, 0.02)).run()
    assert writing.content == content
    assert reading.session.outcome in (Outcome.COMPLETE, Outcome.UNCONFIRMED)
    assert len(exchange.sent(3)) < 2.5 * 1001


@settings(max_examples=100, deadline=None)
@given(link=links, client=st.sampled_from([EDK2, UBoot]), windowsize=st.integers(1, 16), size=st.integers(0, 900))
def test_firmware_gets_its_file_or_the_server_gives_up(
    link: BadLink, client: type[Firmware], windowsize: int, size: int
) -> None:
    content = numbered(size)
    agreed = Agreed(8, windowsize, acknowledged=OACK)
    reading = Reading(content, agreed, POLICIES["adaptive"].begin(agreed))
    firmware = client(windowsize)
    sender = Sender(reading)
    # Firmware never gives up here: it is switched off when the server has ended the transfer.
    exchange = Exchange(sender, Supervised(firmware, sender), link)
    blocks = size // 8 + 1
    exchange.run(until=100.0 * (blocks + 2), most=100 * windowsize * (blocks + 2))
    assert content.startswith(bytes(firmware.content))
    assert reading.session.outcome in (Outcome.COMPLETE, Outcome.UNCONFIRMED, Outcome.TIMED_OUT)
    if reading.session.outcome is Outcome.COMPLETE:
        assert firmware.complete
        assert firmware.content == content
    if link.drop <= 0.05:
        assert firmware.complete


@define(eq=False)
class Supervised:
    """A client that is switched off when the server has finished with it."""

    firmware: Firmware
    server: Sender

    @property
    def sent(self) -> list[bytes]:
        return self.firmware.sent

    @property
    def open(self) -> bool:
        return self.firmware.open and self.server.open

    @property
    def deadline(self) -> float | None:
        return self.firmware.deadline

    def receive(self, datagram: bytes, now: float) -> None:
        self.firmware.receive(datagram, now)

    def ring(self, now: float) -> None:
        self.firmware.ring(now)


def lossy_seconds(client: Firmware, windowsize: int, loss: float) -> float:
    """How long a transfer takes over a link that loses that share of the datagrams."""
    content = numbered(8 * 3000)
    agreed = Agreed(8, windowsize, acknowledged=OACK)
    reading = Reading(content, agreed, POLICIES["adaptive"].begin(agreed))
    sender = Sender(reading)
    exchange = Exchange(sender, Supervised(client, sender), BadLink(3, loss, 0.0, 0.0)).run()
    assert client.content == content
    return exchange.now


def test_2_percent_loss_costs_little() -> None:
    """A block costs 1 ms here; each loss costs one wait of 20 ms, seldom two."""
    assert lossy_seconds(EDK2(1), 1, 0.0) < 3.1
    assert lossy_seconds(EDK2(1), 1, 0.02) < 15
    assert lossy_seconds(EDK2(4), 4, 0.02) < 6


@given(policy=st.sampled_from(list(POLICIES.values())), timeout=st.none() | st.integers(1, 255))
def test_time_and_datagrams_for_a_silent_peer_are_bounded(policy: Fixed, timeout: int | None) -> None:
    agreed = Agreed(8, 4, timeout, acknowledged=OACK)
    for answered in (False, True):
        reading = Reading(numbered(400), agreed, policy.begin(agreed))
        if answered:
            reading.ack(0)
        while reading.session.outcome is None:
            reading.tick()
        assert reading.session.outcome is Outcome.TIMED_OUT
        assert reading.now <= 255 * 6
        assert len(reading.datagrams) <= (4 + BEYOND_WINDOW + 1) * 61


waits = st.lists(st.floats(0, 100), max_size=6).map(tuple)


@settings(deadline=None)
@given(link=links, sender_waits=waits, receiver_waits=waits, windowsize=st.integers(1, 4), size=st.integers(0, 100))
def test_any_policy_with_finite_waits_terminates(
    link: BadLink, sender_waits: tuple[float, ...], receiver_waits: tuple[float, ...], windowsize: int, size: int
) -> None:
    content = numbered(size)
    reading = Reading(content, Agreed(8, windowsize, acknowledged=OACK), Waits(sender_waits))
    writing = Writing(Agreed(8, windowsize), Waits(receiver_waits))
    blocks = size // 8 + 1
    Exchange(Sender(reading), Receiver(writing), link).run(until=1300.0 * (blocks + 2), most=200 * (blocks + 2))
    assert reading.session.outcome is not None
    assert writing.session.state is State.CLOSED
    assert writing.finished == (writing.session.outcome is Outcome.COMPLETE)
    assert not writing.finished or writing.content == content
