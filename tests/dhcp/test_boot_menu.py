"""PXE boot menus: the menu that a ROM gets, and the file of the item that it selects, from a proxy and a server."""

from collections.abc import Callable, Sequence
from typing import Any

import firmware
import pytest
from attrs import evolve
from narrowing import of_type

from bootfw.dhcp.answer import Answer, Arrival
from bootfw.dhcp.bootfile import Unsuitable, adapt_menu
from bootfw.dhcp.classify import classify
from bootfw.dhcp.reply import proxy_reply, server_reply
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Subnet
from bootfw.personas.table import stock
from bootfw.values import BootFile, BootMenu, BootMenuItem, BootRequest
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import Message, pack, parse, reply_size
from bootfw.wire.options import encapsulate

PERSONAS = stock()
MENU = BootMenu(
    (
        BootMenuItem("Disk"),
        BootMenuItem("Linux", BootFile("pxelinux.0", pathprefix="debian/")),
        BootMenuItem("By UUID", BootFile("{uuid}/boot.0", "10.77.0.7")),
    ),
    "Press F8",
    7,
)
MENU_OPTIONS = pxe.VendorOptions(
    pxe.DiscoveryControl.NO_BROADCAST | pxe.DiscoveryControl.NO_MULTICAST,
    (pxe.BootServers(0x8001, ("10.77.0.9",)), pxe.BootServers(0x8002, ("10.77.0.9",))),
    (pxe.MenuItem(0, "Disk"), pxe.MenuItem(0x8001, "Linux"), pxe.MenuItem(0x8002, "By UUID")),
    pxe.MenuPrompt(7, "Press F8"),
)


def classify_and_adapt(
    message: Message, boot_server: bool = False, menu: BootMenu = MENU
) -> tuple[BootRequest, BootMenu | BootFile | Unsuitable]:
    """The request of a message, and the menu for its client, or the file of the item that it requests."""
    request = classify(
        message, PERSONAS.match, boot_server=boot_server, assigns_addresses=not boot_server, server="10.77.0.9"
    )
    assert isinstance(request, BootRequest)
    return request, adapt_menu(menu, request, PERSONAS.by_name[request.persona], PERSONAS.is_ipxe_program)


def proxy_offer(message: Message) -> Message:
    """The OFFER of a proxy with the menu."""
    request, menu = classify_and_adapt(message)
    assert isinstance(menu, BootMenu)
    return packed_and_parsed(message, proxy_reply(message, request, menu, PERSONAS.by_name[request.persona]))


def server_offer(message: Message) -> Message:
    """The OFFER of a DHCP server with the menu."""
    request, menu = classify_and_adapt(message)
    answer = AddressServer([Subnet(network="10.77.0.0/24", pool=["10.77.0.100"])]).handle(
        message, Arrival("10.77.0.9"), 1000.0
    )
    assert isinstance(answer, Answer)
    return packed_and_parsed(
        message, server_reply(message, answer, request, of_type(BootMenu, menu), PERSONAS.by_name[request.persona])
    )


def packed_and_parsed(message: Message, answer: Message) -> Message:
    return parse(pack(answer, reply_size(message)))


def request_for_item(item: int) -> Message:
    """The request to the boot server for the item with that type."""
    options = {43: encapsulate({71: item.to_bytes(2, "big") + b"\0\0"})}
    return firmware.boot_server_request(firmware.BIOS_ROM.changed(options))


@pytest.mark.parametrize("reply_of", [proxy_offer, server_offer])
def test_rom_gets_the_menu_in_option_43(reply_of: Callable[[Message], Message]) -> None:
    offer = reply_of(firmware.BIOS_ROM.message())

    assert offer.options[60] == b"PXEClient"
    assert pxe.parse(offer.options[43]) == MENU_OPTIONS
    assert 67 not in offer.options
    assert (offer.file, offer.siaddr) == (b"", "10.77.0.9")


def test_boot_server_names_the_file_of_the_chosen_item() -> None:
    message = request_for_item(0x8001)
    request, file = classify_and_adapt(message, boot_server=True)
    ack = packed_and_parsed(
        message, proxy_reply(message, request, of_type(BootFile, file), PERSONAS.by_name[request.persona])
    )

    assert (ack.file, ack.options[67], ack.options[210]) == (b"pxelinux.0", b"pxelinux.0\0", b"debian/")
    assert pxe.parse(ack.options[43]) == pxe.VendorOptions(
        pxe.DiscoveryControl.USE_BOOT_FILE, boot_item=pxe.BootItem(0x8001, 0)
    )


def test_item_may_name_another_server() -> None:
    request, file = classify_and_adapt(request_for_item(0x8002), boot_server=True)

    assert isinstance(file, BootFile)
    assert (file.name, file.server) == (f"{firmware.UUID}/boot.0", "10.77.0.7")
    assert proxy_reply(request_for_item(0x8002), request, file, PERSONAS.by_name["pxe-bios"]).siaddr == "10.77.0.7"


@pytest.mark.parametrize("item", [0, 0x8000, 0x8003, 1])
def test_unknown_menu_item_is_refused(item: int) -> None:
    assert classify_and_adapt(request_for_item(item), boot_server=True)[1] == Unsuitable(
        f"it requests item {item} of a menu, and our menu has no such item"
    )


def test_request_without_a_menu_item_is_unsuitable() -> None:
    found = classify_and_adapt(firmware.boot_server_request(firmware.BIOS_ROM), boot_server=True)[1]

    assert found == Unsuitable("its request to the boot server names no item of the menu")


def test_unusable_items_are_left_out_without_renumbering() -> None:
    menu = classify_and_adapt(firmware.BIOS_ROM.changed({97: None}).message())[1]

    assert [(item.description, item.type) for item in of_type(BootMenu, menu).items] == [("Disk", 0), ("Linux", 0x8001)]
    only = BootMenu((MENU.items[0], MENU.items[2]))
    found = classify_and_adapt(firmware.BIOS_ROM.changed({97: None}).message(), menu=only)[1]
    assert isinstance(found, Unsuitable)
    assert "which this client does not send" in found.reason


@pytest.mark.parametrize("client", [firmware.OVMF, firmware.IPXE_ROM, firmware.OVMF_HTTP], ids=lambda c: c.name)
def test_clients_with_broken_menu_support_get_no_menu(client: firmware.Client) -> None:
    found = classify_and_adapt(client.message())[1]

    assert isinstance(found, Unsuitable)
    assert "the menu is not shown" in found.reason


@pytest.mark.parametrize(
    ("items", "texts", "message"),
    [
        ((), {}, "a menu needs items"),
        ((BootMenuItem("x"),), {"timeout_seconds": 256}, "a menu waits 0 to 255 seconds, not 256"),
        ((BootMenuItem("x" * 250),), {}, "the menu takes 262 bytes; there is room for 255: use shorter texts"),
    ],
)
def test_invalid_menus_are_errors(items: tuple[BootMenuItem, ...], texts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BootMenu(items, **texts)


@pytest.mark.parametrize("length", range(1, 60, 3))
@pytest.mark.parametrize("files", range(8))
def test_every_valid_menu_fits_into_option_43(length: int, files: int) -> None:
    items = [BootMenuItem("x" * length, BootFile("f")) for _ in range(files)] + [BootMenuItem("ü" * 5)]
    try:
        menu = BootMenu(items, "p" * length)
    except ValueError:
        with pytest.raises(ValueError, match="bytes"):
            pxe.pack(menu_options(items, "p" * length))
        return
    assert len(pxe.pack(menu_options(menu.items, menu.prompt))) <= 255


def menu_options(items: Sequence[BootMenuItem] | tuple[BootMenuItem, ...], prompt: str) -> pxe.VendorOptions:
    return pxe.VendorOptions(
        pxe.DiscoveryControl.NO_BROADCAST,
        tuple(pxe.BootServers(1, ("10.0.0.1",)) for item in items if item.file),
        tuple(pxe.MenuItem(1, item.description) for item in items),
        pxe.MenuPrompt(1, prompt),
    )


# PXELINUX's options, RFC 5071


FILE = BootFile("pxelinux.0", configfile="conf/{mac}", pathprefix="http://{server}/", reboot_seconds=300)
FILE_OPTIONS = {209: b"conf/52:54:00:12:34:56", 210: b"http://10.77.0.9/", 211: b"\0\0\1\x2c"}


def test_a_proxy_and_a_server_send_the_options_of_pxelinux() -> None:
    menu = BootMenu((BootMenuItem("x", FILE),))
    message = request_for_item(0x8000)
    request, file = classify_and_adapt(message, boot_server=True, menu=menu)
    answers = [proxy_reply(message, request, of_type(BootFile, file), PERSONAS.by_name["pxe-bios"])]
    message = firmware.BIOS_ROM.message()
    answer = AddressServer([Subnet(network="10.77.0.0/24", pool=["10.77.0.100"])]).handle(
        message, Arrival("10.77.0.9"), 1000.0
    )
    answers.append(
        server_reply(message, of_type(Answer, answer), request, of_type(BootFile, file), PERSONAS.by_name["pxe-bios"])
    )

    for each in answers:
        assert {code: each.options.get(code) for code in FILE_OPTIONS} == FILE_OPTIONS


def test_options_of_pxelinux_that_are_not_set_are_not_sent() -> None:
    message = firmware.BIOS_ROM.message()
    request = classify(message, PERSONAS.match, server="10.77.0.9")

    assert (
        not {208, 209, 210, 211}
        & proxy_reply(
            message, of_type(BootRequest, request), BootFile("x"), PERSONAS.by_name["pxe-bios"]
        ).options.keys()
    )


@pytest.mark.parametrize("field", ["configfile", "pathprefix"])
def test_oversized_menu_texts_are_errors(field: str) -> None:
    too_long: dict[str, Any] = {field: "x" * 255}
    menu = BootMenu((BootMenuItem("x", evolve(BootFile("pxelinux.0"), **too_long)),))

    assert classify_and_adapt(request_for_item(0x8000), True, menu)[1] == Unsuitable(
        f"its {field} has a NUL, or more than 254 bytes"
    )
