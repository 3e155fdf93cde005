"""The configuration of ESXi's boot program mboot."""

import re
from functools import partial

_FILES = re.compile(r"^(kernel|modules|acpitables|crypto)=(.*)$", re.MULTILINE)
_NAME = re.compile(r"(^\s*|---\s*)((?:(?!---)\S)+)")
"""A file in a list whose items are separated by ``---``. Arguments of a module follow its file."""
_NO_PREFIX = re.compile(r"^prefix=[ \t]*\r?\n", re.MULTILINE)
_PREFIX = re.compile(r"^prefix=", re.MULTILINE)
_CD = re.compile(r"^(kernelopt=)(?:[ \t]*cdromBoot\b[ \t]*|(.*?)[ \t]+cdromBoot\b)", re.MULTILINE)
_IS_BOOT_CFG = re.compile(r"^kernel=/?\w+\.b00", re.MULTILINE)


def is_boot_cfg(text: str) -> bool:
    """Return whether *text* is the boot.cfg of an ESXi installer."""
    return _IS_BOOT_CFG.search(text) is not None


def for_network(text: str, root: str = "") -> str:
    """Return the boot.cfg of a CD for a boot over the network.

    The boot program looks up names that begin with ``/`` at the root of the server, and with an empty ``prefix`` all
    names; without ``prefix`` it looks up other names beside boot.cfg (vmware/esx-boot, mboot/config.c). So the same
    text does for TFTP and HTTP. With ``cdromBoot`` the installer searches for its CD.

    :param root: the way from the directory of boot.cfg to that of the other files, such as ``../../``. A text whose
        ``prefix`` is set keeps its names: they were written for the network.
    """
    text = _CD.sub(r"\1\2", _NO_PREFIX.sub("", text))
    if _PREFIX.search(text) is not None:
        root = ""
    return _FILES.sub(lambda line: f"{line[1]}={_NAME.sub(partial(_placed, root), line[2])}", text)


def _placed(root: str, item: "re.Match[str]") -> str:
    name = item[2]
    return item[1] + (name if "://" in name else root + name.lstrip("/"))
