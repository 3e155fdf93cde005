"""Who is asking by DHCPv6: from a message to a BootRequest, or to why it is nobody of ours."""

from collections.abc import Callable, Sequence
from uuid import UUID

from bootfw.dhcp.classify import NotOurs, architecture_of
from bootfw.dhcp.identity6 import user_classes, vendor_class
from bootfw.errors import WireError
from bootfw.values import BootRequest, OfferStyle, Persona
from bootfw.wire import options6 as codec
from bootfw.wire.dhcp6 import UNSPECIFIED, Message, MessageType, Relay
from bootfw.wire.options import text
from bootfw.wire.options6 import Option

_PROXIED = (MessageType.SOLICIT, MessageType.INFORMATION_REQUEST)
_ANSWERED = (*_PROXIED, MessageType.REQUEST)

_OF_NO_NETWORK = ("fe8", "fe9", "fea", "feb", "ff")
"""How link-local and multicast addresses begin."""

IPXE_HAS_NO_PROXY = (
    "iPXE takes its boot file from the DHCPv6 server that gives it its address, and from no proxy; let that server "
    "name it (option 59), or give no addresses by DHCPv6 (router advertisements with O and without M)"
)


def classify6(
    message: Message,
    relays: Sequence[Relay],
    match: Callable[..., Persona | None],
    *,
    mac: str = "",
    source: str = UNSPECIFIED,
    boot_server: bool = False,
    addresses: bool = False,
    server: str = "",
    own_urls: tuple[str, str] = ("", ""),
    interface: str = "",
) -> BootRequest | NotOurs:
    """What *message* asks as a boot client.

    A malformed option never costs a client its boot: it counts as absent.

    :param mac: of hardware_of().
    :param source: the client's link-local address.
    :param boot_server: it came to the boot server's port, 4011.
    :param addresses: we are no proxy but give the addresses too.
    :param server: our address on the wire it came by.
    :param own_urls: where our own HTTP and HTTPS are reached from there; see BootRequest.
    """
    kind = message.kind
    if boot_server:
        if kind is not MessageType.REQUEST:
            return NotOurs(f"{kind.name} on the boot server's port, where REQUEST is answered")
    elif kind not in (_ANSWERED if addresses else _PROXIED):
        return NotOurs("")
    vendor = text(vendor_class(message))
    codes = _numbers(message.first(Option.CLIENT_ARCHITECTURE) or b"")
    architecture = architecture_of(codes, vendor)
    classes = tuple(map(text, user_classes(message)))
    ipxe = "iPXE" in classes
    # Builds of iPXE before 2015 tell their user class only.
    persona = match(
        vendor or ("PXEClient" if ipxe else ""),
        architecture,
        ipxe,
        user_classes=classes,
        mac=mac,
        requested=_numbers(message.first(Option.OPTION_REQUEST) or b""),
        dhcp_version=6,
    )
    if persona is None or (persona.may_be_system and persona.offer is OfferStyle.NONE and not addresses):
        said = f"its vendor class is {vendor[:60]!r}" if vendor else "it has no vendor class (option 16)"
        advice = f"; {persona.reason}" if persona else ""
        return NotOurs(f"not a client that boots by DHCPv6: {said}{advice}")
    if not addresses:
        if persona.offer is OfferStyle.NONE:
            return NotOurs(persona.reason)
        if ipxe and kind is MessageType.SOLICIT:
            return NotOurs(IPXE_HAS_NO_PROXY)
    return BootRequest(
        mac=mac,
        stage="boot-server" if boot_server else "discover" if kind is MessageType.SOLICIT else "request",
        persona=persona.name,
        architecture=persona.architecture or architecture,
        architecture_codes=codes,
        uuid=_uuid(message.first(Option.CLIENT_ID) or b"", ipxe),
        vendor_class=vendor,
        user_classes=classes,
        ipxe=ipxe,
        http=vendor.startswith("HTTPClient"),
        client_address=relays[-1].peer if relays else source,
        relay_address=link_of(relays),
        circuit_id=_told(relays, Option.INTERFACE_ID),
        remote_id=_told(relays, Option.REMOTE_ID),
        server=server,
        http_url=own_urls[0],
        https_url=own_urls[1],
        interface=interface,
        xid=message.xid,
        options=dict(reversed(message.options)),
        family=6,
        duid=message.first(Option.CLIENT_ID) or b"",
        may_be_system=persona.may_be_system,
    )


def link_of(relays: Sequence[Relay]) -> str:
    """An address on the client's wire, of the innermost relay that tells one; "::" when none does.

    Switches that relay tell none (RFC 6221), and a link-local one says nothing about where that link is.
    """
    for relay in reversed(relays):
        if (
            relay.link != UNSPECIFIED
            and relay.link != "::1"
            and not relay.link.startswith(("fe8", "fe9", "fea", "feb", "ff"))
        ):
            return relay.link
    return UNSPECIFIED


def _told(relays: Sequence[Relay], code: int) -> bytes | None:
    """The option of the relay that is nearest to the client and has it."""
    for relay in reversed(relays):
        value = relay.first(code)
        if value is not None:
            return value
    return None


def _numbers(raw: bytes) -> tuple[int, ...]:
    try:
        return codec.uint16s(raw)
    except WireError:
        return ()


def _uuid(duid: bytes, ipxe: bool) -> str | None:
    """Of the machine, as dmidecode shows it. EDK2 sends it as the SMBIOS table has it, iPXE in network order."""
    machine = codec.duid_machine(duid)
    if not machine:
        return None
    return str(UUID(bytes=machine) if ipxe else UUID(bytes_le=machine))
