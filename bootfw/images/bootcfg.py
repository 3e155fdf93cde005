"""The configuration of ESXi's boot program mboot."""

import re

_FILES = re.compile(r"^(kernel|modules)=(.*)$", re.MULTILINE)
_FIRST_SLASH = re.compile(r"(^|---\s*)/+")
_IS_BOOT_CFG = re.compile(r"^kernel=/?\w+\.b00", re.MULTILINE)


def is_boot_cfg(text: str) -> bool:
    """Return whether *text* is the boot.cfg of an ESXi installer."""
    return _IS_BOOT_CFG.search(text) is not None


def for_network(text: str) -> str:
    """Return the boot.cfg of a CD for a boot over the network.

    The boot program looks up names that begin with ``/`` at the root of the server, and with an empty ``prefix`` all
    names; it looks up other names beside boot.cfg (vmware/esx-boot, mboot/config.c). With ``cdromBoot`` the installer
    searches for its CD.
    """
    text = re.sub(r"^prefix=[ \t]*\r?\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(kernelopt=.*?)[ \t]*\bcdromBoot\b", r"\1", text, flags=re.MULTILINE)
    return _FILES.sub(lambda line: line[1] + "=" + _FIRST_SLASH.sub(r"\g<1>", line[2]), text)
