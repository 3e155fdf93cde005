"""The destination address and port of replies."""

from collections.abc import Mapping
from typing import Any

import firmware
import pytest

from bootfw.dhcp.answer import Answer
from bootfw.dhcp.routing import proxy_destination, server_destination
from bootfw.values import Address
from bootfw.wire.dhcp4 import MessageType

BROADCAST = "255.255.255.255"


@pytest.mark.parametrize("client", firmware.BOOT_CLIENTS, ids=lambda client: client.name)
def test_offer_is_broadcast_with_and_without_the_flag(client: firmware.Client) -> None:
    assert proxy_destination(client.message(), ("0.0.0.0", 68)) == (BROADCAST, 68)


def test_offer_ignores_an_old_ciaddr() -> None:
    message = firmware.IPXE_ROM.message(ciaddr="10.0.0.9")

    assert proxy_destination(message, ("10.0.0.9", 68)) == (BROADCAST, 68)


def test_relay_gets_the_reply_on_the_server_port() -> None:
    message = firmware.OVMF.message(giaddr="10.1.0.254")

    assert proxy_destination(message, ("10.1.0.253", 1067)) == ("10.1.0.254", 67)


def test_a_relay_that_chose_its_port_gets_the_reply_there() -> None:
    """RFC 8357."""
    message = firmware.OVMF.changed({82: bytes((1, 1)) + b"x" + bytes((19, 0))}).message(giaddr="10.1.0.254")

    assert proxy_destination(message, ("10.1.0.254", 40067)) == ("10.1.0.254", 40067)


def test_malformed_relay_information_sets_no_port() -> None:
    message = firmware.OVMF.changed({82: bytes((19, 5))}).message(giaddr="10.1.0.254")

    assert proxy_destination(message, ("10.1.0.254", 40067)) == ("10.1.0.254", 67)


@pytest.mark.parametrize("port", [4011, 68, 40000])
def test_the_boot_server_replies_to_the_sender(port: int) -> None:
    """EDK2 sends from port 4011 to 4011; iPXE sends from 68."""
    message = firmware.boot_server_request(firmware.OVMF)

    assert proxy_destination(message, ("10.0.0.9", port), boot_server=True) == ("10.0.0.9", port)


def test_boot_server_replies_to_the_source_instead_of_ciaddr() -> None:
    message = firmware.boot_server_request(firmware.OVMF, ciaddr="192.168.1.1")

    assert proxy_destination(message, ("10.0.0.9", 4011), boot_server=True) == ("10.0.0.9", 4011)


def test_boot_server_replies_to_ciaddr_without_a_source() -> None:
    message = firmware.boot_server_request(firmware.OVMF)

    assert proxy_destination(message, ("0.0.0.0", 4011), boot_server=True) == ("10.0.0.9", 4011)


def test_without_any_address_the_reply_is_broadcast() -> None:
    message = firmware.boot_server_request(firmware.OVMF, ciaddr="0.0.0.0")

    assert proxy_destination(message, ("0.0.0.0", 4011), boot_server=True) == (BROADCAST, 68)


def test_configured_ports_are_used() -> None:
    relayed = firmware.OVMF.message(giaddr="10.1.0.254")

    assert proxy_destination(firmware.OVMF.message(), ("0.0.0.0", 68), client_port=10068) == (BROADCAST, 10068)
    assert proxy_destination(relayed, ("10.1.0.254", 67), server_port=10067) == ("10.1.0.254", 10067)


def test_the_boot_server_honours_the_broadcast_flag() -> None:
    message = firmware.boot_server_request(firmware.OVMF, flags=0x8000)

    assert proxy_destination(message, ("0.0.0.0", 4011), boot_server=True) == (BROADCAST, 68)


# The replies of a server that gives addresses (RFC 2131 section 4.1)

OFFERED, LEASED = "10.0.0.100", "10.0.0.7"
TO_BROADCAST = ((BROADCAST, 68), False)


REQUEST_TYPES = {MessageType.OFFER: b"\1", MessageType.ACK: b"\3", MessageType.NAK: b"\3", None: None}
SELECTING = {50: bytes((10, 0, 0, 100)), 54: bytes((10, 0, 0, 1))}


def destination_of(
    kind: MessageType | None, address: str, peer: Address, options: Mapping[int, bytes], **header: Any
) -> tuple[Address, bool]:
    request_options = {53: REQUEST_TYPES[kind], **options}
    message = firmware.DHCLIENT.changed(request_options).message(**header)
    return server_destination(message, Answer(kind, "10.0.0.1", "10.0.0.1", address), peer)


@pytest.mark.parametrize(
    ("kind", "header", "address", "peer", "expected"),
    [
        (MessageType.OFFER, {}, OFFERED, ("0.0.0.0", 68), ((OFFERED, 68), True)),
        (MessageType.ACK, {}, OFFERED, ("0.0.0.0", 68), ((OFFERED, 68), True)),
        (None, {}, OFFERED, ("0.0.0.0", 68), ((OFFERED, 68), True)),
        (None, {"ciaddr": LEASED}, OFFERED, ("0.0.0.0", 68), ((LEASED, 68), False)),
        (MessageType.OFFER, {"flags": 0x8000}, OFFERED, ("0.0.0.0", 68), TO_BROADCAST),
        (MessageType.OFFER, {"htype": 32, "hlen": 0, "chaddr": b""}, OFFERED, ("0.0.0.0", 68), TO_BROADCAST),
        (MessageType.ACK, {"ciaddr": LEASED}, LEASED, (LEASED, 68), ((LEASED, 68), False)),
        (MessageType.ACK, {"ciaddr": LEASED}, LEASED, (LEASED, 4011), ((LEASED, 4011), False)),
        (MessageType.ACK, {"ciaddr": LEASED}, LEASED, ("10.0.0.8", 5000), ((LEASED, 68), False)),
        (MessageType.ACK, {"ciaddr": LEASED, "flags": 0x8000}, LEASED, (LEASED, 68), ((LEASED, 68), False)),
        (MessageType.NAK, {}, "", ("0.0.0.0", 68), TO_BROADCAST),
        (MessageType.NAK, {"ciaddr": LEASED}, "", (LEASED, 68), TO_BROADCAST),
        (MessageType.NAK, {"giaddr": "10.9.0.1"}, "", ("10.9.0.1", 67), (("10.9.0.1", 67), False)),
        (MessageType.OFFER, {"giaddr": "10.9.0.1"}, OFFERED, ("10.9.0.1", 1067), (("10.9.0.1", 67), False)),
    ],
)
def test_the_destination_of_a_servers_reply(
    kind: MessageType | None,
    header: dict[str, str | int | bytes],
    address: str,
    peer: tuple[str, int],
    expected: tuple[tuple[str, int], bool],
) -> None:
    assert destination_of(kind, address, peer, {}, **header) == expected


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ((LEASED, 68), {}, ((LEASED, 68), False)),
        ((LEASED, 68), {"ciaddr": LEASED}, ((LEASED, 68), False)),
        (("0.0.0.0", 68), {}, TO_BROADCAST),
        (("0.0.0.0", 68), {"ciaddr": LEASED}, ((LEASED, 68), False)),
    ],
)
def test_the_destination_of_the_answer_to_an_inform(
    peer: tuple[str, int], header: dict[str, str], expected: tuple[tuple[str, int], bool]
) -> None:
    assert destination_of(MessageType.ACK, "", peer, {53: b"\x08"}, **header) == expected


@pytest.mark.parametrize(("kind", "options"), [(MessageType.OFFER, {}), (MessageType.ACK, SELECTING)])
@pytest.mark.parametrize("peer", ["0.0.0.0", LEASED])
@pytest.mark.parametrize("former", [LEASED, OFFERED, "192.168.9.9"])
def test_client_without_an_address_is_not_addressed_by_its_former_one(
    kind: MessageType, options: dict[int, bytes], peer: str, former: str
) -> None:
    destination = destination_of(kind, OFFERED, (peer, 68), options, ciaddr=former)
    with_broadcast_flag = destination_of(kind, OFFERED, (peer, 68), options, ciaddr=former, flags=0x8000)

    assert (destination, with_broadcast_flag) == (((OFFERED, 68), True), TO_BROADCAST)


@pytest.mark.parametrize(
    ("options", "peer", "expected"),
    [
        ({54: SELECTING[54]}, LEASED, ((LEASED, 68), False)),
        ({54: SELECTING[54]}, "0.0.0.0", ((LEASED, 68), True)),
        ({54: b"\x0a"}, "0.0.0.0", ((LEASED, 68), False)),
    ],
    ids=["names the server, from its address", "names the server, from nowhere", "names no server"],
)
def test_a_renewal_is_answered_at_the_address_that_is_in_use(
    options: dict[int, bytes], peer: str, expected: tuple[tuple[str, int], bool]
) -> None:
    assert destination_of(MessageType.ACK, LEASED, (peer, 68), options, ciaddr=LEASED) == expected
