"""Frozen values that travel between the layers."""

import enum
from collections.abc import Callable, Mapping

from attrs import field, frozen

Address = tuple[str, int] | tuple[str, int, int, int]
"""A peer as the socket module gives it: (host, port), for IPv6 (host, port, flow info, scope id)."""


@frozen
class Via:
    """How a datagram reached us, so that its answer leaves the same way (IP_PKTINFO)."""

    local: str
    """Our address on that wire, to be the source of the answer; "" when not known."""
    interface: int
    """Index of the interface it arrived on; 0 when not known."""
    destination: str
    """Destination in the datagram's IP header: tells broadcast and multicast; "" when not known."""


class Mode(enum.Enum):
    """TFTP transfer modes that are served (RFC 1350 section 1)."""

    OCTET = "octet"
    NETASCII = "netascii"


@frozen
class Client:
    """The machine behind an address, as far as it has told who it is: see :attr:`TransferRequest.client`."""

    address: str = ""
    """IPv4 or IPv6, that it has now."""
    mac: str = ""
    """Lower-case with colons; "" when not known."""
    uuid: str | None = None
    """Option 97 in SMBIOS text form, lower-case; None when it has not told."""
    architecture: str = "unknown"
    """Of wire/iana.py, such as "x86_64-uefi"."""
    persona: str = ""
    """Of its latest request for a boot file; "" when there was none."""
    vendor_class: str = ""
    ipxe: bool = False
    """It was iPXE that asked last."""
    http: bool = False
    """It boots by HTTP: option 60 begins with "HTTPClient"."""


@frozen
class TransferRequest:
    """A file is asked for, or offered to us."""

    filename: str
    """As the client wrote it, UTF-8 with surrogateescape."""
    path: str
    """The same, relative and with ``/`` only: no leading, doubled or backward slashes, no ``.`` parts.
    ``..`` parts are left in: a backend stops them at its root."""
    peer: Address
    local: str = ""
    """Our address that was asked; "" when not known."""
    write: bool = False
    mode: Mode = Mode.OCTET
    options: tuple[tuple[str, str], ...] = ()
    """Options in the client's order and spelling (RFC 2347), each name once."""
    protocol: str = "tftp"
    lookup: Callable[[Address], Client] | None = field(default=None, repr=False, eq=False)
    own_urls: Callable[[str], tuple[str, str]] | None = field(default=None, repr=False, eq=False)

    @property
    def client(self) -> Client:
        """Who asks. Looked up each time, in the reactor's thread; so it costs nothing where nobody wants to know."""
        return self.lookup(self.peer) if self.lookup is not None else Client(self.peer[0])

    @property
    def http_url(self) -> str:
        """Where the same files are served by HTTP, such as ``http://10.77.0.1:8069``; "" when they are not."""
        return self.own_urls(self.local)[0] if self.own_urls is not None else ""


@frozen
class Agreed:
    """What negotiation came to; the defaults are RFC 1350 without options."""

    blksize: int = 512
    """Octets in a full DATA block (RFC 2348)."""
    windowsize: int = 1
    """Blocks in flight before an ACK is due (RFC 7440)."""
    timeout: int | None = None
    """Seconds between retransmissions that the client asked for (RFC 2349); None: ours to choose."""
    tsize: int | None = None
    """Octets of the file when both sides know it (RFC 2349)."""
    acknowledged: tuple[tuple[str, str], ...] = ()
    """What the OACK says, in the client's order and spelling; empty: no OACK is sent."""


class Outcome(enum.Enum):
    """How a transfer ended."""

    COMPLETE = "complete"
    UNCONFIRMED = "complete, last ACK missing"
    """Everything was acknowledged but the last block: many clients close their port before that ACK."""
    SIZE_PROBE = "size probe"
    """The client took tsize out of the OACK and ended with an ERROR: ordinary UEFI behaviour."""
    STOPPED_BY_PEER = "stopped by the client"
    TIMED_OUT = "timed out"
    FAILED = "failed"
    """Our side could not read or store the file."""
    CANCELLED = "cancelled"
    """Our side ended it: shutdown, or the client began something else on the same port."""


@frozen
class TransferReport:
    """The final account of one transfer; times in seconds on the reactor's clock."""

    request: TransferRequest
    agreed: Agreed
    outcome: Outcome
    detail: str
    """A sentence for the operator when there is more to say; else ""."""
    octets: int
    """File octets that the receiver has acknowledged (read) or we have stored (write)."""
    blocks: int
    retransmitted: int
    """Datagrams sent more than once."""
    began: float
    ended: float


@frozen
class BootRequest:
    """A client that wants to boot, as classification understood its DHCP packet."""

    mac: str
    """Hardware address, lower-case with colons."""
    stage: str
    """ "discover", "request" or "boot-server" (port 4011)."""
    persona: str
    """Name of the matched persona, such as "pxe-bios", "uefi", "ipxe"."""
    architecture: str
    """Name of the client system architecture, such as "x86_64-uefi" (wire/iana.py); "unknown"."""
    architecture_codes: tuple[int, ...] = ()
    """Option 93 as sent (RFC 4578 section 2.1)."""
    uuid: str | None = None
    """Option 97 type 0 in SMBIOS text form, lower-case; None when absent or malformed."""
    vendor_class: str = ""
    user_classes: tuple[str, ...] = ()
    ipxe: bool = False
    """The client is iPXE already (option 77 "iPXE", or option 175)."""
    http: bool = False
    """The client boots by HTTP (option 60 begins with "HTTPClient")."""
    client_address: str = "0.0.0.0"
    """ciaddr."""
    relay_address: str = "0.0.0.0"
    """giaddr; 0.0.0.0 when the client is on our wire."""
    circuit_id: bytes | None = None
    """Option 82 sub-option 1 (RFC 3046), only when a relay is in the way."""
    remote_id: bytes | None = None
    """Option 82 sub-option 2."""
    server: str = ""
    """Our address on the wire the request came by."""
    http_url: str = ""
    """How it reaches our own HTTP, such as "http://10.77.0.1:8069"; "": not at all."""
    https_url: str = ""
    """The same for HTTPS."""
    interface: str = ""
    xid: int = 0
    options: Mapping[int, bytes] = field(factory=dict, repr=False, eq=False)
    """Every option as received, code to octets."""


class OfferStyle(enum.Enum):
    """How a proxy tells a client of its boot file. Which one works is up to the firmware, so it is persona data."""

    FILE_IN_OFFER = "file-in-offer"
    """In the OFFER, with the PXE discovery control that says: no prompt, no menu, no boot server."""
    BOOT_SERVER = "boot-server"
    """The OFFER names a boot server only; the client asks that on port 4011."""
    PLAIN_FILE = "plain-file"
    """In the OFFER, without PXE vendor options."""
    NONE = "none"
    """Not at all: the client can't live with a second server."""


@frozen
class Persona:
    """A kind of client, and how it wants to be treated."""

    name: str
    offer: OfferStyle
    reason: str = ""
    """For the operator: why there is no offer, when there is none."""


@frozen
class BootFile:
    """What a client is told to load."""

    name: str
    """A path for TFTP or an absolute URL. ``{http}``, ``{https}``, ``{server}``, ``{mac}``, ``{uuid}`` and
    ``{architecture}`` are filled in; ``{http}`` begins a URL of our own HTTP."""
    server: str | None = None
    """IPv4 address that serves it; None: this server."""
    content: bytes | None = field(default=None, repr=False)
    """The file itself: it is served under this name, by TFTP and HTTP, in place of what backends have there. Names are
    shared by all clients, so what is made for one of them needs a name of its own, such as one with its MAC in it.
    None: backends have it."""
