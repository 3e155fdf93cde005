"""This server as a node of a cluster: the exchange of messages between its processes and the other nodes."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from bootfw.boot.onceper import OncePer
from bootfw.events import Event
from bootfw.net.nodes.announcements import JOINED, Announcements
from bootfw.net.nodes.elsewhere import REPEATED_EVERY
from bootfw.net.nodes.generatedparts import LARGEST, GeneratedParts, generated_items
from bootfw.net.nodes.items import (
    CLIENTS,
    EVENTS,
    GENERATED,
    POSITIONS,
    PROGRAMS,
    RUNNING,
    client_item,
    client_of,
    event_of,
    program_item,
    program_of,
)
from bootfw.net.nodes.outbox import Outbox
from bootfw.net.nodes.transfers import TransferAnnouncer
from bootfw.values import Client

MOST_ANNOUNCED = 2000
"""Machines, boot programs and generated files that are announced to a node that has joined, the latest of each."""

_WARNED_EVERY = 3600.0
"""Seconds until the same generated file is named again as too large."""

Message = tuple[str, tuple[Any, ...]]
"""Kind and values of a message between the processes of a server."""


@define(eq=False)
class Node:
    """Announces the messages between the processes of this server, and sends these processes what other nodes announce.

    :param reactor: IReactorTime.
    :param send_to_processes: called with (kind, values) of a message to all processes of this server.
    :param observe: called with events of other nodes.
    :param known_messages: returns the messages that bring a new process to the state of the others.
    """

    _reactor: Any
    _announcements: Announcements
    _send_to_processes: Callable[[str, tuple[Any, ...]], None]
    _observe: Callable[[Sequence[Event]], None]
    _known_messages: Callable[[], Iterable[Message]]
    _outbox: Outbox = field(init=False)
    transfers: TransferAnnouncer = field(init=False)
    _generated: GeneratedParts = field(factory=GeneratedParts, init=False)
    _announced: dict[str, Client] = field(factory=dict, init=False)
    """MAC -> the client as it was announced in the present interval."""
    _warned: OncePer = field(factory=lambda: OncePer(_WARNED_EVERY), init=False)
    """Paths of generated files that are too large."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    _interval: "IDelayedCall | None" = field(default=None, init=False)
    """When transfers are announced again; None: not between start() and stop()."""

    def __attrs_post_init__(self) -> None:
        self._outbox = Outbox(self._reactor, self._announcements)
        self.transfers = TransferAnnouncer(self._reactor, self._outbox)
        subscribe = self._announcements.subscribe
        subscribe(JOINED, self._has_joined)
        subscribe(EVENTS, self._events)
        subscribe(RUNNING, lambda node, items: self._send_to_processes("elsewhere", (RUNNING, node, items)))
        subscribe(POSITIONS, lambda node, items: self._send_to_processes("elsewhere", (POSITIONS, node, items)))
        subscribe(CLIENTS, self._clients)
        subscribe(PROGRAMS, self._programs)
        subscribe(GENERATED, self._generated_files)

    def start(self) -> None:
        """Join the cluster."""
        self._announcements.join()
        self._interval = self._reactor.callLater(REPEATED_EVERY, self._repeat)

    def stop(self) -> "Deferred[None]":
        """Announce what is left, and nothing more: transfers that this server ends now can go on at other nodes.

        :return: fires when it is sent or dropped.
        """
        # Without an interval publish() and announce() do nothing: the end of a transfer by this stop is not announced,
        # so that the others still have it when its client's next packet comes to them.
        if self._interval is not None:
            self._interval.cancel()
            self._interval = None
        self._outbox.flush()
        return self._announcements.leave()

    def publish(self, event: Event) -> None:
        """Announce what an event of this node says of a transfer."""
        if self._interval is not None:
            self.transfers.take(event)

    def announce(self, kind: str, *values: Any) -> None:
        """Announce a message of a process of this server to the other nodes; messages of other kinds are ignored."""
        if self._interval is None:
            return
        if kind == "client":
            # Each boot request of a client has its message, mostly the same one.
            (machine,) = values
            if self._announced.get(machine.mac) != machine:
                self._announced[machine.mac] = machine
                self._outbox.add(CLIENTS, client_item(machine))
        elif kind == "boot-program":
            client, program = values
            self._outbox.add(PROGRAMS, program_item(client, program, self._reactor.seconds()))
        elif kind == "generated":
            self._announce_generated(*values)

    def _announce_generated(self, path: str, content: bytes) -> None:
        if len(content) > LARGEST and self._warned.due(path, self._reactor.seconds()):
            self._log.warn(
                '"{path}", which was generated for a client, has {size} bytes: other nodes get no file of more than '
                "{most} bytes, so its download can't go on there",
                path=path,
                size=len(content),
                most=LARGEST,
            )
        for item in generated_items(path, content):
            self._outbox.add(GENERATED, item)

    def _repeat(self) -> None:
        self._announced.clear()
        self.transfers.repeat()
        self._interval = self._reactor.callLater(REPEATED_EVERY, self._repeat)

    # Announcements of other nodes.

    def _has_joined(self, node: str, items: Sequence[Any]) -> None:
        # The new node has none of this. Clients that were announced in this interval would be left out otherwise.
        self._announced.clear()
        self.transfers.repeat()
        latest: dict[str, deque[tuple[Any, ...]]] = {}
        for kind, values in self._known_messages():
            latest.setdefault(kind, deque(maxlen=MOST_ANNOUNCED)).append(values)
        for kind, messages in latest.items():
            for values in messages:
                self.announce(kind, *values)

    def _events(self, node: str, items: Sequence[Any]) -> None:
        # The processes get the items as they came: each decodes them by its own clock.
        now = self._reactor.seconds()
        events = [event for event in (event_of(item, now) for item in items) if event is not None]
        self._send_to_processes("elsewhere", (EVENTS, node, items))
        self._observe(events)

    def _clients(self, node: str, items: Sequence[Any]) -> None:
        for client in map(client_of, items):
            self._send_to_processes("client", (client,))

    def _programs(self, node: str, items: Sequence[Any]) -> None:
        now = self._reactor.seconds()
        for item in items:
            self._send_to_processes("boot-program", program_of(item, now))

    def _generated_files(self, node: str, items: Sequence[Any]) -> None:
        for item in items:
            file = self._generated.add(node, item)
            if file is not None:
                self._send_to_processes("generated", file)
