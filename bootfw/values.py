"""Frozen values that are passed between the layers."""

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

Address = tuple[str, int] | tuple[str, int, int, int]
"""A peer as the socket module gives it: (host, port), for IPv6 (host, port, flow info, scope id)."""

PROBE_UUIDS = "b0070000-0000-4000-8000-"
"""Beginning of the UUIDs that "bootfw probe" sends; the MAC of its client follows."""


def address_text(address: Sequence[Any]) -> str:
    """Format ``("fd77::1", 69)`` as ``[fd77::1]:69``."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@frozen(cache_hash=True)
class Via:
    """How a datagram arrived, so that the reply leaves the same way (IP_PKTINFO)."""

    local: str
    """Our address on that link, which becomes the source of the reply; "": not known."""
    interface: int
    """Index of the interface on which it arrived; 0: not known."""
    destination: str
    """Destination address in the IP header, which may be a broadcast or multicast address; "": not known."""


class Mode(enum.Enum):
    """TFTP transfer modes that are served (RFC 1350 section 1)."""

    OCTET = "octet"
    NETASCII = "netascii"

    # The members are singletons; Enum's own hash is a Python call.
    __hash__ = object.__hash__


@frozen(slots=False)  # with slots, each field would be set by a call
class Client:
    """The machine at an address, as far as DHCP has seen it: see :attr:`TransferRequest.client`."""

    address: str = ""
    """Its present IPv4 or IPv6 address."""
    mac: str = ""
    """Lower-case with colons; "" when not known."""
    uuid: str | None = None
    """Option 97 in SMBIOS text form, lower-case; None when it has not sent it."""
    architecture: str = "unknown"
    """Of wire/iana.py, such as "x86_64-uefi"."""
    persona: str = ""
    """The persona of its latest request for a boot file; "": there was none."""
    vendor_class: str = ""
    ipxe: bool = False
    """Its latest DHCP request was from iPXE."""
    http: bool = False
    """It boots by HTTP: option 60 begins with "HTTPClient"."""
    leased: bool = False
    """The MAC is that of the kernel's neighbour table for the address, or that to which we have leased the address.
    False: no more than the client itself has said connects the two."""


@frozen(slots=False)  # with slots, each field would be set by a call
class TransferRequest:
    """A request to read a file or to write one, by TFTP or HTTP."""

    filename: str
    """As the client wrote it, UTF-8 with surrogateescape."""
    path: str
    """The same, relative and with ``/`` only: no leading, doubled or backward slashes, no ``.`` parts.
    ``..`` parts are left in: a backend stops them at its root."""
    peer: Address
    local: str = ""
    """Our address that the request was sent to; "" when not known."""
    write: bool = False
    mode: Mode = Mode.OCTET
    options: tuple[tuple[str, str], ...] = ()
    """Options in the client's order and spelling (RFC 2347), each name once."""
    protocol: str = "tftp"
    ignore_case: bool = False
    """If the file does not exist, one whose name differs in upper and lower case is served: this client (Windows)
    ignores case."""
    client: Client = Client()
    """The machine that sent it. The lookup costs a system call, so it is made for an IPerClientBackend only: elsewhere,
    in events too, this is empty."""
    http_url: str = ""
    """URL at which that machine reaches the same files by HTTP, such as ``http://10.77.0.1:8069``; "": HTTP is not
    served. Filled in for an IPerClientBackend only, as *client*."""


@frozen
class Agreed:
    """The result of negotiation; the defaults are RFC 1350 without options."""

    blksize: int = 512
    """Bytes in a full DATA block (RFC 2348)."""
    windowsize: int = 1
    """Blocks in flight before an ACK is due (RFC 7440)."""
    timeout: int | None = None
    """Seconds between retransmissions that the client requests (RFC 2349), acknowledged or not; None: not requested."""
    tsize: int | None = None
    """Bytes of the file when both sides know it (RFC 2349)."""
    acknowledged: tuple[tuple[str, str], ...] = ()
    """The options of the OACK, in the client's order and spelling; empty: no OACK is sent."""


class Outcome(enum.Enum):
    """How a transfer ended."""

    # The members are singletons; Enum's own hash is a Python call.
    __hash__ = object.__hash__

    COMPLETE = "complete"
    UNCONFIRMED = "complete, last ACK missing"
    """Everything was acknowledged but the last block: many clients close their port before that ACK."""
    SIZE_PROBE = "size probe"
    """The client took tsize out of the OACK and ended with an ERROR: ordinary UEFI behaviour."""
    STOPPED_BY_PEER = "stopped by the client"
    TIMED_OUT = "timed out"
    FAILED = "failed"
    """Our side could not read or store the file."""
    HANDED_OVER = "handed over"
    """Another node goes on with it."""
    CANCELLED = "cancelled"
    """The server ended it: it stops, or the client sent another request from the same port."""


OACK_UNANSWERED = "the OACK was not answered"
"""The detail of a transfer that timed out before its first block: the client has never confirmed the options."""


@frozen(slots=False)  # with slots, each field would be set by a call
class TransferReport:
    """The result of a transfer; times in seconds on the reactor's clock."""

    request: TransferRequest
    agreed: Agreed
    outcome: Outcome
    detail: str
    """A sentence for the operator when there is more to say; else ""."""
    bytes_transferred: int
    """File bytes that the receiver has acknowledged (read) or we have stored (write)."""
    blocks: int
    retransmitted: int
    """Datagrams sent more than once."""
    began: float
    ended: float
    persona: str = ""
    """Name of the persona whose quirks the transfer followed; "": none."""
    waited: float = 0.0
    """How long a backend took to open the file, before the transfer began."""
    backend: str = ""
    """Name of that backend; "" when it returned the reader directly."""


DHCP_PHASES = ("discover", "request", "boot-server")
"""The values of ``phase`` of a request by DHCP."""


@frozen
class BootRequest:
    """A request of a client that boots, as classified from its DHCP packet."""

    mac: str
    """Hardware address, lower-case with colons; "" when it is not known, which by DHCPv6 may be."""
    phase: str
    """ "discover" (by DHCPv6 SOLICIT), "request" (also INFORMATION-REQUEST) or "boot-server" (port 4011). In a request
    of an IChainAware plugin the name of its protocol, such as "bootinfo"."""
    persona: str
    """Name of the matched persona, such as "pxe-bios", "uefi", "ipxe"."""
    architecture: str
    """Name of the client system architecture, such as "x86_64-uefi" (wire/iana.py); "unknown"."""
    architecture_codes: tuple[int, ...] = ()
    """Option 93 as sent (RFC 4578 section 2.1); by DHCPv6 option 61."""
    uuid: str | None = None
    """Option 97 type 0 in SMBIOS text form, lower-case; None when absent or malformed. By DHCPv6 that of the DUID."""
    vendor_class: str = ""
    user_classes: tuple[str, ...] = ()
    ipxe: bool = False
    """The client is iPXE already (option 77 "iPXE", or option 175)."""
    http: bool = False
    """The client boots by HTTP (option 60 begins with "HTTPClient")."""
    client_address: str = "0.0.0.0"
    """ciaddr; by DHCPv6 the link-local address that the request comes from."""
    relay_address: str = "0.0.0.0"
    """giaddr; 0.0.0.0, by DHCPv6 ::, when the client is on a network of ours."""
    link_address: str = ""
    """An address of the client's link, which says in which network the client is: that of link selection (RFC 3527),
    else of its relay, else ours; "": not known."""
    circuit_id: bytes | None = None
    """Option 82 sub-option 1 (RFC 3046), only when a relay is in the way; by DHCPv6 its interface id, option 18."""
    remote_id: bytes | None = None
    """Option 82 sub-option 2; by DHCPv6 option 37."""
    server: str = ""
    """Our address on the network the request came by, IPv6 without brackets; ``{server}`` in a name has them."""
    http_url: str = ""
    """Our own HTTP as this client reaches it, such as "http://10.77.0.1:8069"; "": it is not served."""
    https_url: str = ""
    """The same for HTTPS."""
    interface: str = ""
    xid: int = 0
    boot_item: int | None = None
    """The type of the BootMenuItem that was picked, when the client requests it of the boot server."""
    options: Mapping[int, bytes] = field(factory=dict, repr=False, eq=False)
    """Every option as received, code to bytes. DHCPv6 has codes of its own."""
    family: int = 4
    """4 or 6: the version of DHCP, and so of IP, that it uses."""
    duid: bytes = b""
    """Its identifier by DHCPv6. Firmware, boot program and system send different ones."""
    may_be_system: bool = False
    """Its request for a boot file is the only sign that it boots; an installed system may send one, too."""

    @property
    def is_dhcp(self) -> bool:
        """Whether it is a DHCP request; otherwise it was made by an IChainAware plugin, whose protocol is ``phase``."""
        return self.phase in DHCP_PHASES

    @property
    def stage(self) -> str:
        """The earlier name of ``phase``.

        :raise AttributeError: always, with the new name.
        """
        raise AttributeError('BootRequest.stage is called "phase" now')


class OfferStyle(enum.Enum):
    """The message by which a proxy names the boot file. What works depends on the firmware, so it is persona data."""

    FILE = "file"
    """In the OFFER."""
    BOOT_SERVER = "boot-server"
    """The OFFER names a boot server only; the client sends a request to its port 4011. A server that assigns
    the address names the file all the same."""
    NONE = "none"
    """No reply: the client fails if a second server answers."""


class Option43(enum.Enum):
    """The content of option 43 in a reply with a boot file, beside option 60 "PXEClient"."""

    NONE = "none"
    """Nothing."""
    USE_BOOT_FILE = "use-boot-file"
    """PXE discovery control 8: load the file of this answer, with no prompt, menu or boot server."""
    MENU = "menu"
    """The boot menu of a resolver; beside a file, the same as USE_BOOT_FILE."""
    RASPBERRY_PI = "raspberry-pi"
    """A PXE menu with one item, "Raspberry Pi Boot", by which the bootloader of a Pi 4 or 5 recognizes its server."""
    RASPBERRY_PI_3 = "raspberry-pi-3"
    """The same with three blanks after the text, which the ROM of a Pi 3 requires."""


@frozen
class TFTPQuirks:
    """How TFTP transfers differ for a client with quirks.

    Patterns are those of the fnmatch module, for paths as in :attr:`TransferRequest.path`. A byte that is not UTF-8
    counts as U+FFFD there.
    """

    refuse_options: frozenset[str] = frozenset()
    """Lower-case names of options that are left out of the OACK."""
    max_blksize: int | None = None
    """Bytes."""
    max_windowsize: int | None = None
    """Blocks."""
    empty_when_missing: tuple[str, ...] = ()
    """Patterns of files that are served empty if they are missing."""
    instead: Mapping[str, tuple[str, ...]] = field(factory=dict, hash=False)
    """Pattern -> paths to try instead of a missing file; ``{name}`` is its last part, ``{path}`` all of it."""
    ignore_case: bool = False
    """Serve a file whose name differs only in upper and lower case."""
    cut_names: bool = False
    """If a file is missing, try its name up to the first byte that is not text, and without the byte before that."""
    oack_once: bool = False
    """The client gives up at a second OACK: it is sent again for a repeated request, and by the timer once, late."""
    persona: str = field(default="", eq=False)
    """Name of the persona, for the operator."""


@frozen
class Persona:
    """A kind of client, and what it needs from a DHCP server."""

    name: str
    offer: OfferStyle
    option_43: Option43 = Option43.NONE
    reason: str = ""
    """For the operator: why there is no offer, when there is none."""
    architecture: str = ""
    """Its architecture, whatever it sends; "": the one that it sends."""
    tftp_server_options: tuple[int, ...] = ()
    """Options that its TFTP server is named in, beside siaddr: 66, 150."""
    takes_offer: bool = False
    """It uses the address of an OFFER and sends no REQUEST for it."""
    may_be_system: bool = False
    """Its request for a boot file is the only difference from an installed system."""


_OF_PHASE = re.compile(r"([a-z]{3,}):(?!//)")


def only_phase(name: str) -> str:
    """Return the only phase of a BootRequest that the boot file *name* is for; "": it is a path or a URL.

    A boot file that a boot program gets by a protocol of its own has the phase in front: "bootinfo:partition:2".
    """
    found = _OF_PHASE.match(name)
    return found[1] if found is not None else ""


@frozen
class BootFile:
    """The file that a client loads."""

    name: str
    """A path for TFTP or an absolute URL; by DHCPv6 a path is sent as a URL of TFTP. ``{http}``, ``{https}``,
    ``{server}``, ``{mac}``, ``{uuid}`` and ``{architecture}`` are filled in; ``{http}`` begins a URL of our own
    HTTP. Or what only a boot program can use, see only_phase()."""
    server: str | None = None
    """Address that serves it, of the client's family; None: this server."""
    content: bytes | None = field(default=None, repr=False)
    """The content of the file, which is then served under this name by TFTP and HTTP, before the backends are tried.
    All clients share the names, so a file for one client needs a name of its own, such as one with its MAC. None: the
    backends have the file."""
    configfile: str = ""
    """For PXELINUX: its configuration file, below *pathprefix* (RFC 5071, option 209). Placeholders as in *name*."""
    pathprefix: str = ""
    """For PXELINUX: prefix of every path, with its slash (RFC 5071, option 210). Placeholders as in *name*."""
    reboot_seconds: int | None = None
    """For PXELINUX: seconds after which it reboots if it has no kernel (RFC 5071, option 211)."""


@frozen
class ListedBootFile:
    """A boot file that a resolver may answer with, for :meth:`bootfw.interfaces.IListableResolver.boot_files`."""

    file: BootFile
    architecture: str = ""
    """The only architecture of wire/iana.py whose clients get it, or "ipxe"; "" when clients of several may."""
    option: str = ""
    """The option of the resolver that names it, such as ``clients[3]``; "" when it has one file only."""


MENU_BYTES = 255
"""Most bytes of a menu, which has to fit into one option."""


@frozen
class BootMenuItem:
    """An entry of a PXE boot menu."""

    description: str
    file: BootFile | None = None
    """None: the client continues with its next boot device, such as its disk."""
    type: int = 0
    """The PXE server type of the item; BootMenu assigns one to each file."""


def _typed(items: Iterable[BootMenuItem]) -> tuple[BootMenuItem, ...]:
    # From 32768 on they are the vendor's own (PXE specification 2.1, table 2-1).
    return tuple(
        evolve(item, type=item.type or 0x8000 + position) if item.file is not None else item
        for position, item in enumerate(items)
    )


@frozen
class BootMenu:
    """A menu that the client's own firmware shows (PXE specification 2.1, section 2.2.3); a resolver's answer.

    :raise ValueError: it is too large, or has no items.
    """

    items: tuple[BootMenuItem, ...] = field(converter=_typed)
    """The first is the default."""
    prompt: str = ""
    """Shown before the menu opens."""
    timeout_seconds: int = 10
    """How long the prompt is shown. 0: the first item is taken at once; 255: the menu opens and waits."""

    def __attrs_post_init__(self) -> None:
        if not self.items:
            raise ValueError("a menu needs items")
        if not 0 <= self.timeout_seconds <= 255:
            raise ValueError(f"a menu waits 0 to 255 seconds, not {self.timeout_seconds}")
        # Discovery control, boot servers, menu, prompt and end, each with its header (bootfw.wire.pxe).
        descriptions = [len(item.description.encode("utf-8", "surrogateescape")) for item in self.items]
        files = sum(1 for item in self.items if item.file is not None)
        prompt = len(self.prompt.encode("utf-8", "surrogateescape"))
        size = 3 + (2 + 7 * files if files else 0) + 2 + sum(3 + length for length in descriptions) + 3 + prompt + 1
        if size > MENU_BYTES:
            raise ValueError(f"the menu takes {size} bytes; there is room for {MENU_BYTES}: use shorter texts")


@frozen(order=True)
class Finding:
    """A mistake that keeps a machine from booting: a line of ``bootfw lint``."""

    file: str
    """Path on this host, followed by ``:LINE`` if known. For a missing file, the file that names it."""
    rule: str
    """A word for mistakes of this kind, such as "architecture"."""
    reason: str
    """What is wrong, one sentence without a full stop."""
    remedy: str
    """What would be right."""


@frozen
class SocketStatus:
    """A socket that a service wants, and whether clients can reach it."""

    service: str
    """ "tftp", "dhcp", "boot-server", "dhcp6", "boot-server6", "http", "https" or "web"; "interface" stands for one in
    the configuration that no socket is bound to."""
    address: Address
    """Host and port. For a network that DHCP serves: the network and the port."""
    device: str
    """The interface that it is bound to; "": all of them."""
    state: str
    """ "waiting": its interface or address does not exist; "bound": clients can reach it; "held": another program has
    the port, and "failed": the kernel refuses it, both of which are retried every second; "closed"."""
    reason: str
    """What it waits for, which program has its port, or why the kernel refuses it; "" when it is bound."""
    since: float
    """When it entered the state, in seconds on the reactor's clock."""
    optional: bool = False
    """Whether the service is ready without it."""


class PowerState(enum.Enum):
    """Whether a machine is on."""

    ON = "on"
    OFF = "off"
    POWERING_ON = "powering on"
    POWERING_OFF = "powering off"
    UNKNOWN = "unknown"
    """Its controller says something else, or nothing."""


class PowerAction(enum.Enum):
    """What is done to the power of a machine."""

    ON = "on"
    """A machine that is on stays on."""
    OFF = "off"
    """At once, without its system being shut down. A machine that is off stays off."""
    RESET = "reset"
    """It starts anew, without its system being shut down; a machine that is off is switched on."""
