"""The replies of a proxy, to each client in the form that it understands; scapy parses them too."""

from typing import Any

import firmware
import pytest
from attrs import evolve
from firmware import Client
from narrowing import of_type
from scapy.layers.dhcp import BOOTP, DHCP

from bootfw.dhcp.classify import classify
from bootfw.dhcp.reply import proxy_reply
from bootfw.personas.table import stock
from bootfw.values import BootFile, BootRequest
from bootfw.wire.dhcp4 import Message, MessageType, pack, parse, reply_size

PERSONAS = stock()
FILE = BootFile("boot.file")
SERVER = bytes((10, 0, 0, 1))
USE_BOOT_FILE = b"\6\1\x08\xff"


def reply_to(message: Message, file: BootFile | None = FILE, boot_server: bool = False) -> Message:
    """The reply, packed and parsed again; scapy has read the same fields."""
    request = classify(message, PERSONAS.match, boot_server=boot_server, server="10.0.0.1")
    assert isinstance(request, BootRequest)
    reply = proxy_reply(message, request, file, PERSONAS.by_name[request.persona])
    data = pack(reply, reply_size(message))
    assert parse(data) == reply
    check_with_scapy(data, reply)
    return reply


def check_with_scapy(data: bytes, reply: Message) -> None:
    bootp = BOOTP(data)
    assert (bootp.op, bootp.xid, bootp.yiaddr, bootp.siaddr) == (2, reply.xid, "0.0.0.0", reply.siaddr)
    assert bootp.file.rstrip(b"\0") == reply.file
    names = [option if isinstance(option, str) else option[0] for option in bootp[DHCP].options]
    assert names[:2] == ["message-type", "server_id"]
    assert "end" in names


def offer_to(client: Client, file: BootFile | None = FILE, **header: Any) -> Message:
    return reply_to(client.message(**header), file)


def ack_to(message: Message) -> Message:
    return reply_to(message, boot_server=True)


@pytest.mark.parametrize("client", firmware.BOOT_CLIENTS, ids=lambda client: client.name)
def test_every_offer_has_the_fields_of_a_proxy_reply(client: Client) -> None:
    offer = offer_to(client)

    assert offer.message_type is MessageType.OFFER
    assert (offer.op, offer.xid, offer.chaddr, offer.htype, offer.hlen) == (2, firmware.XID, firmware.MAC, 1, 6)
    assert (offer.yiaddr, offer.ciaddr, offer.giaddr, offer.siaddr) == ("0.0.0.0", "0.0.0.0", "0.0.0.0", "10.0.0.1")
    assert (offer.flags, offer.secs, offer.hops, offer.sname) == (0x8000, 0, 0, b"")
    assert offer.options[54] == SERVER
    assert offer.options[97] == firmware.UUID_ON_THE_WIRE
    assert offer.options.get(61) == client.options.get(61)
    assert 13 not in offer.options
    assert not {1, 3, 6, 50, 51, 58, 59} & offer.options.keys()


def test_a_bios_rom_gets_the_file_in_the_offer_with_use_boot_file() -> None:
    offer = offer_to(firmware.BIOS_ROM)

    assert offer.options[60] == b"PXEClient"
    assert offer.options[43] == USE_BOOT_FILE
    assert offer.options[67] == b"boot.file\0"
    assert offer.file == b"boot.file"


@pytest.mark.parametrize(
    "client", [firmware.OVMF, firmware.OVMF_IA32, firmware.AAVMF_32, firmware.AAVMF], ids=lambda client: client.name
)
def test_uefi_is_referred_to_the_boot_server(client: Client) -> None:
    offer = offer_to(client, None)

    assert offer.options[60] == b"PXEClient"
    assert not {43, 67} & offer.options.keys()
    assert offer.file == b""


@pytest.mark.parametrize("client", [firmware.IPXE_ROM, firmware.SNPONLY], ids=lambda client: client.name)
def test_ipxe_gets_the_file_without_vendor_options(client: Client) -> None:
    offer = offer_to(client, BootFile("http://10.0.0.1/boot.ipxe"))

    assert offer.options[60] == b"PXEClient"
    assert 43 not in offer.options
    assert offer.file == b"http://10.0.0.1/boot.ipxe"
    assert offer.options[67] == b"http://10.0.0.1/boot.ipxe\0"


@pytest.mark.parametrize("client", [firmware.OVMF_HTTP, firmware.AAVMF_HTTP], ids=lambda client: client.name)
def test_http_boot_gets_its_own_class_and_the_url(client: Client) -> None:
    offer = offer_to(client, BootFile("http://10.0.0.1/x.efi"))

    assert offer.options[60] == b"HTTPClient"
    assert 43 not in offer.options
    assert offer.options[67] == b"http://10.0.0.1/x.efi\0"


def test_another_server_serves_the_file_but_is_not_the_proxy() -> None:
    offer = offer_to(firmware.IPXE_ROM, BootFile("boot.ipxe", "10.0.0.7"))

    assert offer.siaddr == "10.0.0.7"
    assert offer.options[54] == SERVER


@pytest.mark.parametrize(("length", "in_header"), [(127, True), (128, False), (254, False)])
def test_file_name_too_long_for_the_header_is_in_the_option_only(length: int, in_header: bool) -> None:
    name = "n" * length

    offer = offer_to(firmware.IPXE_ROM, BootFile(name))

    assert offer.options[67] == name.encode() + b"\0"
    assert offer.file == (name.encode() if in_header else b"")


def test_offer_with_a_long_name_fits_the_default_message_size() -> None:
    """RFC 2131: 576 bytes of IP datagram, and so 548 of message."""
    offer = offer_to(firmware.BIOS_ROM.changed({57: None}), BootFile("n" * 230))

    assert 500 < len(pack(offer)) <= 548


@pytest.mark.parametrize(("raw", "size"), [(None, 548), (b"\0\x64", 548), (b"\5\xc0", 1444), (b"\xff\0", 1472)])
def test_reply_size_follows_option_57(raw: bytes | None, size: int) -> None:
    assert reply_size(firmware.OVMF.changed({57: raw}).message()) == size


@pytest.mark.parametrize("raw", [None, b"\1" + bytes(16), b"\0" * 5])
def test_malformed_uuid_is_not_echoed(raw: bytes | None) -> None:
    assert 97 not in offer_to(firmware.OVMF.changed({97: raw})).options


# Relays


def test_relay_agent_option_is_echoed_unchanged_and_last() -> None:
    agent = bytes((1, 4)) + b"ge-1"
    message = firmware.OVMF.changed({82: agent}).message(giaddr="10.1.0.254")

    offer = reply_to(message)

    assert (offer.giaddr, offer.flags) == ("10.1.0.254", 0x8000)
    assert pack(offer, 1472).rstrip(b"\0").endswith(bytes((82, 6)) + agent + b"\xff")


def test_relay_information_without_a_relay_is_not_echoed() -> None:
    assert 82 not in offer_to(firmware.OVMF.changed({82: bytes((1, 1)) + b"x"})).options


# The boot server


@pytest.mark.parametrize("client", firmware.BOOT_CLIENTS, ids=lambda client: client.name)
def test_every_boot_server_ack_has_the_fields_of_a_proxy_reply(client: Client) -> None:
    message = firmware.boot_server_request(client)

    ack = ack_to(message)

    assert ack.message_type is MessageType.ACK
    assert (ack.xid, ack.chaddr, ack.flags) == (message.xid, firmware.MAC, message.flags)
    assert (ack.yiaddr, ack.ciaddr, ack.siaddr) == ("0.0.0.0", "10.0.0.9", "10.0.0.1")
    assert ack.options[54] == SERVER
    assert (ack.file, ack.options[67]) == (b"boot.file", b"boot.file\0")


def test_uefi_gets_its_file_from_the_boot_server_without_vendor_options() -> None:
    assert 43 not in ack_to(firmware.boot_server_request(firmware.OVMF)).options


def test_bios_rom_gets_use_boot_file_from_the_boot_server() -> None:
    assert ack_to(firmware.boot_server_request(firmware.BIOS_ROM)).options[43] == USE_BOOT_FILE


def test_the_boot_item_is_repeated_byte_by_byte() -> None:
    ack = ack_to(firmware.ipxe_boot_item_request())

    assert ack.xid == 0
    assert ack.options[43] == b"\6\1\x08" + firmware.BOOT_ITEM


@pytest.mark.parametrize("raw", [b"", b"\x47", b"\x47\x02\0\0\xff", b"garbage"])
def test_malformed_vendor_options_request_no_boot_item(raw: bytes) -> None:
    message = firmware.boot_server_request(firmware.OVMF)
    message = evolve(message, options={**message.options, 43: raw})

    assert 43 not in ack_to(message).options


def test_http_boot_has_no_boot_items() -> None:
    message = firmware.boot_server_request(firmware.OVMF_HTTP)
    message = evolve(message, options={**message.options, 43: firmware.BOOT_ITEM})

    assert 43 not in ack_to(message).options


def test_offer_does_not_repeat_a_stale_ciaddr() -> None:
    assert offer_to(firmware.BIOS_ROM, ciaddr="10.0.0.9").ciaddr == "0.0.0.0"


def test_an_offer_repeats_no_boot_item() -> None:
    client = firmware.OVMF.changed({43: firmware.BOOT_ITEM})

    assert 43 not in offer_to(client, None).options


def test_the_clients_cover_each_kind_of_offer_of_the_stock_personas() -> None:
    clients = [*firmware.BOOT_CLIENTS, *firmware.U_BOOTS, firmware.RASPBERRY_PI_3, firmware.RASPBERRY_PI_4]
    tested = {
        of_type(BootRequest, classify(c.message(), PERSONAS.match, assigns_addresses=True)).persona for c in clients
    }
    styles = {(PERSONAS.by_name[name].offer, PERSONAS.by_name[name].option_43) for name in tested}

    assert styles == {(rule.offer, rule.option_43) for rule in PERSONAS.rules if rule.offer is not None}
