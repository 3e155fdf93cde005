"""File names: patterns, and the identifiers of the client that a name contains."""

import re
import uuid
from collections.abc import Mapping
from ipaddress import IPv4Address

from attrs import field, frozen

MAC = r"[0-9A-Fa-f]{2}(?:[-:]?[0-9A-Fa-f]{2}){5}"
UUID = r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"

PLACEHOLDERS: Mapping[str, str] = {"mac": MAC, "uuid": UUID, "name": r"[^/]+"}
"""Placeholders of a pattern, without their braces: word -> regular expression."""

# PXELINUX (doc/pxelinux.txt): the hardware type, "01", stands before the MAC. U-Boot does the same (cmd/pxe.c).
# GRUB: grub-core/net/net.c (grub_net_search_config_file), "grub.cfg-01-" and the MAC.
_SEARCHED = re.compile(
    rf"(?:^|/)(?:pxelinux\.cfg/|grub\.cfg-)(?:[0-9A-Fa-f]{{2}}-(?P<mac>{MAC})|(?P<uuid>{UUID})|(?P<ip>[0-9A-F]{{8}}))$"
)


@frozen
class Identifiers:
    """The identifiers of a client that the path of its file contains; "" for those that it does not."""

    mac: str = ""
    """Lower-case with colons."""
    uuid: str = ""
    """Lower-case."""
    address: str = ""
    name: str = ""
    """The name of a host file."""

    @property
    def keys(self) -> tuple[str, ...]:
        """All identifiers, spelled as in host files, the most specific first."""
        swapped = str(uuid.UUID(bytes_le=uuid.UUID(self.uuid).bytes)) if is_uuid(self.uuid) else ""
        # PXELINUX prints the bytes of the UUID in the order of the wire, which is not that of its text form.
        return tuple(key for key in (self.name, self.mac, self.uuid, swapped, self.address) if key)


def searched(path: str) -> Identifiers:
    """Names that PXELINUX, U-Boot and GRUB search for: ``pxelinux.cfg/01-52-54-00-...``, ``grub.cfg-0A4D0064``."""
    found = _SEARCHED.search(path)
    if found is None:
        return Identifiers()
    address = str(IPv4Address(int(found["ip"], 16))) if found["ip"] else ""
    return Identifiers(mac_address(found["mac"] or ""), (found["uuid"] or "").lower(), address)


def mac_address(text: str) -> str:
    """A MAC address in lower-case with colons; the bytes may have any separator. "": *text* is none."""
    if not re.fullmatch(MAC, text):
        return ""
    digits = re.sub("[-:]", "", text).lower()
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def is_uuid(text: str) -> bool:
    """Whether *text* is a UUID as SMBIOS writes it, in upper or lower case."""
    return re.fullmatch(UUID, text) is not None


@frozen
class Pattern:
    """Paths in which ``*`` stands for anything but ``/``, and a word of PLACEHOLDERS in braces for its regular
    expression.

    :raise ValueError: the text is no pattern.
    """

    text: str
    _expression: "re.Pattern[str]" = field(init=False, repr=False, eq=False)

    @_expression.default
    def _compiled(self) -> "re.Pattern[str]":
        parts = []
        words = set()
        for part in re.split(r"(\*|\{[^{}]*\})", self.text):
            word = part[1:-1]
            if part == "*":
                parts.append("[^/]*")
            elif not part.startswith("{"):
                parts.append(re.escape(part))
            elif word in words or word not in PLACEHOLDERS:
                why = "occurs twice" if word in words else "is unknown"
                raise ValueError(f"{part} {why}; a pattern may have *, {', '.join(f'{{{w}}}' for w in PLACEHOLDERS)}")
            else:
                words.add(word)
                parts.append(f"(?P<{word}>{PLACEHOLDERS[word]})")
        if not self.text or self.text.startswith("/"):
            raise ValueError('must be a relative path, such as "pxelinux.cfg/*"')
        return re.compile("".join(parts))

    def match(self, path: str) -> Identifiers | None:
        """The identifiers in *path*; None: it does not match."""
        found = self._expression.fullmatch(path)
        if found is None:
            return None
        groups = found.groupdict()
        return Identifiers(
            mac_address(groups.get("mac", "")), groups.get("uuid", "").lower(), "", groups.get("name", "")
        )
