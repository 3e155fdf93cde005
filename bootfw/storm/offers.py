"""Which DHCP offers a firmware uses: the client's side of PXE (edk2 PxeBcDhcp4.c and HttpBootDhcp4.c, iPXE dhcp.c).

Of a boot menu, the first item is chosen at once, as if a key were pressed.
"""

from collections.abc import Sequence

from attrs import frozen

from bootfw.errors import WireError
from bootfw.storm.program import Program
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import UNSPECIFIED, Message
from bootfw.wire.options import Option, text

_PXE, _HTTP = b"PXEClient", b"HTTPClient"
_PXE_SUBOPTIONS = frozenset(range(6, 11))
"""A reply with one of these in option 43 is for PXE as of version 2.0; discovery control is the first."""


@frozen
class BootSource:
    """Where the boot file is."""

    file: str
    """A path, or a URL."""
    server: str
    """The address of its TFTP server."""


@frozen
class OfferChoice:
    """The offers that a firmware goes on with."""

    lease: Message
    """The one whose address it takes."""
    source: BootSource | None
    """None: port 4011 of *boot_server* names it, or nothing does."""
    boot_server: str = ""
    """Address; "": port 4011 is not needed."""
    item: pxe.BootItem | None = None
    """The menu item to request from port 4011; None: there was no menu."""


def choose(program: Program, offers: Sequence[Message], proxy_awaited: bool = False) -> OfferChoice | None:
    """Return the choice among *offers*, which are in the order of their arrival.

    :param proxy_awaited: a program of selection "proxy-window" still waits for the offer of a proxy.
    :return: None: the program can't boot from these, or not yet.
    """
    leases = [offer for offer in offers if offer.yiaddr != UNSPECIFIED]
    proxies = [offer for offer in offers if offer.yiaddr == UNSPECIFIED]
    if not leases:
        return None
    if program.vendor_class.startswith("HTTPClient"):
        return _choose_http(leases, proxies)
    if program.selection == "first":
        return OfferChoice(leases[0], boot_source(leases[0]))
    if program.selection == "slot":
        return _choose_edk2(leases, proxies)
    return _choose_ipxe(leases, proxies, proxy_awaited)


def boot_source(message: Message) -> BootSource | None:
    """Return the boot file that a reply names; None: it names none."""
    raw = message.options.get(Option.BOOTFILE_NAME, b"").rstrip(b"\0") or message.file
    if not raw:
        return None
    server = message.siaddr if message.siaddr != UNSPECIFIED else _server_identifier(message)
    return BootSource(text(raw), server)


def _server_identifier(message: Message) -> str:
    raw = message.options.get(Option.SERVER_IDENTIFIER, b"")
    return ".".join(map(str, raw)) if len(raw) == 4 else ""


def server_of(message: Message) -> str:
    """Return the address of the server that sent *message*: its server identifier (option 54), else its siaddr."""
    return _server_identifier(message) or message.siaddr


def _choose_http(leases: Sequence[Message], proxies: Sequence[Message]) -> OfferChoice | None:
    """Choose as EDK2 does for HTTP boot: it takes the URI only of an offer with "HTTPClient" in option 60."""
    for offer in (*leases, *proxies):
        source = boot_source(offer) if _vendor_class(offer).startswith(_HTTP) else None
        if source is not None and "://" in source.file:
            return OfferChoice(offer if offer in leases else leases[0], source)
    return None


def _choose_edk2(leases: Sequence[Message], proxies: Sequence[Message]) -> OfferChoice | None:
    """Choose as EDK2 does for PXE. It prefers, in this order: an address with PXE options, an address and a proxy's
    offer, a boot server at port 4011, a boot file without PXE options."""
    for offer in leases:
        if _is_for_pxe(offer):
            return _choose_item(offer, offer) or OfferChoice(offer, boot_source(offer))
    plain = [offer for offer in leases if not _vendor_class(offer).startswith(_PXE)]
    for proxy in proxies:
        if plain and _is_for_pxe(proxy):
            choice = _choose_item(plain[0], proxy)
            if choice is None and _uses_boot_file(proxy):
                choice = OfferChoice(plain[0], boot_source(proxy))
            if choice is not None:
                return choice
    for offer in leases:
        if _vendor_class(offer).startswith(_PXE):
            return OfferChoice(offer, None, offer.siaddr if offer.siaddr != UNSPECIFIED else server_of(offer))
    for proxy in proxies:
        if plain and _vendor_class(proxy).startswith(_PXE) and not _is_for_pxe(proxy):
            return OfferChoice(plain[0], None, server_of(proxy))
    for offer in plain:
        source = boot_source(offer)
        if source is not None:
            return OfferChoice(offer, source)
    return None


def _choose_item(lease: Message, offer: Message) -> OfferChoice | None:
    """Return the choice of the first item of the menu in *offer*; None: there is no menu, or the offer says to use its
    boot file in place of the menu."""
    found = _vendor_options(offer)
    if not found.menu or _uses_boot_file(offer):
        return None
    item = found.menu[0]
    listed = next((servers.addresses for servers in found.boot_servers if servers.type == item.type), ())
    server = listed[0] if listed else server_of(offer)
    # Type 0 is the local disk (PXE specification 2.1, section 2.2.3).
    return OfferChoice(lease, None, server, pxe.BootItem(item.type)) if item.type else OfferChoice(lease, None)


def _choose_ipxe(leases: Sequence[Message], proxies: Sequence[Message], proxy_awaited: bool) -> OfferChoice | None:
    """Choose as iPXE does: it takes any reply with option 60 "PXEClient" for one of a proxy, even if it is from the
    server of its address."""
    lease = leases[0]
    found = next((offer for offer in (*leases, *proxies) if _vendor_class(offer).startswith(_PXE)), None)
    if found is None:
        return None if proxy_awaited else OfferChoice(lease, boot_source(lease))
    source = boot_source(found)
    if source is not None and found.siaddr != UNSPECIFIED:
        return OfferChoice(lease, source)
    return OfferChoice(lease, boot_source(lease), server_of(found))


def _vendor_class(message: Message) -> bytes:
    return message.options.get(Option.VENDOR_CLASS_IDENTIFIER, b"")


def _vendor_options(message: Message) -> pxe.VendorOptions:
    try:
        return pxe.parse(message.options.get(Option.VENDOR_SPECIFIC, b""))
    except WireError:
        return pxe.VendorOptions()


def _is_for_pxe(message: Message) -> bool:
    found = _vendor_options(message)
    has_options = found.discovery_control is not None or found.boot_servers or found.menu or found.prompt
    return _vendor_class(message).startswith(_PXE) and bool(has_options or not _PXE_SUBOPTIONS.isdisjoint(found.others))


def _uses_boot_file(message: Message) -> bool:
    control = _vendor_options(message).discovery_control
    return control is not None and bool(control & pxe.DiscoveryControl.USE_BOOT_FILE)
