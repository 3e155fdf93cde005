"""The ``by-client`` resolver: a boot file for one machine, for all machines of a network, or behind one relay."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from attrs import field, frozen
from zope.interface import implementer

from bootfw.api import (
    BootFile,
    BootRequest,
    ConfigError,
    ErrorCollector,
    IBootFileResolver,
    IListableResolver,
    ISelectiveResolver,
    ListedBootFile,
    Reservation,
    boot_plugin,
    mac_text,
    uuid_text,
)
from bootfw.resolvers.checks import BOOT_FILE_KEYS, architecture, boot_file, ipv4_address, network, unknown_keys


def _circuit_id(value: str) -> bytes:
    if not value:
        raise ValueError("must not be empty")
    return Reservation(circuit_id=value).circuit_id  # the keys of the table


_CONDITIONS: Mapping[str, Callable[[str], Any]] = {
    "mac": mac_text,
    "uuid": uuid_text,
    "network": network,
    "relay": ipv4_address,
    "circuit-id": _circuit_id,
    "persona": str,
    "architecture": architecture,
}
_KEYS = (*_CONDITIONS, *BOOT_FILE_KEYS)


@frozen
class _Client:
    """An entry. A condition that is None matches every client."""

    file: BootFile
    mac: str | None
    uuid: str | None
    network: IPv4Network | IPv6Network | None
    relay: str | None
    circuit_id: bytes | None
    persona: str | None
    architecture: str | None

    def matches(self, request: BootRequest) -> bool:
        return (
            self.mac in (None, request.mac)
            and self.uuid in (None, request.uuid)
            and (self.network is None or _is_in(request.link_address, self.network))
            and self.relay in (None, request.relay_address)
            and self.circuit_id in (None, request.circuit_id)
            and self.persona in (None, request.persona)
            and self.architecture in (None, request.architecture)
        )


def _is_in(address: str, network: IPv4Network | IPv6Network) -> bool:
    return bool(address) and ip_address(address.partition("%")[0]) in network


def _clients(entries: Sequence[Mapping[str, Any]]) -> tuple[_Client, ...]:
    clients, collector = [], ErrorCollector()
    for index, entry in enumerate(entries):
        read: dict[str, Any] = dict.fromkeys(_CONDITIONS)
        collector.errors += unknown_keys(entry, _KEYS, "clients", index)
        for key in filter(entry.__contains__, _CONDITIONS):
            with collector.under("clients", index, key):
                if not isinstance(entry[key], str):
                    raise ValueError("must be a string")
                read[key] = _CONDITIONS[key](entry[key])
        if not entry.keys() & _CONDITIONS.keys():
            needed = ConfigError(f"needs at least one of {', '.join(_CONDITIONS)}", ("clients", index))
            collector.errors.append(needed)
        with collector.under("clients", index):
            file = boot_file(entry)
            clients.append(_Client(file, **{key.replace("-", "_"): value for key, value in read.items()}))
    collector.finish()
    return tuple(clients)


@implementer(ISelectiveResolver, IListableResolver)
@frozen
class ByClient:
    """A boot file for one machine, for all machines of a network, or for those behind one relay."""

    clients: list[dict[str, str | int]]
    """Tables with `file` and conditions: `mac`, `uuid` (as dmidecode shows it), `network` (such as `"10.77.0.0/24"`:
    the address of its relay is in it, or without a relay ours), `relay` (its address), `circuit-id` (text, or `0x` and
    hexadecimal digits), `persona`, `architecture`. An entry matches if all of its conditions hold; the first match
    counts. It may also have `server`, and for PXELINUX `configfile`, `pathprefix` and `reboot-seconds`."""
    _read: tuple[_Client, ...] = field(init=False, repr=False)

    @_read.default
    def _checked(self) -> tuple[_Client, ...]:
        return _clients(self.clients)

    def boot_files(self) -> Iterator[ListedBootFile]:
        """See IListableResolver."""
        for index, client in enumerate(self._read):
            yield ListedBootFile(client.file, option=f"clients[{index}]")

    def resolve(self, request: BootRequest) -> BootFile | None:
        """See IBootFileResolver."""
        for client in self._read:
            if client.matches(request):
                return client.file
        return None


plugin = boot_plugin(IBootFileResolver, ByClient)
