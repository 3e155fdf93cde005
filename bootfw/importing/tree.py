"""Reads a tree of boot files, as a TFTP server has it and as Cobbler makes it: boot programs and their configurations.

bootfw serves the tree as it is. What is said is which machine requests which configuration: PXELINUX looks for files of
certain names only (core/fs/pxe/pxe.c of SYSLINUX 6.03, pxe_load_config()), and ignores others without a message.
"""

import re
from collections.abc import Iterable

from bootfw.importing.draft import Draft
from bootfw.importing.outcome import Fate, Line

CONFIGURATIONS = "pxelinux.cfg"
"""The directory of PXELINUX's configurations, beside the program."""

PROGRAMS = re.compile(
    r"(?:l|g)?pxelinux\.0|(?:undionly|ipxe|snponly)\.(?:k?pxe|kkpxe|efi)|(?:boot|shim|grub|core)[\w-]*\.(?:efi|0)|syslinux\.efi",
    re.IGNORECASE,
)
"""Names of boot programs, without their directories."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HARDWARE = re.compile(r"[0-9a-f]{2}(?:-[0-9a-f]{2}){6,20}")
_ADDRESS = re.compile(r"[0-9A-F]{1,8}")


def read_tree(draft: Draft, root: str, paths: Iterable[str]) -> None:
    """Add the tree at *root*.

    :param paths: its files, relative to it.
    """
    draft.backend(root, Line(root, 0))
    draft.note(Line(root, 0), Fate.EXPRESSED, "[[backend]]; bootfw lint checks what its configurations name")
    for path in sorted(paths):
        directory, _, name = path.rpartition("/")
        line = Line(f"{root.rstrip('/')}/{path}", 0)
        if directory.rpartition("/")[2] == CONFIGURATIONS:
            _configuration(draft, line, name)
        elif PROGRAMS.fullmatch(name):
            draft.note(line, Fate.EXPRESSED, "it is served; a DHCP server or a [[resolver]] names it to machines")


def _configuration(draft: Draft, line: Line, name: str) -> None:
    """Say who requests a configuration of PXELINUX."""
    if name == "default":
        reason = "every machine without one of its own"
    elif _UUID.fullmatch(name):
        reason = "the machine with this UUID"
    elif _HARDWARE.fullmatch(name):
        reason = f"the machine with the hardware address {name[3:].replace('-', ':')}"
    elif _ADDRESS.fullmatch(name):
        reason = _network(name)
    else:
        wrong = _spelled(name)
        instead = f", which is {wrong}" if wrong else ""
        fate = Fate.LEFT_OUT if wrong else Fate.UNNEEDED
        draft.note(line, fate, f"no PXELINUX requests this name{instead}; it may be included by others")
        return
    draft.note(line, Fate.EXPRESSED, f"it is served: {reason} requests it")


def _network(digits: str) -> str:
    """Who has an address that begins with *digits*."""
    whole = digits.ljust(8, "0")
    address = ".".join(str(int(whole[at : at + 2], 16)) for at in range(0, 8, 2))
    if len(digits) == 8:
        return f"the machine with the address {address}"
    return f"a machine in {address}/{4 * len(digits)}"


def _spelled(name: str) -> str:
    """The right spelling of a name that is nearly one that PXELINUX requests; "": it is something else."""
    digits = re.sub("[:-]", "", name).lower()
    if re.fullmatch("01[0-9a-f]{12}|[0-9a-f]{12}", digits) and re.fullmatch(r"[0-9A-Fa-f:-]{12,20}", name):
        digits = digits if len(digits) == 14 else f"01{digits}"
        return "-".join(digits[at : at + 2] for at in range(0, 14, 2))
    if _UUID.fullmatch(name.lower()):
        return name.lower()
    if _ADDRESS.fullmatch(name.upper()):
        return name.upper()
    return "default" if name.lower() == "default" else ""
