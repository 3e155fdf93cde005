"""Which boot program each client got last, and where the files that it asks for in the wrong place may lie.

A boot program looks for its next files beside itself, but often does not know where it is: shim and GRUB lose the
directory behind a proxyDHCP server (rhboot/shim #300, #524, #710; rhboot/grub2 efinet.c copies one character of it),
GRUB's is built in (``/grub``), PXELINUX puts it in front of paths that have it already, iPXE's shim asks the root
(ipxe/ipxe #1684), and shim makes a file name of what the firmware left in its load options (rhboot/shim #649, #696).
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

from attrs import define, field

MAX_CLIENTS = 4096
"""Clients; the one that has been silent the longest is forgotten first."""

FORGET_AFTER = 3600.0
"""Seconds of silence. A GRUB menu may wait for somebody to come back from lunch."""

SHIM_TAKES = 60.0
"""Seconds in which a shim asks for its second stage: it only tries some optional files before."""

MAX_CANDIDATES = 12
"""Places that are looked at for one name, at most."""

_PROGRAMS = (".efi", ".efi.signed", ".0", ".kpxe", ".kkpxe", ".pxe", ".n12")
# Certificates and revocation lists in the shape of programs (shim.c, load_certs), and MokManager: they load nothing.
_NO_PROGRAMS = ("revocations", "shim_certificate", "mmx64", "mmia32", "mmaa64", "mmarm")
# What boot programs load of their own: SYSLINUX's modules, GRUB's modules, lists, fonts, translations and
# configurations (net/net.c tries grub.cfg-MAC and -IP), and shim's second stage.
_THEIRS = re.compile(r"(\.(efi|signed|c32|e32|e64|mod|lst|pf2|mo|gmo)|(^|/)grub\.cfg(-[^/]*)?)\Z", re.IGNORECASE)
_SHIM = re.compile(r"(^|/)[^/]*shim[^/]*\Z", re.IGNORECASE)
_ARCHITECTURE = re.compile(r"(x64|ia32|aa64|arm|riscv64|loongarch64)\.efi(\.signed)?\Z", re.IGNORECASE)
_ARCHITECTURES = ("x64", "aa64", "ia32", "arm", "riscv64", "loongarch64")  # UEFI 2.10 section 3.5.1.1


@define(eq=False)
class BootProgram:
    """A boot program that a client has got."""

    path: str
    """Where it was found."""
    backend: int
    """Position of the backend that had it."""
    shim: bool
    loaded: float
    """Seconds on the clock."""
    last_request: float
    """When the client asked for anything the last time."""

    def candidates(self, path: str, now: float) -> Iterator[str]:
        """Where *path*, which is missing, may lie instead; the likeliest first."""
        others = (candidate for candidate in self._every_candidate(path, now) if candidate != path)
        return islice(dict.fromkeys(others), MAX_CANDIDATES)

    def _every_candidate(self, path: str, now: float) -> Iterator[str]:
        directory = self.path.rpartition("/")[0]
        parts = directory.split("/") if directory else []
        theirs = _THEIRS.search(path) is not None
        # Asked from the root, or from the top of a tree that lies further down here.
        for depth in range(len(parts), 0, -1):
            yield "/".join([*parts[:depth], path])
        # The directory twice.
        if directory and path.startswith(f"{directory}/{directory}/"):
            yield path[len(directory) + 1 :]
        # Asked in a directory that is somewhere else here, or not at all.
        if theirs:
            asked = path.split("/")
            for start in range(1, len(asked)):
                yield "/".join([*parts, *asked[start:]])
        if self.shim and not path.lower().endswith((".efi", ".signed")) and now - self.loaded <= SHIM_TAKES:
            known = _ARCHITECTURE.search(self.path)
            for architecture in (known[1].lower(),) if known else _ARCHITECTURES:
                yield "/".join([*parts, f"grub{architecture}.efi"])


@define(eq=False)
class SecondStageFinder:
    """The loaders of all clients, by their addresses.

    :param seconds: the clock.
    :param broadcast: is given what on_message() of another process's SecondStageFinder takes, when that has changed.
    """

    seconds: Callable[[], float]
    broadcast: Callable[[str, BootProgram], None] = lambda client, program: None
    _known: "OrderedDict[str, BootProgram]" = field(factory=OrderedDict, init=False)

    def __len__(self) -> int:
        return len(self._known)

    def all(self) -> Iterator[tuple[str, BootProgram]]:
        """Everything that is remembered, as on_message() takes it."""
        yield from self._known.items()

    def last_program(self, client: str, path: str) -> BootProgram | None:
        """What *client*, which asks for *path* now, got last; None: nothing that is remembered."""
        program = self._known.get(client)
        if program is None:
            return None
        now = self.seconds()
        if now - program.last_request > FORGET_AFTER:
            del self._known[client]
            return None
        program.last_request = now
        self._known.move_to_end(client)
        # Whatever its file is called: nobody else asks for these.
        if not program.shim and path.rpartition("/")[2].startswith(("revocations", "shim_certificate")):
            program.shim = True
            self.broadcast(client, program)
        return program

    def remember(self, client: str, path: str, backend: int) -> None:
        """*client* gets *path* from the backend at that position."""
        if not path.lower().endswith(_PROGRAMS) or path.rpartition("/")[2].lower().startswith(_NO_PROGRAMS):
            return
        now = self.seconds()
        program = BootProgram(path, backend, _SHIM.search(path) is not None, now, now)
        self.on_message(client, program)
        self.broadcast(client, program)

    def on_message(self, client: str, program: BootProgram) -> None:
        """*client* has got *program*."""
        known, now = self._known, self.seconds()
        known[client] = program
        known.move_to_end(client)
        while len(known) > MAX_CLIENTS or now - next(iter(known.values())).last_request > FORGET_AFTER:
            known.popitem(last=False)
