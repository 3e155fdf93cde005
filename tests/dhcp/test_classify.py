"""The classification of DHCPv4 messages, with the messages of real clients."""

from typing import Any

import firmware
import pytest
from attrs import evolve
from firmware import Client

from bootfw.dhcp.classify import Ignored, classify
from bootfw.errors import WireError
from bootfw.personas.rule import Rule
from bootfw.personas.table import stock
from bootfw.values import BootRequest
from bootfw.wire.dhcp4 import BOOTREPLY, MessageType

MATCH = stock().match


def classified(client: Client, **header: Any) -> BootRequest:
    found = classify(client.message(**header), MATCH, server="10.0.0.1", interface="eth0")
    assert isinstance(found, BootRequest)
    return found


def ignored_reason(client: Client, **header: Any) -> str:
    found = classify(client.message(**header), MATCH, server="10.0.0.1", interface="eth0")
    assert isinstance(found, Ignored)
    return found.reason


@pytest.mark.parametrize(
    ("client", "persona", "architecture", "ipxe", "http"),
    [
        (firmware.IPXE_ROM, "ipxe", "x86-bios", True, False),
        (firmware.SNPONLY, "ipxe", "x86_64-uefi", True, False),
        (firmware.BIOS_ROM, "pxe-bios", "x86-bios", False, False),
        (firmware.OVMF, "uefi", "x86_64-uefi", False, False),
        (firmware.OVMF_IA32, "uefi", "x86-uefi", False, False),
        (firmware.AAVMF_32, "uefi", "arm32-uefi", False, False),
        (firmware.AAVMF, "uefi", "arm64-uefi", False, False),
        (firmware.OVMF_HTTP, "uefi-http", "x86_64-uefi-http", False, True),
        (firmware.AAVMF_HTTP, "uefi-http", "arm64-uefi-http", False, True),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_boot_clients_are_classified(client: Client, persona: str, architecture: str, ipxe: bool, http: bool) -> None:
    found = classified(client)

    assert (found.persona, found.architecture, found.ipxe, found.http) == (persona, architecture, ipxe, http)
    assert (found.mac, found.uuid, found.xid) == (firmware.MAC_TEXT, firmware.UUID, firmware.XID)
    assert (found.phase, found.server, found.interface) == ("discover", "10.0.0.1", "eth0")
    assert found.vendor_class == client.options[60].decode()
    assert dict(found.options) == client.options


@pytest.mark.parametrize("client", firmware.ORDINARY_CLIENTS, ids=lambda client: client.name)
def test_clients_that_do_not_boot_are_ignored(client: Client) -> None:
    assert "not a client that a proxy can boot" in ignored_reason(client)


def test_the_reason_names_the_vendor_class() -> None:
    assert "'udhcp 1.35.0'" in ignored_reason(firmware.UDHCPC)
    assert "no vendor class" in ignored_reason(firmware.DHCLIENT)


@pytest.mark.parametrize("requested", [b"\1\3\x42", b"\1\3\x43", b"\x43\x42"])
@pytest.mark.parametrize("vendor_class", [None, b"a telephone"])
def test_a_client_that_requests_a_boot_file_is_booted_by_a_server_and_not_by_a_proxy(
    requested: bytes, vendor_class: bytes | None
) -> None:
    client = firmware.DHCLIENT.changed({55: requested, 60: vendor_class})
    found = classify(client.message(), MATCH, assigns_addresses=True, server="10.0.0.1")

    assert isinstance(found, BootRequest)
    assert (found.persona, found.architecture, found.may_be_system) == ("plain", "unknown", True)
    assert "not a client that a proxy can boot" in ignored_reason(client)
    assert "in the DHCP server that gives its address" in ignored_reason(client)


def test_bootp_is_booted_by_a_server_and_not_by_a_proxy() -> None:
    found = classify(firmware.DHCLIENT.message(options={}), MATCH, assigns_addresses=True, server="10.0.0.1")

    assert isinstance(found, BootRequest)
    assert (found.persona, found.architecture, found.phase) == ("plain", "unknown", "discover")
    assert "BOOTP" in ignored_reason(firmware.DHCLIENT.changed({53: None, 55: b"\x43"}))


def test_an_operator_may_have_a_proxy_boot_clients_that_only_request_a_file() -> None:
    boards = Rule(name="boards", like="plain", oui=["52:54:00"], offer="file")
    match = stock().with_own([boards]).match
    client = firmware.DHCLIENT.changed({55: b"\x43"})

    found = classify(client.message(), match, server="10.0.0.1")
    assert isinstance(found, BootRequest)
    assert (found.persona, found.may_be_system) == ("boards", True)
    assert isinstance(classify(client.message(chaddr=b"\2\0\0\0\0\1"), match, server="10.0.0.1"), Ignored)


def test_firmware_is_not_an_installed_system() -> None:
    for client in firmware.BOOT_CLIENTS:
        assert not classified(client).may_be_system


def test_client_text_cannot_forge_log_lines() -> None:
    reason = ignored_reason(firmware.UDHCPC.changed({60: b"x\n2026 dhcp all is well\x1b[2J" + b"y" * 200}))

    assert reason.isprintable()
    assert len(reason) < 200


@pytest.mark.parametrize("client", firmware.U_BOOTS, ids=lambda client: client.name)
def test_proxy_ignores_u_boot(client: Client) -> None:
    assert "U-Boot" in ignored_reason(client)


@pytest.mark.parametrize("kind", [kind for kind in MessageType if kind is not MessageType.DISCOVER])
def test_other_dhcp_messages_are_ignored_without_a_report(kind: MessageType) -> None:
    client = firmware.OVMF.changed({53: bytes((kind,))})

    assert ignored_reason(client) == ""


def test_bootp_is_ignored_by_a_proxy() -> None:
    assert "BOOTP" in ignored_reason(firmware.BIOS_ROM.changed({53: None}))


@pytest.mark.parametrize("kind", [MessageType.REQUEST, MessageType.INFORM])
@pytest.mark.parametrize("client", firmware.BOOT_CLIENTS, ids=lambda client: client.name)
def test_the_boot_server_answers_request_and_inform(client: Client, kind: MessageType) -> None:
    message = firmware.boot_server_request(client)
    message = evolve(message, options={**message.options, 53: bytes((kind,))})

    found = classify(message, MATCH, boot_server=True, server="10.0.0.1")

    assert isinstance(found, BootRequest)
    assert (found.phase, found.client_address) == ("boot-server", "10.0.0.9")


@pytest.mark.parametrize("kind", set(MessageType) - {MessageType.REQUEST, MessageType.INFORM})
def test_boot_server_ignores_other_message_types(kind: MessageType) -> None:
    found = classify(firmware.OVMF.changed({53: bytes((kind,))}).message(), MATCH, boot_server=True)

    assert isinstance(found, Ignored)
    assert kind.name in found.reason


def test_a_boot_item_of_ipxe_with_the_bare_vendor_class() -> None:
    found = classify(firmware.ipxe_boot_item_request(), MATCH, boot_server=True)

    assert isinstance(found, BootRequest)
    assert (found.persona, found.xid, found.vendor_class) == ("ipxe", 0, "PXEClient")


def test_reply_is_not_classified() -> None:
    with pytest.raises(WireError, match="not a request"):
        classify(firmware.OVMF.message(op=BOOTREPLY), MATCH)


# Relays


def test_a_relayed_client() -> None:
    agent = bytes((1, 4)) + b"ge-1" + bytes((2, 3)) + b"sw7"

    found = classified(firmware.OVMF.changed({82: agent}), giaddr="10.1.0.254")

    assert (found.relay_address, found.circuit_id, found.remote_id) == ("10.1.0.254", b"ge-1", b"sw7")


def test_relay_information_without_a_relay_is_ignored() -> None:
    found = classified(firmware.OVMF.changed({82: bytes((1, 1)) + b"x"}))

    assert (found.relay_address, found.circuit_id) == ("0.0.0.0", None)


def test_malformed_relay_information_counts_as_absent() -> None:
    found = classified(firmware.OVMF.changed({82: bytes((1, 200)) + b"x"}), giaddr="10.1.0.254")

    assert found.circuit_id is None


@pytest.mark.parametrize("giaddr", ["10.0.0.1", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"])
def test_invalid_relay_address_is_malformed(giaddr: str) -> None:
    with pytest.raises(WireError, match="relay"):
        classify(firmware.OVMF.message(giaddr=giaddr), MATCH, server="10.0.0.1")


# Malformed and missing options


@pytest.mark.parametrize("raw", [None, b"", b"\0", b"\0\7\0"])
def test_vendor_class_gives_the_architecture_without_option_93(raw: bytes | None) -> None:
    found = classified(firmware.OVMF.changed({93: raw}))

    assert (found.architecture, found.architecture_codes, found.persona) == ("x86_64-uefi", (), "uefi")


@pytest.mark.parametrize(
    "vendor_class",
    [
        b"PXEClient",
        b"PXEClient:",
        b"PXEClient:Arch:",
        b"PXEClient:Arch:7:UNDI:1",
        b"PXEClient:Arch:0000x:",
        b"PXEClient:x:00007",
    ],
)
def test_client_without_an_architecture_is_a_bios(vendor_class: bytes) -> None:
    found = classified(firmware.BIOS_ROM.changed({93: None, 60: vendor_class}))

    assert (found.architecture, found.persona) == ("unknown", "pxe-bios")


def test_unknown_architecture_code_is_treated_as_uefi() -> None:
    found = classified(firmware.edk2(99))

    assert (found.architecture, found.persona) == ("arch-99", "uefi")


def test_architecture_9_is_x64() -> None:
    assert classified(firmware.edk2(9)).architecture == "x86_64-uefi"


def test_of_several_architectures_the_first_counts() -> None:
    found = classified(firmware.OVMF.changed({93: b"\0\x0b\0\7"}))

    assert (found.architecture, found.architecture_codes) == ("arm64-uefi", (11, 7))


def test_the_vendor_class_decides_between_pxe_and_http() -> None:
    assert classified(firmware.edk2(7, "HTTPClient")).http
    assert not classified(firmware.edk2(16, "PXEClient")).http


@pytest.mark.parametrize("raw", [None, b"", b"\0" * 16, b"\1" + bytes(16), b"\0" * 18])
def test_a_machine_without_a_usable_uuid_is_served(raw: bytes | None) -> None:
    assert classified(firmware.OVMF.changed({97: raw})).uuid is None


@pytest.mark.parametrize("raw", [b"iPXE", b"\4iPXE", b"\3foo\4iPXE"])
def test_ipxe_by_its_user_class(raw: bytes) -> None:
    found = classified(firmware.BIOS_ROM.changed({77: raw}))

    assert (found.ipxe, found.persona) == (True, "ipxe")


def test_ipxe_by_its_own_option() -> None:
    assert classified(firmware.BIOS_ROM.changed({175: b""})).ipxe


@pytest.mark.parametrize("raw", [b"", b"\0", b"iPXE-like", b"\xff\xfe\0\n"])
def test_another_user_class_is_not_ipxe(raw: bytes) -> None:
    found = classified(firmware.BIOS_ROM.changed({77: raw}))

    assert (found.ipxe, found.persona) == (False, "pxe-bios")


def test_ipxe_without_a_pxe_vendor_class_is_not_ipxe() -> None:
    """Its proxy offers need option 60, and 175 is a private number that others use too."""
    assert "not a client" in ignored_reason(firmware.UDHCPC.changed({175: b"\1\1\1", 77: b"iPXE"}))


@pytest.mark.parametrize(
    ("kind", "phase"), [(b"\1", "discover"), (b"\3", "request"), (b"\x08", "request"), (None, "discover")]
)
def test_a_server_classifies_discover_request_inform_and_bootp(kind: bytes | None, phase: str) -> None:
    message = firmware.OVMF.changed({53: kind}).message()

    found = classify(message, MATCH, assigns_addresses=True, server="10.0.0.1")

    assert isinstance(found, BootRequest)
    assert found.phase == phase


@pytest.mark.parametrize("kind", [MessageType.DECLINE, MessageType.RELEASE, MessageType.OFFER])
def test_a_server_does_not_classify(kind: MessageType) -> None:
    message = firmware.OVMF.changed({53: bytes((kind,))}).message()

    assert classify(message, MATCH, assigns_addresses=True, server="10.0.0.1") == Ignored("")


@pytest.mark.parametrize("client", firmware.U_BOOTS, ids=lambda client: client.name)
def test_u_boot_is_a_boot_client_of_the_server(client: Client) -> None:
    found = classify(client.message(), MATCH, assigns_addresses=True, server="10.0.0.1")

    assert isinstance(found, BootRequest)
    assert found.persona == "u-boot"


def test_the_old_name_of_the_phase_is_an_error_that_names_the_new_one() -> None:
    request = classify(firmware.OVMF.message(), MATCH, server="10.0.0.1")
    assert isinstance(request, BootRequest)
    with pytest.raises(AttributeError, match='"phase"'):
        _ = request.stage


@pytest.mark.parametrize(
    ("giaddr", "agent", "link"),
    [
        ("0.0.0.0", b"", "10.0.0.1"),
        ("0.0.0.0", b"\5\4\x0a\x05\0\1", "10.0.0.1"),  # option 82 of a client counts for nothing
        ("10.9.0.254", b"", "10.9.0.254"),
        ("10.9.0.254", b"\1\1x\5\4\x0a\x05\0\1", "10.5.0.1"),
        ("10.9.0.254", b"\5\3\x0a\x05\0", "10.9.0.254"),
    ],
)
def test_the_link_address_is_from_link_selection_the_relay_or_the_server(giaddr: str, agent: bytes, link: str) -> None:
    assert classified(firmware.OVMF.changed({82: agent or None}), giaddr=giaddr).link_address == link
