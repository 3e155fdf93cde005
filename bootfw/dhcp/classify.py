"""Classification: read a DHCP message as a BootRequest, or return the reason why it is ignored.

DHCPv4 and DHCPv6 share the traits of a client and the match with a persona.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from socket import inet_ntoa
from uuid import UUID

from attrs import frozen

from bootfw.dhcp.identity import machine_uuid, user_classes6, vendor_class6
from bootfw.errors import WireError
from bootfw.values import BootRequest, OfferStyle, Persona
from bootfw.wire import dhcp4, dhcp6, options6, pxe
from bootfw.wire.dhcp4 import BOOTREQUEST
from bootfw.wire.dhcp6 import Relay
from bootfw.wire.iana import architecture_name
from bootfw.wire.options import Option, RelaySuboption, architectures, relay_agent, text, user_classes
from bootfw.wire.options6 import Option as Option6

Match = Callable[..., Persona | None]
"""The type of Personas.match; it returns None for a client that does not boot."""

# PXE specification 2.1, section 2.2.3: clients send a boot server a REQUEST; some boot programs send INFORM.
_BOOT_SERVER_TYPES = frozenset(bytes((kind,)) for kind in (dhcp4.MessageType.REQUEST, dhcp4.MessageType.INFORM))
_DISCOVER = bytes((dhcp4.MessageType.DISCOVER,))
_SERVER_TYPES = _BOOT_SERVER_TYPES | {_DISCOVER, None}
_MESSAGE_TYPE = Option.MESSAGE_TYPE

_PROXY_TYPES6 = frozenset((dhcp6.MessageType.SOLICIT, dhcp6.MessageType.INFORMATION_REQUEST))
_SERVER_TYPES6 = _PROXY_TYPES6 | {dhcp6.MessageType.REQUEST}

_LINK_LOCAL_OR_MULTICAST = ("fe8", "fe9", "fea", "feb", "ff")
"""Prefixes of IPv6 addresses that are link-local or multicast."""

IPXE_HAS_NO_PROXY = (
    "iPXE takes its boot file from the DHCPv6 server that gives it its address, and from no proxy; let that server "
    "name it (option 59), or give no addresses by DHCPv6 (router advertisements with O and without M)"
)

_CACHED = 256
"""Entries of the cache of traits. A site has some dozens of kinds of clients; the limit is for hostile ones."""


@frozen
class Ignored:
    """A message that gets no boot file."""

    reason: str
    """For the operator; "" when there is nothing to report, such as a conversation with another DHCP server."""


@frozen
class Traits:
    """The options of a client that say what kind of machine and program it is."""

    vendor_class: str
    architecture_codes: tuple[int, ...]
    user_classes: tuple[str, ...]
    ipxe: bool
    architecture: str
    """IANA's name of the first architecture code; "unknown" if the client sends none."""


def classify(
    message: dhcp4.Message,
    match: Match,
    *,
    boot_server: bool = False,
    assigns_addresses: bool = False,
    server: str = "",
    own_urls: tuple[str, str] = ("", ""),
    interface: str = "",
    mac: str | None = None,
) -> BootRequest | Ignored:
    """Return the boot request in a DHCPv4 message, or why it is ignored.

    A malformed option counts as absent: it never costs a client its boot.

    :param boot_server: the message arrived on the boot server's port, 4011.
    :param assigns_addresses: this is a DHCP server, not a proxy: it also answers REQUEST, INFORM and BOOTP, and clients
        that don't work with a proxy.
    :param server: our address on the link of the client.
    :param own_urls: URLs of our HTTP and HTTPS servers as this client reaches them; see BootRequest.
    :param mac: MAC address of the client; None: it is read from the message.
    :raise WireError: the message is not a request, or giaddr can't be the address of a relay.
    """
    if message.op != BOOTREQUEST:
        raise WireError("a reply, and not a request")
    kind = message.options.get(_MESSAGE_TYPE)
    if boot_server:
        if kind not in _BOOT_SERVER_TYPES:
            name = "BOOTP" if kind is None else dhcp4.MessageType(kind[0]).name
            return Ignored(f"{name} on the boot server's port, where REQUEST and INFORM are answered")
    elif assigns_addresses:
        if kind not in _SERVER_TYPES:
            return Ignored("")
    elif kind is None:
        return Ignored("BOOTP, which knows no proxy")
    elif kind != _DISCOVER:
        return Ignored("")
    options, giaddr, link = message.options, message.giaddr, server
    if mac is None:
        mac = message.mac
    agent: Mapping[int, bytes] = {}
    if giaddr != dhcp4.UNSPECIFIED:
        first = int(giaddr.partition(".")[0])
        # A reply to these would go to ourselves (also loopback) or to many hosts (multicast and above).
        if giaddr == server or first == 127 or first >= 224:
            raise WireError(f"{giaddr} can't be a relay")
        # Only a relay can be trusted with this option (RFC 3046 section 2.1).
        agent = relay_agent(options.get(Option.RELAY_AGENT_INFORMATION, b""))
        selected = agent.get(RelaySuboption.LINK_SELECTION, b"")
        link = inet_ntoa(selected) if len(selected) == 4 else giaddr
    traits = _traits4(
        options.get(Option.VENDOR_CLASS_IDENTIFIER, b""),
        options.get(Option.CLIENT_SYSTEM_ARCHITECTURE, b""),
        options.get(Option.USER_CLASS, b""),
        Option.IPXE_ENCAPSULATED in options,
    )
    persona = match(
        traits.vendor_class,
        traits.architecture,
        traits.ipxe,
        user_classes=traits.user_classes,
        mac=mac,
        requested=options.get(Option.PARAMETER_REQUEST_LIST, b""),
        bootp=kind is None,
    )
    if persona is None or (persona.offer is OfferStyle.NONE and not assigns_addresses):
        return _no_boot_file(persona, traits.vendor_class, "that a proxy can boot", Option.VENDOR_CLASS_IDENTIFIER)
    return BootRequest(
        mac=mac,
        phase="boot-server" if boot_server else "request" if kind in _BOOT_SERVER_TYPES else "discover",
        persona=persona.name,
        architecture=persona.architecture or traits.architecture,
        architecture_codes=traits.architecture_codes,
        uuid=machine_uuid(options.get(Option.CLIENT_MACHINE_IDENTIFIER, b"")) or None,
        vendor_class=traits.vendor_class,
        user_classes=traits.user_classes,
        ipxe=traits.ipxe,
        http=traits.vendor_class.startswith("HTTPClient"),
        client_address=message.ciaddr,
        relay_address=giaddr,
        link_address=link,
        circuit_id=agent.get(RelaySuboption.CIRCUIT_ID),
        remote_id=agent.get(RelaySuboption.REMOTE_ID),
        server=server,
        http_url=own_urls[0],
        https_url=own_urls[1],
        interface=interface,
        xid=message.xid,
        boot_item=_boot_item(options.get(Option.VENDOR_SPECIFIC, b"")) if boot_server else None,
        may_be_system=persona.may_be_system,
        options=options,
    )


def classify6(
    message: dhcp6.Message,
    relays: Sequence[Relay],
    match: Match,
    *,
    mac: str = "",
    source: str = dhcp6.UNSPECIFIED,
    boot_server: bool = False,
    assigns_addresses: bool = False,
    server: str = "",
    own_urls: tuple[str, str] = ("", ""),
    interface: str = "",
) -> BootRequest | Ignored:
    """Return the boot request in a DHCPv6 message, or why it is ignored; see classify().

    :param mac: MAC address of the client, see client_mac().
    :param source: the client's link-local address.
    """
    kind = message.kind
    if boot_server:
        if kind is not dhcp6.MessageType.REQUEST:
            return Ignored(f"{kind.name} on the boot server's port, where REQUEST is answered")
    elif kind not in (_SERVER_TYPES6 if assigns_addresses else _PROXY_TYPES6):
        return Ignored("")
    codes = _uint16s(message.first(Option6.CLIENT_ARCHITECTURE) or b"")
    traits = _traits(vendor_class6(message), codes, user_classes6(message))
    duid = message.first(Option6.CLIENT_ID) or b""
    persona = match(
        # Builds of iPXE before 2015 send a user class only.
        traits.vendor_class or ("PXEClient" if traits.ipxe else ""),
        traits.architecture,
        traits.ipxe,
        user_classes=traits.user_classes,
        mac=mac,
        requested=_uint16s(message.first(Option6.OPTION_REQUEST) or b""),
        dhcp_version=6,
    )
    if persona is None or (persona.offer is OfferStyle.NONE and not assigns_addresses):
        return _no_boot_file(persona, traits.vendor_class, "that boots by DHCPv6", Option6.VENDOR_CLASS)
    if not assigns_addresses and traits.ipxe and kind is dhcp6.MessageType.SOLICIT:
        return Ignored(IPXE_HAS_NO_PROXY)
    return BootRequest(
        mac=mac,
        phase="boot-server" if boot_server else "discover" if kind is dhcp6.MessageType.SOLICIT else "request",
        persona=persona.name,
        architecture=persona.architecture or traits.architecture,
        architecture_codes=traits.architecture_codes,
        uuid=_duid_uuid(duid, traits.ipxe),
        vendor_class=traits.vendor_class,
        user_classes=traits.user_classes,
        ipxe=traits.ipxe,
        http=traits.vendor_class.startswith("HTTPClient"),
        client_address=relays[-1].peer if relays else source,
        relay_address=link_address(relays),
        link_address=(link_address(relays) if relays else "") or server,
        circuit_id=_innermost(relays, Option6.INTERFACE_ID),
        remote_id=_innermost(relays, Option6.REMOTE_ID),
        server=server,
        http_url=own_urls[0],
        https_url=own_urls[1],
        interface=interface,
        xid=message.xid,
        options=dict(reversed(message.options)),
        family=6,
        duid=duid,
        may_be_system=persona.may_be_system,
    )


# Shared by DHCPv4 and DHCPv6


@lru_cache(_CACHED)
def _traits4(vendor_class: bytes, raw_architectures: bytes, user_class: bytes, ipxe: bool) -> Traits:
    """Cached: all machines of one model send the same options."""
    try:
        codes = architectures(raw_architectures)
    except WireError:
        codes = ()
    return _traits(vendor_class, codes, user_classes(user_class), ipxe)


def _traits(vendor_class: bytes, codes: tuple[int, ...], user_classes: Collection[bytes], ipxe: bool = False) -> Traits:
    vendor, classes = text(vendor_class), tuple(map(text, user_classes))
    return Traits(vendor, codes, classes, ipxe or "iPXE" in classes, _architecture(codes, vendor))


def _architecture(codes: Sequence[int], vendor_class: str) -> str:
    """Return the name of the first of *codes*, else of the code in *vendor_class*, else "unknown"."""
    if codes:
        return architecture_name(codes[0])
    # "PXEClient:Arch:00007:UNDI:003010" has it too (PXE specification 2.1, section 2.2.2).
    parts = vendor_class.split(":", 3)
    if len(parts) > 2 and parts[1] == "Arch" and len(parts[2]) == 5 and parts[2].isascii() and parts[2].isdecimal():
        return architecture_name(int(parts[2]))
    return "unknown"


def _no_boot_file(persona: Persona | None, vendor_class: str, clients: str, option: int) -> Ignored:
    """Return why a client gets no boot file.

    :param persona: None, or a persona without an offer.
    :param clients: which clients get one, for the message.
    :param option: code of the vendor class option.
    """
    if persona is not None and not persona.may_be_system:
        return Ignored(persona.reason)
    description = (
        f"its vendor class is {vendor_class[:60]!r}" if vendor_class else f"it has no vendor class (option {option})"
    )
    advice = f"; {persona.reason}" if persona else ""
    return Ignored(f"not a client {clients}: {description}{advice}")


# DHCPv4


def _boot_item(raw: bytes) -> int | None:
    item = pxe.boot_item(raw)
    return None if item is None else item.type


# DHCPv6


def link_address(relays: Sequence[Relay]) -> str:
    """Return the link address of the innermost relay that has one; "::" if none has.

    Switches that relay send none (RFC 6221), and a link-local address does not say which link it is on.
    """
    for relay in reversed(relays):
        link = relay.link
        if link not in (dhcp6.UNSPECIFIED, "::1") and not link.startswith(_LINK_LOCAL_OR_MULTICAST):
            return link
    return dhcp6.UNSPECIFIED


def _innermost(relays: Sequence[Relay], code: int) -> bytes | None:
    """Return an option of the relay nearest to the client that sends it."""
    for relay in reversed(relays):
        value = relay.first(code)
        if value is not None:
            return value
    return None


def _uint16s(raw: bytes) -> tuple[int, ...]:
    try:
        return options6.uint16s(raw)
    except WireError:
        return ()


def _duid_uuid(duid: bytes, ipxe: bool) -> str | None:
    """Return the machine's UUID as dmidecode shows it. EDK2 sends it as in the SMBIOS table, iPXE in network order."""
    machine = options6.duid_machine(duid)
    if not machine:
        return None
    return str(UUID(bytes=machine) if ipxe else UUID(bytes_le=machine))
