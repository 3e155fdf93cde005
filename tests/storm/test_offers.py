"""Which offers a simulated firmware goes on with: EDK2's ranks, iPXE's wait for a proxy, HTTP boot."""

import pytest
from attrs import evolve

from bootfw.storm.offers import BootSource, choose
from bootfw.storm.program import Program
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import BOOTREPLY, Message
from bootfw.wire.options import Option, address_bytes

EDK2 = Program("uefi", vendor_class="PXEClient:Arch:00007", selection="slot")
IPXE = Program("ipxe", vendor_class="PXEClient:Arch:00000", selection="proxy-window")
HTTP = Program("uefi-http", vendor_class="HTTPClient:Arch:00016", selection="slot")
U_BOOT = Program("u-boot", vendor_class="U-Boot", selection="first")

USE_BOOT_FILE = pxe.pack(pxe.VendorOptions(discovery_control=pxe.DiscoveryControl.USE_BOOT_FILE))


def offer(
    server: str,
    *,
    yiaddr: str = "0.0.0.0",
    siaddr: str = "0.0.0.0",
    file: str = "",
    vendor: str = "",
    pxe_options: bytes = b"",
) -> Message:
    options: dict[int, bytes] = {Option.SERVER_IDENTIFIER: address_bytes(server)}
    if vendor:
        options[Option.VENDOR_CLASS_IDENTIFIER] = vendor.encode()
    if pxe_options:
        options[Option.VENDOR_SPECIFIC] = pxe_options
    return Message(
        op=BOOTREPLY, xid=1, chaddr=bytes(6), yiaddr=yiaddr, siaddr=siaddr, file=file.encode(), options=options
    )


PLAIN = offer("10.0.0.1", yiaddr="10.0.1.5")
PLAIN_FILE = offer("10.0.0.1", yiaddr="10.0.1.5", file="plain.efi")
PXE_FILE = offer(
    "10.0.0.1", yiaddr="10.0.1.6", siaddr="10.0.0.1", file="a.efi", vendor="PXEClient", pxe_options=USE_BOOT_FILE
)
BINL = offer("10.0.0.1", yiaddr="10.0.1.7", siaddr="10.0.0.1", file="ignored.efi", vendor="PXEClient")
PROXY_FILE = offer("10.0.0.2", siaddr="10.0.0.2", file="p.efi", vendor="PXEClient", pxe_options=USE_BOOT_FILE)
PROXY_BINL = offer("10.0.0.2", siaddr="10.0.0.2", vendor="PXEClient")
PROXY_NO_BIT = offer(
    "10.0.0.2",
    siaddr="10.0.0.2",
    file="p.efi",
    vendor="PXEClient",
    pxe_options=pxe.pack(pxe.VendorOptions(discovery_control=pxe.DiscoveryControl.NO_BROADCAST)),
)


def menu(*types: int, servers: tuple[pxe.BootServers, ...] = (), control: int = 3) -> Message:
    """A proxy's offer with a menu, and no boot file, as dnsmasq sends it."""
    options = pxe.VendorOptions(
        pxe.DiscoveryControl(control),
        boot_servers=servers,
        menu=tuple(pxe.MenuItem(type_, "Boot") for type_ in types),
        prompt=pxe.MenuPrompt(0, "PXE"),
    )
    return offer("10.0.0.2", siaddr="10.0.0.2", vendor="PXEClient", pxe_options=pxe.pack(options))


@pytest.mark.parametrize(
    ("proxy", "boot_server", "item"),
    [
        (menu(5, 6), "10.0.0.2", pxe.BootItem(5)),
        (
            menu(5, servers=(pxe.BootServers(6, ("10.0.0.8",)), pxe.BootServers(5, ("10.0.0.9",)))),
            "10.0.0.9",
            pxe.BootItem(5),
        ),
        (menu(5, servers=(pxe.BootServers(5),)), "10.0.0.2", pxe.BootItem(5)),
        (menu(0, 5), "", None),
    ],
)
def test_the_first_item_of_a_menu_is_requested_from_its_server(
    proxy: Message, boot_server: str, item: pxe.BootItem | None
) -> None:
    choice = choose(EDK2, [PLAIN, proxy])
    assert choice is not None
    assert (choice.lease, choice.source, choice.boot_server, choice.item) == (PLAIN, None, boot_server, item)


def test_dhcp_server_with_a_menu_is_chosen() -> None:
    server = evolve(menu(5), yiaddr="10.0.1.5")
    choice = choose(EDK2, [server])
    assert choice is not None
    assert (choice.lease, choice.boot_server, choice.item) == (server, "10.0.0.2", pxe.BootItem(5))


def test_a_boot_file_to_use_comes_before_a_menu() -> None:
    proxy = evolve(menu(5, control=pxe.DiscoveryControl.USE_BOOT_FILE), file=b"p.efi")
    choice = choose(EDK2, [PLAIN, proxy])
    assert choice is not None
    assert (choice.source, choice.item) == (BootSource("p.efi", "10.0.0.2"), None)


@pytest.mark.parametrize(
    ("offers", "file", "boot_server"),
    [
        ([PLAIN_FILE], "plain.efi", ""),
        ([PXE_FILE], "a.efi", ""),
        ([PLAIN_FILE, PXE_FILE], "a.efi", ""),
        ([PLAIN, PROXY_FILE], "p.efi", ""),
        ([PLAIN_FILE, PROXY_FILE], "p.efi", ""),
        ([BINL], "", "10.0.0.1"),
        ([PLAIN, PROXY_BINL], "", "10.0.0.2"),
        ([PLAIN_FILE, PROXY_BINL], "", "10.0.0.2"),
    ],
)
def test_edk2_chooses_by_rank(offers: list[Message], file: str, boot_server: str) -> None:
    choice = choose(EDK2, offers)
    assert choice is not None
    assert (choice.source.file if choice.source else "", choice.boot_server) == (file, boot_server)


@pytest.mark.parametrize("offers", [[], [PLAIN], [PROXY_FILE], [PLAIN, PROXY_NO_BIT]])
def test_edk2_can_not_boot_from_these(offers: list[Message]) -> None:
    assert choose(EDK2, offers) is None


def test_ipxe_waits_for_a_proxy_and_then_does_without() -> None:
    assert choose(IPXE, [PLAIN_FILE], proxy_awaited=True) is None
    choice = choose(IPXE, [PLAIN_FILE])
    assert choice is not None
    assert choice.source == BootSource("plain.efi", "10.0.0.1")


def test_ipxe_takes_the_file_of_a_proxy_at_once() -> None:
    choice = choose(IPXE, [PLAIN_FILE, PROXY_FILE], proxy_awaited=True)
    assert choice is not None
    assert (choice.source, choice.lease) == (BootSource("p.efi", "10.0.0.2"), PLAIN_FILE)


def test_ipxe_requests_from_port_4011_of_a_proxy_without_a_file() -> None:
    choice = choose(IPXE, [PLAIN_FILE, PROXY_BINL])
    assert choice is not None
    assert (choice.source, choice.boot_server) == (BootSource("plain.efi", "10.0.0.1"), "10.0.0.2")


def test_http_takes_a_url_of_an_http_offer_only() -> None:
    url = "http://10.0.0.2/a.efi"
    http = offer("10.0.0.2", file=url, vendor="HTTPClient")
    assert choose(HTTP, [PXE_FILE]) is None
    assert choose(HTTP, [PLAIN, offer("10.0.0.2", file="a.efi", vendor="HTTPClient")]) is None
    choice = choose(HTTP, [PLAIN, http])
    assert choice is not None
    assert choice.source is not None
    assert (choice.lease, choice.source.file) == (PLAIN, url)


def test_u_boot_takes_the_first_address() -> None:
    choice = choose(U_BOOT, [PROXY_FILE, PLAIN_FILE, PXE_FILE])
    assert choice is not None
    assert choice.lease is PLAIN_FILE
