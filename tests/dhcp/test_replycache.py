"""Replies from the cache equal the replies that are built and packed in full."""

from socket import inet_aton
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from leasing import BEGIN, BY_BROADCAST, BY_UNICAST, NAK, Machine, server, subnet
from narrowing import of_type

from bootfw.dhcp.answer import Answer
from bootfw.dhcp.hostclass import HostClass
from bootfw.dhcp.reply import server_reply
from bootfw.dhcp.replycache import ReplyCache
from bootfw.dhcp.subnet import Subnet
from bootfw.wire.dhcp4 import Message, pack, reply_size

FULL = subnet(dns=["10.77.0.1", "10.77.0.2"], domain="lab.example", options={"ntp-servers": ["10.77.0.3"]})
LONG = subnet(options={"120": b"x" * 300})


def cached_and_uncached(message: Message, *subnets: Subnet, **rules: Any) -> tuple[bytes | None, bytes, Answer]:
    """The reply from the cache, the reply without it, and the answer that both were built from."""
    addresses = server(*subnets, **rules)
    answer = addresses.handle(message, BY_UNICAST if message.ciaddr != "0.0.0.0" else BY_BROADCAST, BEGIN)
    assert isinstance(answer, Answer), answer
    replies = ReplyCache(subnets)
    return replies.reply(message, answer), pack(server_reply(message, answer), reply_size(message)), answer


machine = Machine(1, server())
requests = st.sampled_from(
    [
        machine.message(1),
        machine.message(3, {50: inet_aton("10.77.0.103"), 54: inet_aton("10.77.0.1")}),
        machine.message(3, ciaddr="10.77.0.104"),
        machine.message(8, ciaddr="10.77.0.9"),
    ]
)
extra_options = st.dictionaries(
    st.sampled_from([12, 55, 57, 60, 61, 77, 82, 93, 97]),
    st.binary(min_size=1, max_size=300),
)


@given(requests, extra_options, st.sampled_from([0, 0x8000]), st.sampled_from(["0.0.0.0", "10.77.0.2"]), st.booleans())
def test_cached_and_uncached_replies_are_equal(
    message: Message, options: dict[int, bytes], flags: int, giaddr: str, oversized: bool
) -> None:
    message = evolve(message, options={**message.options, **options}, flags=flags, giaddr=giaddr)
    subnet_with_options = LONG if oversized else FULL
    try:
        cached, uncached, _ = cached_and_uncached(message, subnet_with_options)
    except ValueError:
        return  # the reply does not fit into a message
    assert cached in (None, uncached)


@pytest.mark.parametrize("options", [{}, {61: b"\1abcdef"}, {12: b"name"}, {60: b"PXEClient"}])
@pytest.mark.parametrize("giaddr", ["0.0.0.0", "10.77.0.2"])
def test_replies_with_the_options_of_the_subnet_only_are_cached(options: dict[int, bytes], giaddr: str) -> None:
    for message in (
        machine.message(1, options, giaddr=giaddr),
        machine.message(3, {**options, 50: inet_aton("10.77.0.103"), 54: inet_aton("10.77.0.1")}, giaddr=giaddr),
        machine.message(8, {**options, 82: b"\1\4port"}, ciaddr="10.77.0.9", giaddr=giaddr),
    ):
        cached, uncached, _ = cached_and_uncached(message, FULL)
        assert cached == uncached


@pytest.mark.parametrize(
    ("message", "subnets", "rules"),
    [
        (machine.message(1), [FULL], {"classes": [HostClass(vendor_class="x", options={})]}),
        (machine.message(1, {61: b"x" * 256}), [FULL], {}),
        (machine.message(1), [LONG], {}),
        (machine.message(None), [subnet(bootp=True)], {}),
    ],
    ids=["classes", "long identifier", "more than fits", "BOOTP"],
)
def test_other_replies_are_not_cached(message: Message, subnets: tuple[Subnet, ...], rules: dict[str, Any]) -> None:
    cached, _, _ = cached_and_uncached(message, *subnets, **rules)
    assert cached is None


def test_a_nak_is_not_cached() -> None:
    cached, _, answer = cached_and_uncached(machine.message(3, {50: inet_aton("192.168.1.7")}), FULL)
    assert answer.kind is NAK
    assert cached is None


def test_cache_is_bounded_with_identifiers_chosen_by_relays() -> None:
    replies, addresses = ReplyCache([FULL]), server(FULL)
    for number in range(1000):
        server_identifier = bytes((10, 9, number // 256, number % 256))
        message = machine.message(1, {82: b"\x0b\4" + server_identifier}, giaddr="10.77.0.2")
        answer = addresses.handle(message, BY_BROADCAST, BEGIN)
        assert replies.reply(message, of_type(Answer, answer)) == pack(server_reply(message, of_type(Answer, answer)))
    assert len(replies._heads) <= 256
