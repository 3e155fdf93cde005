"""This server as a node of a cluster: what it announces, and what it takes from the announcements of others."""

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
    :param send: called with (kind, values) of a message to all processes of this server.
    :param observe: called with events of other nodes.
    :param known: returns the messages that bring a new process to the state of the others.
    """

    _reactor: Any
    _announcements: Announcements
    _send: Callable[[str, tuple[Any, ...]], None]
    _observe: Callable[[Sequence[Event]], None]
    _known: Callable[[], Iterable[Message]]
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
        subscribe(RUNNING, lambda node, items: self._send("elsewhere", (RUNNING, node, items)))
        subscribe(POSITIONS, lambda node, items: self._send("elsewhere", (POSITIONS, node, items)))
        subscribe(CLIENTS, self._clients)
        subscribe(PROGRAMS, self._programs)
        subscribe(GENERATED, self._generated_files)

    def start(self) -> None:
        """Take part."""
        self._announcements.join()
        self._interval = self._reactor.callLater(REPEATED_EVERY, self._repeat)

    def stop(self) -> "Deferred[None]":
        """Announce what is left, and nothing more: transfers that this server ends now can go on at other nodes.

        :return: fires when it is sent or dropped.
        """
        if self._interval is not None:
            self._interval.cancel()
            self._interval = None
        self._outbox.flush()
        return self._announcements.leave()

    def publish(self, event: Event) -> None:
        """Take an event of this node."""
        if self._interval is not None:
            self.transfers.take(event)

    def share(self, kind: str, *values: Any) -> None:
        """Announce a message of one process of this server to the others."""
        if self._interval is None:
            return
        if kind == "client":
            (machine,) = values
            if self._announced.get(machine.mac) != machine:
                self._announced[machine.mac] = machine
                self._outbox.add(CLIENTS, client_item(machine))
        elif kind == "boot-program":
            client, program = values
            self._outbox.add(PROGRAMS, program_item(client, program, self._reactor.seconds()))
        elif kind == "generated":
            self._share_generated(*values)

    def _share_generated(self, path: str, content: bytes) -> None:
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
        self._announced.clear()
        self.transfers.repeat()
        latest: dict[str, deque[tuple[Any, ...]]] = {}
        for kind, values in self._known():
            latest.setdefault(kind, deque(maxlen=MOST_ANNOUNCED)).append(values)
        for kind, every in latest.items():
            for values in every:
                self.share(kind, *values)

    def _events(self, node: str, items: Sequence[Any]) -> None:
        now = self._reactor.seconds()
        events = [event for event in (event_of(item, now) for item in items) if event is not None]
        self._send("elsewhere", (EVENTS, node, items))
        self._observe(events)

    def _clients(self, node: str, items: Sequence[Any]) -> None:
        for client in map(client_of, items):
            self._send("client", (client,))

    def _programs(self, node: str, items: Sequence[Any]) -> None:
        now = self._reactor.seconds()
        for item in items:
            self._send("boot-program", program_of(item, now))

    def _generated_files(self, node: str, items: Sequence[Any]) -> None:
        for item in items:
            file = self._generated.add(node, item)
            if file is not None:
                self._send("generated", file)
