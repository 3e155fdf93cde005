"""Finds files that a boot program requests at a wrong path, from the path of the program itself.

A boot program looks for its next files in its own directory, but often computes that directory wrongly:

* shim and GRUB lose the directory behind a proxyDHCP server (rhboot/shim #300, #524, #710; rhboot/grub2 efinet.c copies
  one character of it);
* in GRUB it is built in (``/grub``);
* PXELINUX puts it in front of paths that have it already;
* iPXE's shim requests its next file from the root (ipxe/ipxe #1684);
* shim uses what the firmware left in its load options as a file name (rhboot/shim #649, #696).
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

from attrs import define, field

MAX_CLIENTS = 4096
"""Clients whose programs are kept; the one whose last request is the oldest is dropped first."""

FORGET_AFTER = 3600.0
"""Seconds without a request after which a client is dropped. A GRUB menu may wait for its user."""

SHIM_SECONDS = 60.0
"""A shim requests its second stage within this time: before that it tries only a few optional files."""

MAX_CANDIDATES = 12
"""Most paths that are tried for one request."""

_PROGRAMS = (".efi", ".efi.signed", ".0", ".kpxe", ".kkpxe", ".pxe", ".n12")
# Certificates and revocation lists in the format of programs (shim.c, load_certs), and MokManager: they load nothing.
_NO_PROGRAMS = ("revocations", "shim_certificate", "mmx64", "mmia32", "mmaa64", "mmarm")
# Files that belong to a boot program: SYSLINUX's modules, GRUB's modules, lists, fonts, translations and
# configurations (net/net.c tries grub.cfg-MAC and -IP), and shim's second stage.
_PROGRAM_FILES = re.compile(r"(\.(efi|signed|c32|e32|e64|mod|lst|pf2|mo|gmo)|(^|/)grub\.cfg(-[^/]*)?)\Z", re.IGNORECASE)
_SHIM = re.compile(r"(^|/)[^/]*shim[^/]*\Z", re.IGNORECASE)
_ARCHITECTURE = re.compile(r"(x64|ia32|aa64|arm|riscv64|loongarch64)\.efi(\.signed)?\Z", re.IGNORECASE)
_ARCHITECTURES = ("x64", "aa64", "ia32", "arm", "riscv64", "loongarch64")  # UEFI 2.10 section 3.5.1.1


@define(eq=False)
class BootProgram:
    """A boot program that a client has loaded."""

    path: str
    """Its path in the backend."""
    backend: int
    """Position of the backend that has it."""
    is_shim: bool
    """Whether it is a shim, which loads GRUB as its second stage."""
    loaded: float
    """When the client requested it, in seconds of the clock."""
    last_request: float
    """When the client last requested any file."""

    def candidates(self, path: str, now: float) -> Iterator[str]:
        """Yield paths to try instead of *path*, which does not exist; the most likely first."""
        others = (candidate for candidate in self._every_candidate(path, now) if candidate != path)
        return islice(dict.fromkeys(others), MAX_CANDIDATES)

    def _every_candidate(self, path: str, now: float) -> Iterator[str]:
        directory = self.path.rpartition("/")[0]
        parts = directory.split("/") if directory else []
        belongs_to_program = _PROGRAM_FILES.search(path) is not None
        # The program lost the first directories of its path.
        for depth in range(len(parts), 0, -1):
            yield "/".join([*parts[:depth], path])
        # The directory appears twice in the path.
        if directory and path.startswith(f"{directory}/{directory}/"):
            yield path[len(directory) + 1 :]
        # The directory is built into the program, and the program is in another one here.
        if belongs_to_program:
            requested = path.split("/")
            for start in range(1, len(requested)):
                yield "/".join([*parts, *requested[start:]])
        # What shim requests as its second stage is no program: a name from stale load options.
        if self.is_shim and not path.lower().endswith((".efi", ".signed")) and now - self.loaded <= SHIM_SECONDS:
            known = _ARCHITECTURE.search(self.path)
            for architecture in (known[1].lower(),) if known else _ARCHITECTURES:
                yield "/".join([*parts, f"grub{architecture}.efi"])


@define(eq=False)
class SecondStageFinder:
    """Remembers the last boot program of each client, by the client's address.

    :param seconds: the clock.
    :param broadcast: sends (client, program) to the on_message() of the other processes of this server; None: there are
        none.
    """

    seconds: Callable[[], float]
    broadcast: Callable[[str, BootProgram], None] | None = None
    _known: "OrderedDict[str, BootProgram]" = field(factory=OrderedDict, init=False)

    def __len__(self) -> int:
        return len(self._known)

    def all(self) -> Iterator[tuple[str, BootProgram]]:
        """Yield everything that is stored, as arguments of on_message()."""
        yield from self._known.items()

    def last_program(self, client: str, path: str) -> BootProgram | None:
        """Return the program that *client* loaded last, or None if there is none or it is too old.

        :param client: the client's address.
        :param path: the path that the client requests now.
        """
        program = self._known.get(client)
        if program is None:
            return None
        now = self.seconds()
        if now - program.last_request > FORGET_AFTER:
            del self._known[client]
            return None
        program.last_request = now
        self._known.move_to_end(client)
        # Only a shim requests these files, so the program is a shim even if its file name does not say so.
        if not program.is_shim and path.rpartition("/")[2].startswith(("revocations", "shim_certificate")):
            program.is_shim = True
            if self.broadcast is not None:
                self.broadcast(client, program)
        return program

    def remember(self, client: str, path: str, backend: int) -> None:
        """Store *path* as the last program of *client*, if it is a boot program.

        :param backend: position of the backend that has it.
        """
        if not path.lower().endswith(_PROGRAMS) or path.rpartition("/")[2].lower().startswith(_NO_PROGRAMS):
            return
        now = self.seconds()
        program = BootProgram(path, backend, _SHIM.search(path) is not None, now, now)
        self.on_message(client, program)
        if self.broadcast is not None:
            self.broadcast(client, program)

    def on_message(self, client: str, program: BootProgram) -> None:
        """Store a program that a client has loaded from this process or from another one."""
        known, now = self._known, self.seconds()
        known[client] = program
        known.move_to_end(client)
        while len(known) > MAX_CLIENTS or now - next(iter(known.values())).last_request > FORGET_AFTER:
            known.popitem(last=False)
