"""Who is asking: from a DHCP message to a BootRequest, or to why it is nobody of ours."""

from collections.abc import Callable, Mapping

from attrs import frozen

from bootfw.errors import WireError
from bootfw.values import BootRequest, OfferStyle, Persona
from bootfw.wire import options as codec
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import BOOTREQUEST, UNSPECIFIED, Message, MessageType
from bootfw.wire.iana import architecture_name
from bootfw.wire.options import Option, RelaySuboption

Match = Callable[..., Persona | None]
"""Personas.match. None: no boot client."""

# PXE specification 2.1, section 2.2.3: a boot server is asked by REQUEST; INFORM is what some boot programs use.
_BOOT_SERVER_TYPES = frozenset((MessageType.REQUEST, MessageType.INFORM))

_ANSWERED_TYPES = _BOOT_SERVER_TYPES | {MessageType.DISCOVER, None}


@frozen
class NotOurs:
    """A message that is not ours to answer."""

    reason: str
    """For the operator; "" when there is nothing to tell, as of the rest of a conversation with a DHCP server."""


def classify(
    message: Message,
    match: Match,
    *,
    boot_server: bool = False,
    addresses: bool = False,
    server: str = "",
    own_urls: tuple[str, str] = ("", ""),
    interface: str = "",
) -> BootRequest | NotOurs:
    """What *message* asks of a proxy.

    A malformed option never costs a client its boot: it counts as absent.

    :param boot_server: it came to the boot server's port, 4011.
    :param addresses: we are no proxy but give the addresses too: then REQUEST, INFORM and BOOTP matter as well, and
        clients that can't live with a second server.
    :param server: our address on the wire it came by.
    :param own_urls: where our own HTTP and HTTPS are reached from there; see BootRequest.
    :raise WireError: it is no request at all, or came by a relay that can't be one.
    """
    if message.op != BOOTREQUEST:
        raise WireError("a reply, and not a request")
    kind = message.message_type
    if boot_server:
        if kind not in _BOOT_SERVER_TYPES:
            name = kind.name if kind else "BOOTP"
            return NotOurs(f"{name} on the boot server's port, where REQUEST and INFORM are answered")
    elif addresses:
        if kind not in _ANSWERED_TYPES:
            return NotOurs("")
    elif kind is None:
        return NotOurs("BOOTP, which knows no proxy")
    elif kind is not MessageType.DISCOVER:
        return NotOurs("")
    if message.giaddr != UNSPECIFIED:
        _check_relay(message.giaddr, server)

    options = message.options
    traits = _Traits.of(message)
    vendor_class, architecture = traits.vendor_class, traits.architecture
    persona = traits.persona(message, match)
    if persona is None or (persona.may_be_system and persona.offer is OfferStyle.NONE and not addresses):
        said = f"its vendor class is {vendor_class[:60]!r}" if vendor_class else "it has no vendor class (option 60)"
        advice = f"; {persona.reason}" if persona else ""
        return NotOurs(f"not a client that a proxy can boot: {said}{advice}")
    if persona.offer is OfferStyle.NONE and not addresses:
        return NotOurs(persona.reason)
    relay = _relay_agent(message)
    return BootRequest(
        mac=message.mac,
        stage="boot-server" if boot_server else "request" if kind in _BOOT_SERVER_TYPES else "discover",
        persona=persona.name,
        architecture=persona.architecture or architecture,
        architecture_codes=traits.architecture_codes,
        uuid=_uuid(options.get(Option.CLIENT_MACHINE_IDENTIFIER, b"")),
        vendor_class=vendor_class,
        user_classes=traits.user_classes,
        ipxe=traits.ipxe,
        http=vendor_class.startswith("HTTPClient"),
        client_address=message.ciaddr,
        relay_address=message.giaddr,
        circuit_id=relay.get(RelaySuboption.CIRCUIT_ID),
        remote_id=relay.get(RelaySuboption.REMOTE_ID),
        server=server,
        http_url=own_urls[0],
        https_url=own_urls[1],
        interface=interface,
        xid=message.xid,
        boot_item=_boot_item(options.get(Option.VENDOR_SPECIFIC, b"")) if boot_server else None,
        may_be_system=persona.may_be_system,
        options=options,
    )


def persona_of(message: Message, match: Match) -> Persona | None:
    """The persona of the sender of *message*; None: it has none."""
    return _Traits.of(message).persona(message, match)


@frozen
class _Traits:
    """The parts of one message by which personas are recognized."""

    vendor_class: str
    architecture_codes: tuple[int, ...]
    architecture: str
    user_classes: tuple[str, ...]
    ipxe: bool

    @classmethod
    def of(cls, message: Message) -> "_Traits":
        options = message.options
        vendor_class = codec.text(options.get(Option.VENDOR_CLASS_IDENTIFIER, b""))
        codes = _architectures(options.get(Option.CLIENT_SYSTEM_ARCHITECTURE, b""))
        user_classes = tuple(map(codec.text, codec.user_classes(options.get(Option.USER_CLASS, b""))))
        ipxe = "iPXE" in user_classes or Option.IPXE_ENCAPSULATED in options
        return cls(vendor_class, codes, architecture_of(codes, vendor_class), user_classes, ipxe)

    def persona(self, message: Message, match: Match) -> Persona | None:
        return match(
            self.vendor_class,
            self.architecture,
            self.ipxe,
            user_classes=self.user_classes,
            mac=message.mac,
            requested=message.options.get(Option.PARAMETER_REQUEST_LIST, b""),
            bootp=message.message_type is None,
        )


def _check_relay(giaddr: str, server: str) -> None:
    first = int(giaddr.partition(".")[0])
    # Answering these would be answering ourselves or everybody: ourselves, loopback, multicast and above.
    if giaddr == server or first == 127 or first >= 224:
        raise WireError(f"{giaddr} can't be a relay")


def _architectures(raw: bytes) -> tuple[int, ...]:
    try:
        return codec.architectures(raw)
    except WireError:
        return ()


def architecture_of(codes: tuple[int, ...], vendor_class: str) -> str:
    """The name of the best of *codes*, or of what *vendor_class* says when there are none; "unknown"."""
    if codes:
        return architecture_name(codes[0])
    # "PXEClient:Arch:00007:UNDI:003010" says it too (PXE specification 2.1, section 2.2.2).
    words = vendor_class.split(":", 3)
    if len(words) > 2 and words[1] == "Arch" and len(words[2]) == 5 and words[2].isascii() and words[2].isdecimal():
        return architecture_name(int(words[2]))
    return "unknown"


def _boot_item(raw: bytes) -> int | None:
    item = pxe.boot_item(raw)
    return None if item is None else item.type


def _uuid(raw: bytes) -> str | None:
    try:
        return codec.machine_uuid(raw)
    except WireError:
        return None


def _relay_agent(message: Message) -> Mapping[int, bytes]:
    # RFC 3046 section 2.1: without a relay nobody trustworthy has put it there.
    if message.giaddr == UNSPECIFIED:
        return {}
    return codec.relay_agent(message.options.get(Option.RELAY_AGENT_INFORMATION, b""))
