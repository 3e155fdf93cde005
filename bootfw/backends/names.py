"""Patterns for file names, and the client's identifiers (MAC, UUID, address) in a file name."""

import re
import uuid
from collections.abc import Mapping
from ipaddress import IPv4Address

from attrs import field, frozen

MAC = r"[0-9A-Fa-f]{2}(?:[-:]?[0-9A-Fa-f]{2}){5}"
UUID = r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"

PLACEHOLDERS: Mapping[str, str] = {"mac": MAC, "uuid": UUID, "name": r"[^/]+"}
"""Placeholder of a pattern, without its braces -> regular expression."""

# PXELINUX (doc/pxelinux.txt): the hardware type, "01", stands before the MAC. U-Boot does the same (cmd/pxe.c).
# GRUB: grub-core/net/net.c (grub_net_search_config_file), "grub.cfg-01-" and the MAC.
_SEARCHED = re.compile(
    rf"(?:^|/)(?:pxelinux\.cfg/|grub\.cfg-)(?:[0-9A-Fa-f]{{2}}-(?P<mac>{MAC})|(?P<uuid>{UUID})|(?P<ip>[0-9A-F]{{8}}))$"
)


@frozen
class Identifiers:
    """The identifiers of a client that a path contains; "": the path does not contain it."""

    mac: str = ""
    """Lower-case with colons."""
    uuid: str = ""
    """Lower-case."""
    address: str = ""
    name: str = ""
    """The name of a host file."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The identifiers that are known, in the notation of host files, the most specific first."""
        swapped = str(uuid.UUID(bytes_le=uuid.UUID(self.uuid).bytes)) if is_uuid(self.uuid) else ""
        # PXELINUX prints the bytes of the UUID in wire order; in the text form the first three fields are swapped.
        return tuple(key for key in (self.name, self.mac, self.uuid, swapped, self.address) if key)


def searched(path: str) -> Identifiers:
    """Return the identifiers in a configuration name of PXELINUX, U-Boot or GRUB, such as
    ``pxelinux.cfg/01-52-54-00-...`` or ``grub.cfg-0A4D0064``."""
    found = _SEARCHED.search(path)
    if found is None:
        return Identifiers()
    address = str(IPv4Address(int(found["ip"], 16))) if found["ip"] else ""
    return Identifiers(mac_address(found["mac"] or ""), (found["uuid"] or "").lower(), address)


def mac_address(text: str) -> str:
    """Convert a MAC address, with any separator or none, to lower-case with colons; "": *text* is not a MAC address."""
    if not re.fullmatch(MAC, text):
        return ""
    digits = re.sub("[-:]", "", text).lower()
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def is_uuid(text: str) -> bool:
    """Return whether *text* is a UUID in the notation of SMBIOS, in upper or lower case."""
    return re.fullmatch(UUID, text) is not None


@frozen
class Pattern:
    """A pattern for paths: ``*`` matches any characters but ``/``, and ``{mac}`` and the other PLACEHOLDERS match an
    identifier.

    :raise ValueError: the text is not a pattern.
    """

    text: str
    _expression: "re.Pattern[str]" = field(init=False, repr=False, eq=False)

    @_expression.default
    def _compiled(self) -> "re.Pattern[str]":
        parts = []
        placeholders = set()
        for part in re.split(r"(\*|\{[^{}]*\})", self.text):
            placeholder = part[1:-1]
            if part == "*":
                parts.append("[^/]*")
            elif not part.startswith("{"):
                parts.append(re.escape(part))
            elif placeholder in placeholders or placeholder not in PLACEHOLDERS:
                reason = "occurs twice" if placeholder in placeholders else "is unknown"
                raise ValueError(
                    f"{part} {reason}; a pattern may have *, {', '.join(f'{{{w}}}' for w in PLACEHOLDERS)}"
                )
            else:
                placeholders.add(placeholder)
                parts.append(f"(?P<{placeholder}>{PLACEHOLDERS[placeholder]})")
        if not self.text or self.text.startswith("/"):
            raise ValueError('must be a relative path, such as "pxelinux.cfg/*"')
        return re.compile("".join(parts))

    def match(self, path: str) -> Identifiers | None:
        """Return the identifiers in *path*; None: it does not match."""
        found = self._expression.fullmatch(path)
        if found is None:
            return None
        groups = found.groupdict()
        return Identifiers(
            mac_address(groups.get("mac", "")), groups.get("uuid", "").lower(), "", groups.get("name", "")
        )
