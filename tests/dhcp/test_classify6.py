"""The classification of DHCPv6 messages."""

from typing import Any

import pytest
from firmware6 import (
    DUID_OF_EDK2,
    DUID_OF_LINUX,
    IPXE,
    LINK_LOCAL,
    LINUX,
    MAC,
    OVMF,
    OVMF_HTTP,
    OVMF_IP_DRIVER,
    UUID,
    XID,
)

from bootfw.dhcp.classify import IPXE_HAS_NO_PROXY, Ignored, classify6, link_address
from bootfw.dhcp.identity import client_mac, is_firmware6
from bootfw.personas.table import stock
from bootfw.values import BootRequest
from bootfw.wire.dhcp6 import Message, MessageType, Relay
from bootfw.wire.options6 import vendor_class_bytes

MATCH = stock().match
OTHER = "52:54:00:00:00:09"


def classified(message: Message, relays: tuple[Relay, ...] = (), **arguments: Any) -> BootRequest:
    found = classify6(message, relays, MATCH, **arguments)
    assert isinstance(found, BootRequest)
    return found


def test_ovmf_is_classified() -> None:
    request = classified(OVMF.message(), mac=MAC, source=LINK_LOCAL, server="fd77::1", interface="eth0")
    assert (request.mac, request.phase, request.persona, request.family) == (MAC, "discover", "uefi-v6", 6)
    assert (request.architecture, request.architecture_codes, request.http, request.ipxe) == (
        "x86_64-uefi",
        (7,),
        False,
        False,
    )
    assert (request.uuid, request.duid, request.xid) == (UUID, DUID_OF_EDK2, XID)
    assert (request.client_address, request.relay_address, request.server) == (LINK_LOCAL, "::", "fd77::1")
    assert request.vendor_class == "PXEClient:Arch:00007:UNDI:003000"


def test_uuid_of_ipxe_is_read_in_its_byte_order() -> None:
    request = classified(IPXE.message(MessageType.INFORMATION_REQUEST, ia=None))
    assert (request.uuid, request.ipxe, request.persona, request.phase) == (UUID, True, "ipxe", "request")


def test_http_boot_is_recognized_by_the_vendor_class() -> None:
    request = classified(OVMF_HTTP.message())
    assert (request.http, request.persona, request.architecture) == (True, "uefi-http", "x86_64-uefi-http")


def test_the_architecture_is_in_the_vendor_class_too() -> None:
    assert classified(OVMF.changed({61: None}).message()).architecture == "x86_64-uefi"
    assert classified(OVMF.changed({61: b"\0"}).message()).architecture == "x86_64-uefi"


def test_first_instance_of_an_option_is_used() -> None:
    message = OVMF.message()
    twice = Message(message.kind, message.xid, (*message.options, (61, b"\0\x0b")))
    assert classified(twice).options[61] == b"\0\7"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (LINUX.message(), "it has no vendor class"),
        (OVMF_IP_DRIVER.message(), "it has no vendor class"),
        (OVMF.changed({16: vendor_class_bytes(9, [b"d-i"]), 61: None}).message(), "its vendor class is 'd-i'"),
        (OVMF.changed({16: b"\0\0", 61: None}).message(), "it has no vendor class"),
        (LINUX.changed({6: b"\0\x3b"}).message(), "it has no vendor class (option 16); configure the boot file"),
        (IPXE.message(), IPXE_HAS_NO_PROXY),
        (OVMF.message(MessageType.REQUEST), ""),
        (OVMF.message(MessageType.RENEW), ""),
    ],
)
def test_proxy_ignores_these_messages(message: Message, reason: str) -> None:
    found = classify6(message, (), MATCH)
    assert isinstance(found, Ignored)
    assert found.reason == reason or (reason and reason in found.reason)


def test_server_answers_solicit_and_request_of_boot_clients() -> None:
    assert classified(IPXE.message(), assigns_addresses=True).ipxe
    assert classified(OVMF.message(MessageType.REQUEST), assigns_addresses=True).phase == "request"
    assert isinstance(classify6(OVMF.message(MessageType.RENEW), (), MATCH, assigns_addresses=True), Ignored)


def test_a_server_has_a_file_for_a_client_that_only_requests_one() -> None:
    found = classified(LINUX.changed({6: b"\0\x17\0\x3b"}).message(), assigns_addresses=True)

    assert (found.persona, found.architecture, found.may_be_system) == ("plain", "unknown", True)
    assert not classified(OVMF.message(), assigns_addresses=True).may_be_system


def test_the_boot_server_takes_requests_only() -> None:
    assert classified(OVMF.message(MessageType.REQUEST, ia=None), boot_server=True).phase == "boot-server"
    found = classify6(OVMF.message(), (), MATCH, boot_server=True)
    assert isinstance(found, Ignored)
    assert "SOLICIT on the boot server's port" in found.reason


def test_relay_options_are_read() -> None:
    near = Relay(0, "::", LINK_LOCAL, ((18, b"port 3"),))
    far = Relay(1, "fd78::1", "fe80::1", ((18, b"vlan 9"), (37, b"\0\0\0\x09id")))
    request = classified(OVMF.message(), (far, near))
    assert (request.relay_address, request.circuit_id, request.remote_id) == ("fd78::1", b"port 3", b"\0\0\0\x09id")
    assert request.client_address == LINK_LOCAL


@pytest.mark.parametrize(
    ("links", "link"),
    [
        (["fd78::1"], "fd78::1"),
        (["fd78::1", "fd79::1"], "fd79::1"),
        (["fd78::1", "::"], "fd78::1"),
        (["fd78::1", "fe80::1"], "fd78::1"),
        (["::"], "::"),
        (["::1"], "::"),
        (["ff02::1"], "::"),
        ([], "::"),
    ],
)
def test_innermost_valid_link_address_is_used(links: list[str], link: str) -> None:
    assert link_address([Relay(0, each, "fe80::9") for each in links]) == link


def test_client_mac_is_found_by_relay_source_or_duid() -> None:
    edk2, linux = OVMF.message(), LINUX.message()
    link_layer_address = (79, b"\0\1" + bytes.fromhex(OTHER.replace(":", "")))
    random_source = "fe80::1234:5678:9abc:def0"

    assert client_mac(edk2, (), LINK_LOCAL) == MAC
    assert client_mac(edk2, (), LINK_LOCAL + "%eth0") == MAC
    assert client_mac(edk2, (), random_source) == ""
    assert client_mac(edk2, (), random_source, lambda: OTHER) == OTHER
    assert client_mac(linux, (), random_source) == MAC, "from its DUID"
    assert client_mac(linux, (), random_source, lambda: OTHER) == OTHER, "the neighbour table counts more than a DUID"
    assert client_mac(edk2, [Relay(0, "fd78::1", LINK_LOCAL)], "fd78::1", lambda: OTHER) == MAC, (
        "a relayed client is no neighbour of ours"
    )
    assert client_mac(edk2, [Relay(0, "fd78::1", LINK_LOCAL, (link_layer_address,))], "fd78::1") == OTHER
    assert client_mac(edk2, [Relay(0, "fd78::1", LINK_LOCAL, ((79, b"\0\1"),))], "fd78::1") == MAC
    infiniband = (79, b"\0\x20" + bytes(20))
    assert client_mac(edk2, [Relay(0, "fd78::1", random_source, (infiniband,))], "fd78::1") == ""
    assert DUID_OF_LINUX.hex().endswith(MAC.replace(":", ""))


def test_firmware_is_distinguished_from_systems() -> None:
    assert is_firmware6(OVMF.message())
    assert is_firmware6(IPXE.message())
    assert is_firmware6(OVMF.changed({61: None}).message())
    assert not is_firmware6(OVMF_IP_DRIVER.message())
    assert not is_firmware6(LINUX.message())
