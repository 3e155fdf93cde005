"""The values of machines: what their host files and ``[[machine]]`` tables say."""

from collections.abc import Iterator, Mapping
from typing import Any

from bootfw.backends.hosts import HostFileError
from bootfw.backends.names import Identifiers, mac_address
from bootfw.build import Parts
from bootfw.cli.failure import CommandError
from bootfw.power import hosts_of


class HostFiles:
    """The host files of a configuration; without any, its ``[[machine]]`` tables."""

    def __init__(self, parts: Parts) -> None:
        self._hosts = hosts_of(parts)

    def of(self, mac: str, uuid: str = "") -> Mapping[str, Any]:
        """Return the values of a machine; empty: it has none.

        :raise CommandError: there is a mistake in its file.
        """
        return self._found(Identifiers(mac, uuid))

    def macs(self, name: str) -> Iterator[str]:
        """Yield the MACs of the machine whose host file or table has this name.

        :raise CommandError: there is a mistake in its file.
        """
        host = self._found(Identifiers(name=name))
        value = host.get("mac", [])
        for text in (host.get("name", ""), *([value] if isinstance(value, str) else value)):
            if mac := mac_address(text):
                yield mac

    def _found(self, identifiers: Identifiers) -> Mapping[str, Any]:
        for each in self._hosts:
            try:
                host = each.find([identifiers])
            except HostFileError as error:
                raise CommandError(str(error)) from error
            if host.get("name"):
                return host
        return {}


def text_value(host: Mapping[str, Any], key: str) -> str:
    """Return a value of a host file; "": it is not there.

    :raise CommandError: it is no string.
    """
    value = host.get(key, "")
    if not isinstance(value, str):
        raise CommandError(f'the host file of {host["name"]}: "{key}" must be a string')
    return value
