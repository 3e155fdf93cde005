"""The formats of configurations that can be imported, and how each is recognized."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from bootfw.importing.cobbler import Item, read_collections
from bootfw.importing.dhcpd import is_dhcpd, read_dhcpd
from bootfw.importing.dnsmasq import is_dnsmasq, read_dnsmasq
from bootfw.importing.draft import Draft
from bootfw.importing.kea import is_kea, read_kea
from bootfw.importing.outcome import UnreadableConfiguration
from bootfw.importing.tftpd import is_tftpd, read_tftpd
from bootfw.importing.tree import read_tree

Load = Callable[[Path], str]
"""Reads a file that a configuration includes; raises OSError."""


@frozen
class Format:
    """A format of configurations."""

    recognizes: Callable[[str], bool]
    """(text) -> whether it is of this format."""
    read: Callable[[Draft, Sequence[tuple[str, str]], Load], None]
    """Translates the configuration of one server, (name, text) of each file, into the draft."""


FORMATS: Mapping[str, Format] = {
    "tftpd": Format(is_tftpd, read_tftpd),
    "kea": Format(is_kea, read_kea),
    "dhcpd": Format(is_dhcpd, read_dhcpd),
    "dnsmasq": Format(is_dnsmasq, read_dnsmasq),
}
"""By the name for ``--from``, in the order in which they are tried."""


def import_files(
    files: Sequence[tuple[str, str]],
    load: Load,
    name: str = "",
    trees: Sequence[tuple[str, Sequence[str]]] = (),
    items: Sequence[Item] = (),
) -> Draft:
    """Translate configurations of other servers into one of bootfw.

    :param files: (name, text) of each.
    :param load: reads the files that they include.
    :param name: the format of all of them; "": the format of each is recognized.
    :param trees: (directory, paths of its files below it) of each tree of boot files.
    :param items: of Cobbler's collections.
    :raise UnreadableConfiguration: the format of a file is not known.
    """
    by_format: dict[str, list[tuple[str, str]]] = {}
    for path, text in files:
        if "\0" in text:
            raise UnreadableConfiguration(f"{path}: it has NUL bytes, and is no configuration")
        found = name or next((name for name, each in FORMATS.items() if each.recognizes(text)), "")
        if not found:
            names = ", ".join(FORMATS)
            raise UnreadableConfiguration(f"{path}: its format is not recognized; --from says it: {names}")
        by_format.setdefault(found, []).append((path, text))
    draft = Draft()
    for found, of_format in by_format.items():
        FORMATS[found].read(draft, of_format, load)
    for root, paths in trees:
        read_tree(draft, root, paths)
    read_collections(draft, items)
    return draft
