"""The programs (firmware, boot loaders) that simulated machines run, and the boots that consist of them, as data.

``boots.toml`` beside this module has those that come with bootfw; a scenario may add its own in the same form. Timers
are those of the real programs, measured or read in their source; the file says which.
"""

from collections.abc import Iterable
from typing import Literal

from attrs import field, frozen


def _numbers(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _integers(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(values)


def _triple(values: Iterable[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _pairs(values: Iterable[Iterable[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in values)


def _names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@frozen
class Program:
    """A firmware or boot loader, as a server sees it. Times are in seconds.

    *discover*, *request*, *boot_server*, *open* and *ack* are the waits of one packet: the first one after it was sent
    first, the second after it was sent again, and so on. When the last one is over, the program gives up.
    """

    name: str
    # DHCP
    vendor_class: str = ""
    """Option 60; "": not sent."""
    architecture: int | None = None
    """Option 93; None: not sent."""
    undi: tuple[int, ...] | None = field(default=None, converter=_triple, metadata={"toml": tuple[int, int, int]})
    """Option 94: type, major, minor; None: not sent."""
    user_class: str = ""
    """Option 77, without lengths as iPXE sends it; "": not sent."""
    has_uuid: bool = False
    """Option 97 is sent."""
    broadcast: bool = False
    """The broadcast flag is set (RFC 2131 section 4.1)."""
    max_message_size: int | None = None
    """Option 57; None: not sent."""
    requested: tuple[int, ...] = field(default=(1, 3, 6), converter=_integers)
    """Option 55."""
    discover: tuple[float, ...] = field(default=(), converter=_numbers)
    """Waits of a DISCOVER."""
    selection: Literal["first", "proxy-window", "slot"] = "first"
    """When an offer is chosen: "first", as soon as one is there; "proxy-window", when there is one of an address and
    one of a boot file, or after *proxy_window*; "slot", when the wait after a DISCOVER is over."""
    proxy_window: float = 0.0
    """Since the first DISCOVER."""
    request: tuple[float, ...] = field(default=(), converter=_numbers)
    """Waits of a REQUEST."""
    boot_server: tuple[float, ...] = field(default=(), converter=_numbers)
    """Waits of the request to port 4011; empty: the program sends none."""
    boot_server_port: int = 68
    """Where that request comes from."""
    # TFTP
    options: tuple[tuple[str, str], ...] = field(default=(), converter=_pairs)
    """(name, value) of the options of a read request, in order."""
    open: tuple[float, ...] = field(default=(), converter=_numbers)
    """Waits of a read request."""
    ack: tuple[float, ...] = field(default=(), converter=_numbers)
    """Waits of an ACK, for the next block."""
    old_block: Literal["ack-last", "ack-it", "silent"] = "ack-last"
    """What answers a block that came before: an ACK of the latest block, of that block, or nothing."""
    repeats_ack: bool = True
    """False: when no block follows, the program waits for as long as *ack* says and sends nothing (GRUB)."""
    # HTTP
    user_agent: str = ""
    head: bool = False
    """A HEAD request goes before each GET (EDK2)."""
    http_patience: float = 60.0
    """Time without a byte after which the program gives a download up."""


@frozen
class Step:
    """One thing that a machine does."""

    do: Literal["dhcp", "load", "pause"]
    """"dhcp": get an address and the name of a boot file. "load": fetch files by TFTP or HTTP. "pause": nothing, while
    a program starts."""
    program: str = ""
    """The name of the one that does it."""
    files: tuple[str, ...] = field(default=("{file}",), converter=_names)
    """To load, in order: paths for TFTP, or URLs. ``{file}`` is the one that DHCP has named. A path after a file that
    came by HTTP is relative to that file's URL. ``{mac}``, ``{mac-dashes}``, ``{uuid}`` and ``{address}`` are those of
    the machine, ``{address-hex}`` is the address in upper-case hex."""
    search: bool = False
    """The first of *files* that exists is loaded, and it is no failure when none does (PXELINUX's configuration)."""
    may_be_missing: bool = False
    """A file that does not exist is no failure."""
    probe: bool = False
    """The size is requested first, in a transfer of its own that ERROR 8 ends (EDK2)."""
    stat: bool = False
    """The request is left alone after its first answer, without an ERROR (FreeBSD loader's stat())."""
    hesitates: float = 0.0
    """Seconds until an OACK is acknowledged (PXELINUX reads files when it needs them: Launchpad #1155556)."""
    seconds: float = 0.0
    """How long a "pause" takes."""


@frozen
class Boot:
    """A whole boot, from power-on to the last file."""

    name: str
    steps: tuple[Step, ...] = field(metadata={"tables": Step})
    about: str = field(default="", eq=False)
    """One sentence for the list of boots."""
