"""The nodes of a directory of host files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.logger import Logger

from bootfw.api import ConfigError, HostFileError, Hosts, Identifiers
from bootfw_emulab.node import Node, node_of


@define(eq=False)
class Nodes:
    """Finds nodes by address, name or key. Changed files are read again; a mistake in one is logged once.

    :param directory: of host files, see docs/howto/templates.md of bootfw. Those with a table ``[emulab]`` are nodes.
        None: there are only machines.
    :param seconds: a clock, to check files for changes at most once a second.
    :param machines: the ``[[machine]]`` tables of the configuration: as if in host files.
    """

    directory: Path | None
    _seconds: Callable[[], float] | None = None
    _machines: Sequence[Mapping[str, Any]] = ()
    _hosts: Hosts = field(init=False)
    _logged: set[str] = field(factory=set, init=False)
    """The mistakes that were logged."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._hosts = Hosts(self.directory, self._seconds, self._machines)

    def at(self, address: str) -> Node | None:
        """Return the node whose control interface has that address; None: there is none, as of the others."""
        return self._find(Identifiers(address=address))

    def of_mac(self, mac: str) -> Node | None:
        """Return the node with that MAC."""
        return self._find(Identifiers(mac=mac)) if mac else None

    def named(self, name: str) -> Node | None:
        """Return the node of the host file with that name."""
        return self._find(Identifiers(name=name))

    def with_private_key(self, key: str) -> Node | None:
        """Return the node with that private key, in lower case."""
        return next((node for node in self.all() if key and node.table.private_key == key), None)

    def with_identity_key(self, key: str) -> Node | None:
        """Return the node with that identity key."""
        return next((node for node in self.all() if key and node.table.identity_key == key), None)

    def all(self) -> Iterator[Node]:
        """Yield every node whose file is valid."""
        for host in self._hosts.all():
            node = self._node(host)
            if node is not None:
                yield node

    def problems(self) -> list[str]:
        """Return the mistakes in the files, a sentence each."""
        sentences = list(self._hosts.problems())
        for host in self._hosts.all():
            try:
                node_of(host)
            except ConfigError as error:
                sentences += self._sentences(host, error)
        return sentences

    def _find(self, identifiers: Identifiers) -> Node | None:
        try:
            host = self._hosts.find([identifiers])
        except HostFileError:
            return None  # Hosts has logged it
        return self._node(host) if host["name"] else None

    def _node(self, host: Mapping[str, Any]) -> Node | None:
        if "emulab" not in host:
            return None
        try:
            return node_of(host)
        except ConfigError as error:
            for sentence in self._sentences(host, error):
                if sentence not in self._logged:
                    self._logged.add(sentence)
                    self._log.error("{sentence}", sentence=sentence)
            return None

    def _sentences(self, host: Mapping[str, Any], error: ConfigError) -> list[str]:
        of_machine = any(machine["name"] == host["name"] for machine in self._machines)
        where = "[[machine]]" if of_machine or self.directory is None else f"{self.directory}"
        return [f"{where} {host['name']}: {each.under('emulab')}" for each in error.each]
