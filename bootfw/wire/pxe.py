"""Option 43 as PXE clients use it (Intel, PXE specification 2.1).

It belongs in replies to clients whose option 60 begins with "PXEClient" only: elsewhere the same bytes mean other
things.
"""

import enum
from collections.abc import Mapping

from attrs import field, frozen

from bootfw.errors import WireError
from bootfw.wire.options import (
    addresses,
    addresses_bytes,
    encapsulate,
    encapsulated,
    first_encapsulated,
    text,
    text_bytes,
    uint8_bytes,
    uint16_bytes,
)


class DiscoveryControl(enum.IntFlag):
    """Sub-option 6."""

    NO_BROADCAST = 1
    """Don't look for boot servers by broadcast."""
    NO_MULTICAST = 2
    """Don't look for boot servers by multicast."""
    LISTED_ONLY = 4
    """Accept replies from the servers in sub-option 8 only."""
    USE_BOOT_FILE = 8
    """The offer has a boot file: load it, without prompt, menu or discovery."""


class Suboption(enum.IntEnum):
    """Codes inside option 43."""

    DISCOVERY_CONTROL = 6
    MULTICAST_ADDRESS = 7  # address; among VendorOptions.others
    BOOT_SERVERS = 8
    BOOT_MENU = 9
    MENU_PROMPT = 10
    BOOT_ITEM = 71


_PARSED = frozenset(Suboption) - {Suboption.MULTICAST_ADDRESS}


@frozen
class BootServers:
    """The addresses of one type of boot server."""

    type: int
    addresses: tuple[str, ...] = ()
    """Dotted quads; empty: any server that answers for the type."""


@frozen
class MenuItem:
    """A line of the boot menu."""

    type: int
    """Type of the boot server that serves it; 0: boot from the local disk."""
    description: str


@frozen
class MenuPrompt:
    """The text that is shown before the menu opens."""

    timeout: int
    """Seconds; 0: take the first item at once; 255: open the menu and wait."""
    text: str


@frozen
class BootItem:
    """The menu item that a client requests from a boot server; the reply repeats it."""

    type: int
    layer: int = 0
    """Bit 15: credentials are requested."""


@frozen
class VendorOptions:
    """The sub-options of option 43; None or empty: absent."""

    discovery_control: DiscoveryControl | None = None
    boot_servers: tuple[BootServers, ...] = ()
    menu: tuple[MenuItem, ...] = ()
    prompt: MenuPrompt | None = None
    boot_item: BootItem | None = None
    others: Mapping[int, bytes] = field(factory=dict, hash=False)
    """Every other sub-option, code to bytes."""


def parse(raw: bytes) -> VendorOptions:
    """Parse option 43; the end marker may be missing.

    :raise WireError: a sub-option is truncated or malformed.
    """
    others = encapsulated(raw)
    control = others.pop(Suboption.DISCOVERY_CONTROL, None)
    servers = others.pop(Suboption.BOOT_SERVERS, b"")
    menu = others.pop(Suboption.BOOT_MENU, b"")
    prompt = others.pop(Suboption.MENU_PROMPT, None)
    item = others.pop(Suboption.BOOT_ITEM, None)
    if control is not None and len(control) != 1:
        raise WireError("PXE discovery control is not one byte")
    if prompt == b"":
        raise WireError("PXE menu prompt without a timeout")
    if item is not None and len(item) != 4:
        raise WireError("PXE boot item is not four bytes")
    return VendorOptions(
        discovery_control=None if control is None else DiscoveryControl(control[0]),
        boot_servers=_read_boot_servers(servers),
        menu=_read_menu(menu),
        prompt=None if prompt is None else MenuPrompt(prompt[0], text(prompt[1:])),
        boot_item=None if item is None else BootItem(_uint16(item, 0), _uint16(item, 2)),
        others=others,
    )


def boot_item(raw: bytes) -> BootItem | None:
    """Return the menu item that a client chose, from its option 43; None: absent or malformed. Never raises."""
    item = first_encapsulated(raw, Suboption.BOOT_ITEM)
    return BootItem(_uint16(item, 0), _uint16(item, 2)) if item is not None and len(item) == 4 else None


def _read_boot_servers(raw: bytes) -> tuple[BootServers, ...]:
    found = []
    at = 0
    while at < len(raw):
        if at + 3 > len(raw):
            raise WireError("PXE boot server list is truncated")
        begin = at + 3
        end = begin + 4 * raw[at + 2]
        if end > len(raw):
            raise WireError("PXE boot server list is truncated")
        found.append(BootServers(_uint16(raw, at), addresses(raw[begin:end]) if end > begin else ()))
        at = end
    return tuple(found)


def _read_menu(raw: bytes) -> tuple[MenuItem, ...]:
    found = []
    at = 0
    while at < len(raw):
        if at + 3 > len(raw):
            raise WireError("PXE boot menu is truncated")
        begin = at + 3
        end = begin + raw[at + 2]
        if end > len(raw):
            raise WireError("PXE boot menu is truncated")
        found.append(MenuItem(_uint16(raw, at), text(raw[begin:end])))
        at = end
    return tuple(found)


def _uint16(raw: bytes, at: int) -> int:
    return raw[at] << 8 | raw[at + 1]


def pack(options: VendorOptions) -> bytes:
    """Encode option 43, in the order of the codes and with an end marker.

    :raise ValueError: more than 255 bytes, or a value out of range: a mistake of the caller.
    """
    parts: dict[int, bytes] = {}
    if options.discovery_control is not None:
        parts[Suboption.DISCOVERY_CONTROL] = uint8_bytes(options.discovery_control)
    if options.boot_servers:
        parts[Suboption.BOOT_SERVERS] = b"".join(map(_boot_servers_bytes, options.boot_servers))
    if options.menu:
        parts[Suboption.BOOT_MENU] = b"".join(map(_menu_item_bytes, options.menu))
    if options.prompt is not None:
        parts[Suboption.MENU_PROMPT] = uint8_bytes(options.prompt.timeout) + text_bytes(options.prompt.text)
    if options.boot_item is not None:
        parts[Suboption.BOOT_ITEM] = uint16_bytes(options.boot_item.type) + uint16_bytes(options.boot_item.layer)
    if not _PARSED.isdisjoint(options.others):
        raise ValueError("a sub-option that has a field of its own is among the others")
    parts.update(options.others)
    raw = encapsulate(dict(sorted(parts.items())))
    if len(raw) > 255:
        raise ValueError(f"option 43 has {len(raw)} bytes: PXE clients don't join split ones")
    return raw


def _boot_servers_bytes(servers: BootServers) -> bytes:
    return uint16_bytes(servers.type) + uint8_bytes(len(servers.addresses)) + addresses_bytes(servers.addresses)


def _menu_item_bytes(item: MenuItem) -> bytes:
    description = text_bytes(item.description)
    return uint16_bytes(item.type) + uint8_bytes(len(description)) + description
