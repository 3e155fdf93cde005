"""What a node boots: as an operator writes it, and as bootinfo and tmcd send it."""

import enum
import ipaddress
import struct

from attrs import field, frozen

PHASE = "bootinfo"
"""The phase of requests to the resolver chain. With a colon, the prefix of the names of boot files in its answers."""

LONGEST_PATH = 255
"""Bytes of ``host:path`` of an MFS, or of the path of a multiboot kernel, without its NUL."""

LONGEST_COMMAND_LINE = 223
"""Bytes of a command line, without its NUL."""

_DATA = struct.Struct("<hh260s")


class Kind(enum.Enum):
    """The types of bootinfo, with their numbers."""

    PARTITION = 1
    SYSID = 2
    MULTIBOOT = 3
    WAIT = 4
    REBOOT = 5
    AUTO = 6
    MFS = 7
    RESTART = 8
    DISK = 9


_WORDS = {kind.name.lower(): kind for kind in Kind}
_EXAMPLES = '"partition:2", "sysid:165", "disk:0x80:1", "multiboot:/kernel", "mfs:/frisbee", "wait", "reboot" or "auto"'
_BOOTING = frozenset((Kind.PARTITION, Kind.SYSID, Kind.MULTIBOOT, Kind.MFS, Kind.DISK))


@frozen
class BootWhat:
    """What a node boots."""

    kind: Kind
    number: int = 0
    """Of the partition, or the type of a partition in the MBR."""
    disk: int = 0
    """Number of the disk in the BIOS, for DISK."""
    host: str = ""
    """Where the kernel or the MFS is; "": on this server. For MULTIBOOT an IPv4 address."""
    path: str = ""
    command_line: str = ""
    text: str = field(default="", eq=False)
    """As the operator has written it."""

    @property
    def boots(self) -> bool:
        """Whether it is a system to boot; otherwise the node waits, starts again or asks again."""
        return self.kind in _BOOTING

    @property
    def what(self) -> str:
        """The word WHAT of tmcd's "bootwhat": the partition or the path; "": it has none."""
        if self.kind in (Kind.PARTITION, Kind.SYSID):
            return str(self.number)
        return self._location if self.kind is Kind.MFS else ""

    @property
    def _location(self) -> str:
        return f"{self.host}:{self.path}" if self.host else self.path

    def pack(self, server: str) -> bytes:
        """Return the data of a reply or an order: flags, type, union and command line.

        :param server: IPv4 address of this server, for a multiboot kernel that is here.
        """
        union = b""
        if self.kind in (Kind.PARTITION, Kind.SYSID):
            union = struct.pack("<i", self.number)
        elif self.kind is Kind.DISK:
            union = struct.pack("<ii", self.disk, self.number)
        elif self.kind is Kind.MULTIBOOT:
            union = ipaddress.IPv4Address(self.host or server or "0.0.0.0").packed + self.path.encode()
        elif self.kind is Kind.MFS:
            union = self._location.encode()
        return _DATA.pack(1 if self.command_line else 0, self.kind.value, union) + self.command_line.encode()


def boot_what(text: str) -> BootWhat:
    """Parse the text of an operator: ``partition:2``, with a command line ``partition:2 console=sio1``.

    :raise ValueError: it is invalid; the message says why, and what would be right.
    """
    boot, _, command_line = text.partition(" ")
    word, _, rest = boot.partition(":")
    kind = _WORDS.get(word)
    command_line = command_line.strip()
    if kind is None or not text.isprintable():
        raise ValueError(f'must be one of {_EXAMPLES}, not "{text}"')
    if len(command_line.encode()) > LONGEST_COMMAND_LINE:
        raise ValueError(f"the command line has {len(command_line.encode())} bytes, and {LONGEST_COMMAND_LINE} at most")
    try:
        values = _read(kind, rest)
    except ValueError as error:
        raise ValueError(f'"{boot}": {error}') from None
    return BootWhat(kind, *values, command_line, text)


def _read(kind: Kind, rest: str) -> tuple[int, int, str, str]:
    """Return (number, disk, host, path) of BootWhat, from the text after the colon."""
    if kind in (Kind.PARTITION, Kind.SYSID):
        return _number(rest), 0, "", ""
    if kind is Kind.DISK:
        disk, _, partition = rest.partition(":")
        return _number(partition), _number(disk), "", ""
    if kind in (Kind.MULTIBOOT, Kind.MFS):
        host, colon, path = rest.rpartition(":") if not rest.startswith("/") else ("", "", rest)
        if not path.startswith("/") or (colon and not host):
            raise ValueError('needs an absolute path, such as "mfs:/tftpboot/frisbee" or "mfs:10.0.0.1:/frisbee"')
        if kind is Kind.MULTIBOOT and host:
            host = str(ipaddress.IPv4Address(host))
        if len(rest.encode()) > LONGEST_PATH:
            raise ValueError(f"has {len(rest.encode())} bytes, and {LONGEST_PATH} at most")
        return 0, 0, host, path
    if rest:
        raise ValueError("takes nothing after the colon")
    return 0, 0, "", ""


def _number(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 31:
        raise ValueError(f'needs a number, not "{text}"')
    return number
