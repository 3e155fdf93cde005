"""Reads a tree of boot files, of a TFTP server or of Cobbler: boot programs and their configurations.

bootfw serves the tree as it is. The outcomes say which machine requests which configuration: PXELINUX requests only
certain names (core/fs/pxe/pxe.c of SYSLINUX 6.03, pxe_load_config()), and ignores others without a message.
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
    """Add a backend for the tree at *root*.

    :param paths: the files in it, relative to *root*.
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
    """Note which machines request a configuration of PXELINUX."""
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
    """Describe the machines whose address in hexadecimal begins with *digits*."""
    whole = digits.ljust(8, "0")
    address = ".".join(str(int(whole[at : at + 2], 16)) for at in range(0, 8, 2))
    if len(digits) == 8:
        return f"the machine with the address {address}"
    return f"a machine in {address}/{4 * len(digits)}"


def _spelled(name: str) -> str:
    """Return the name that PXELINUX requests for one that differs in separators or case; "": the name is another
    one."""
    digits = re.sub("[:-]", "", name).lower()
    if re.fullmatch("01[0-9a-f]{12}|[0-9a-f]{12}", digits) and re.fullmatch(r"[0-9A-Fa-f:-]{12,20}", name):
        digits = digits if len(digits) == 14 else f"01{digits}"
        return "-".join(digits[at : at + 2] for at in range(0, 14, 2))
    if _UUID.fullmatch(name.lower()):
        return name.lower()
    if _ADDRESS.fullmatch(name.upper()):
        return name.upper()
    return "default" if name.lower() == "default" else ""
