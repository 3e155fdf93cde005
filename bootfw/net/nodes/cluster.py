"""The cluster as this server's service sees it: joins it, announces to it, and answers which other nodes are up."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6, gethostname
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from zope.interface.verify import verifyObject

from bootfw import __version__
from bootfw.events import Event
from bootfw.interfaces import INodes
from bootfw.leadershipstates import State
from bootfw.net.control import Operation
from bootfw.net.linux.interfaces import own_addresses
from bootfw.net.nodes.announcements import Announcements
from bootfw.net.nodes.filecomparison import FileComparison
from bootfw.net.nodes.node import Message, Node
from bootfw.net.nodes.presence import Presence
from bootfw.net.tftp.handover import POSITIONS_EVERY
from bootfw.values import Address

_MOST_ADDRESSES = 16
"""Addresses of its own that a node announces; a host with containers has hundreds."""

_STANDING = frozenset(state.value for state in State if state is not State.RESIGNED)
"""Values of "leadership" in the description of a node that can be chosen as leader. A node without DHCP has ""."""


class Cluster(Service):
    """Takes part in the cluster from startService() to leave().

    A stop has two steps: stopService() announces that this node stops; leave() comes when all processes of this server
    have ended, since the other nodes need what happens to their transfers until then.

    :param reactor: IReactorTime.
    :param store: what the nodes share.
    :param publish: called with the events of this server.
    :param observe: called with events of other nodes.
    :param on_message: takes a message between the processes of this server in this one.
    :param broadcast: sends a message to the other processes of this server; None: there are none.
    :param known: returns the messages that bring a new process to the state of the others.
    :param positions: see TFTPProtocol; of this process.
    :param describe: returns what the description in Presence has beside host, process and version.
    :param roots: see FileComparison.
    :raise zope.interface.Invalid: the store does not keep to INodes.
    """

    def __init__(
        self,
        reactor: Any,
        store: INodes,
        *,
        publish: Callable[[Event], None],
        observe: Callable[[Sequence[Event]], None],
        on_message: Callable[[str, tuple[Any, ...]], object],
        broadcast: Callable[..., None] | None,
        known: Callable[[], Iterable[Message]],
        positions: Callable[[], Sequence[tuple[Address, int]]],
        describe: Callable[[], Mapping[str, Any]],
        roots: Callable[[], Iterable[Path]],
    ) -> None:
        verifyObject(INodes, store)
        self._reactor = reactor
        self._publish, self._on_message, self._broadcast = publish, on_message, broadcast
        self._positions, self._describe = positions, describe
        self._since = time.time()
        self._announcements = Announcements(store)
        self._node = Node(reactor, self._announcements, self._send_to_processes, observe, known)
        self._presence = Presence(reactor, self._announcements, self._describe_node)
        self._comparison = FileComparison(reactor, self._announcements, self._presence.others_here, roots)
        self._positions_turn: IDelayedCall | None = None
        """When the positions of this process's transfers are announced next."""
        self.operations: Mapping[str, Operation] = {"compare-files": self._compare_files}
        """Those of the control socket that concern all nodes."""

    def startService(self) -> None:
        """Take part from now on."""
        super().startService()  # type: ignore[no-untyped-call]
        self._node.start()
        self._presence.start()
        self._positions_turn = self._reactor.callLater(POSITIONS_EVERY, self._announce_positions)

    def stopService(self) -> None:
        """Announce that this node stops, and drop what is under way; leave() comes next."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._cancel_positions()
        self._presence.stop()
        self._comparison.close()

    def leave(self) -> "Deferred[None]":
        """Announce what is left, and nothing more; see Node.stop(). Called when all processes of this server have
        ended."""
        return self._node.stop()

    # This server, to the others

    def publish(self, event: Event) -> None:
        """Give an event to the observers, and announce what other nodes need of it."""
        self._node.publish(event)
        self._publish(event)

    def announce(self, kind: str, *values: Any) -> None:
        """Announce a message that a process of this server has sent to the others of this server."""
        self._node.announce(kind, *values)

    def share(self, kind: str, *values: Any) -> None:
        """Send a message of this process to all others of this server, and announce it."""
        if self._broadcast is not None:
            self._broadcast(kind, *values)
        self._node.announce(kind, *values)

    def take_positions(self, positions: Iterable[tuple[Address, int]]) -> None:
        """Announce the positions that a worker has reported of its long transfers."""
        self._node.transfers.take_positions(positions)

    def hand_over(self) -> bool:
        """Announce the positions of the transfers of this process, which end now.

        :return: whether there is a node that can go on with them. If not, nothing is announced.
        """
        self._cancel_positions()
        has_successors = self.has_successors
        if has_successors:
            self._node.transfers.take_positions(self._positions())
        return has_successors

    def announce_presence(self) -> None:
        """Announce at once that the result of describe() has changed, instead of with the next announcement."""
        self._presence.announce()

    def latest_transfer(self) -> float:
        """Return when a transfer of this server began or ended last."""
        return self._node.transfers.latest

    def _announce_positions(self) -> None:
        """Announce the positions of the long transfers of this process; workers report theirs as often."""
        self._node.transfers.take_positions(self._positions())
        self._positions_turn = self._reactor.callLater(POSITIONS_EVERY, self._announce_positions)

    def _cancel_positions(self) -> None:
        if self._positions_turn is not None:
            self._positions_turn.cancel()
            self._positions_turn = None

    def _describe_node(self) -> Mapping[str, Any]:
        """Return the description of this node; see Presence."""
        addresses = sorted(address for family in (AF_INET, AF_INET6) for address in own_addresses(family) or ())
        return {
            "name": gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "since": self._since,
            "addresses": [each for each in addresses if not ip_address(each).is_loopback][:_MOST_ADDRESSES],
            **self._describe(),
        }

    # The others, to this server

    @property
    def has_successors(self) -> bool:
        """Whether another node is up that does not drain, and so can go on with the transfers of this one."""
        return any(not node.get("draining") for node in self._presence.descriptions())

    @property
    def others_stand(self) -> bool:
        """Whether another node leads, or can lead when this one resigns."""
        return any(node.get("leadership") in _STANDING for node in self._presence.descriptions())

    def addresses_of_others(self) -> Iterable[str]:
        """Return the addresses of the other nodes, also of those that have stopped or are gone."""
        return self._presence.addresses()

    def record(self) -> Mapping[str, Any]:
        """Return "nodes", see Presence.nodes(), and "behind": the seconds since an announcement of this node got
        through to the store; None: none has."""
        behind = self._announcements.behind
        return {"nodes": list(self._presence.nodes()), "behind": None if behind is None else round(behind, 1)}

    def _send_to_processes(self, kind: str, values: tuple[Any, ...]) -> None:
        """Give a message of another node to all processes of this server."""
        self._on_message(kind, values)
        if self._broadcast is not None:
            self._broadcast(kind, *values)

    def _compare_files(self, arguments: Mapping[str, Any]) -> "Deferred[Sequence[Mapping[str, Any]]]":
        """Compare the files of all nodes; see Operation and FileComparison.compare(). The identifiers of the nodes are
        replaced by the names that operators know."""
        names = {row["node"]: row["name"] for row in self._presence.nodes()}

        def replace_identifiers(records: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
            *files, summary = records
            named_files: list[Mapping[str, Any]] = [
                {**record, "versions": {names.get(node, node): text for node, text in record["versions"].items()}}
                for record in files
            ]
            lists = {kind: sorted(names.get(node, node) for node in summary[kind]) for kind in ("compared", "silent")}
            return [*named_files, {**summary, **lists}]

        return self._comparison.compare().addCallback(replace_identifiers)
