"""The server of tmcd, by TCP, TLS and UDP: finds the node that sent a request, and replies."""

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.api import Address, BootReported, Event, IBatchReceiver, SystemUp, Via
from bootfw_emulab.bootinfoserver import BootinfoServer, OrderSender, send
from bootfw_emulab.bootwhat import BootWhat
from bootfw_emulab.commands import Command
from bootfw_emulab.connectionstates import ConnectionStates, Do, Input
from bootfw_emulab.loads import Loads
from bootfw_emulab.node import Node
from bootfw_emulab.nodes import Nodes
from bootfw_emulab.replies import Replies, ReplyContext
from bootfw_emulab.tmcdrequest import LONGEST, LONGEST_DATAGRAM, TmcdRequest, parse

PROTOCOL = "tmcd"
"""The name of the protocol in events."""

LONGEST_DATAGRAM_REPLY = 8192
"""Bytes of a reply by UDP; the rest is cut off."""

CONNECTIONS = 1000
"""Most connections at a time; each lasts seconds. Further ones are closed at once, and tmcc tries again."""

LONGEST_STATE = 127
"""Characters of a state that a node reports."""

NEWEST_VERSION = 34
"""The newest version of the client that these replies are for."""

UP = "ISUP"
"""The state that a node reports when its system is up."""

LOADED = "RELOADDONE"
"""Beginning of the states that a node reports when it has loaded its images."""

_log = Logger(namespace="bootfw")


@frozen
class Arrival:
    """How a request arrived."""

    peer: Address
    local: str
    """The address that it was sent to; "": not known."""
    by_tcp: bool


class Tmcd:
    """Answers requests of nodes. The protocol has no error message: a request that Emulab's server does not reply to
    gets no reply here either, which the client takes for an empty one.

    :param reactor: IReactorTime.
    :param publish: takes the events.
    """

    def __init__(
        self,
        reactor: Any,
        nodes: Nodes,
        replies: Replies,
        loads: Loads,
        loaders: BootinfoServer,
        publish: Callable[[Event], None],
    ) -> None:
        self._reactor = reactor
        self._nodes = nodes
        self._replies = replies
        self._loads = loads
        self._loaders = loaders
        self._publish = publish

    def answer(self, line: bytes, arrival: Arrival) -> "Deferred[bytes]":
        """Return a Deferred of the reply to a request, which does not fail; b"": there is none."""
        request = parse(line)
        node = self._node(request, arrival) if request is not None else None
        if request is None or node is None:
            return succeed(b"")
        if request.version > NEWEST_VERSION:
            _log.info(
                "tmcd {node}: its client has version {version}, and this server {newest}",
                node=node.name,
                version=request.version,
                newest=NEWEST_VERSION,
            )
        if node.table.redirect:
            return succeed(f"REDIRECT={node.table.redirect}\n".encode())
        command = self._replies.command(request.word)
        return succeed(b"") if command is None else self._reply(command, node, request, arrival)

    def _node(self, request: TmcdRequest, arrival: Arrival) -> Node | None:
        """Return the node that sent a request; None: no node did."""
        address = arrival.peer[0].removeprefix("::ffff:")
        if request.redirected:
            if address not in (arrival.local, "127.0.0.1"):
                return None  # only another server on this host may speak for a node
            address = request.redirected
        if request.private_key:
            return self._nodes.with_private_key(request.private_key)
        if request.identity_key:
            return self._nodes.with_identity_key(request.identity_key)
        node = self._nodes.at(address)
        if request.virtual_node and node is not None and request.virtual_node != node.name:
            virtual = self._nodes.named(request.virtual_node)
            return virtual if virtual is not None and virtual.table.physical == node.name else None
        return node

    def _reply(self, command: Command, node: Node, request: TmcdRequest, arrival: Arrival) -> "Deferred[bytes]":
        if command.name == "state":
            self._report_state(node, request.argument, arrival)
        elif command.name == "bootlog":
            _log.info("tmcd {node}: boot log\n{text}", node=node.name, text=_printable(request.argument))
        elif command.name == "bootwhat":
            resolving: Deferred[BootWhat | None] = self._loaders.what_boots(node, arrival.peer[0])
            return resolving.addCallback(_boot_line)
        context = ReplyContext(request, arrival.by_tcp, arrival.local, self._loads.is_pending(node))
        return succeed(self._replies.render(command, node, context))

    def _report_state(self, node: Node, state: str, arrival: Arrival) -> None:
        if not 0 < len(state) <= LONGEST_STATE or not state.replace("_", "").replace("-", "").isalnum():
            return
        if not state.isascii():
            return
        now = self._reactor.seconds()
        self._publish(BootReported(now, arrival.peer, node.mac, PROTOCOL, state, by_system=True))
        if state.startswith(LOADED):
            self._loads.done(node)
        if state == UP:
            self._publish(SystemUp(now, arrival.peer, node.mac, PROTOCOL))
        self._loaders.system_seen(node.mac)


def _boot_line(boot: BootWhat | None) -> bytes:
    if boot is None:
        return b"STATUS=failed\n"
    what = f" WHAT={boot.what}" if boot.what else ""
    command_line = f" CMDLINE='{boot.command_line}'" if boot.command_line else ""
    return f"STATUS=success TYPE={boot.kind.value}{what}{command_line}\n".encode()


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)


@implementer(IBatchReceiver)
class TmcdDatagrams(OrderSender):
    """tmcd by UDP: each request is one datagram, and so is its reply."""

    def __init__(self, tmcd: Tmcd) -> None:
        self._tmcd = tmcd

    def _received(self, data: bytes, peer: Address, via: Via | None) -> None:
        local = via.local if via is not None else ""
        reply = self._tmcd.answer(data[:LONGEST_DATAGRAM], Arrival(peer, local, by_tcp=False))
        reply.addCallback(partial(self._send, peer, via))

    def _send(self, peer: Address, via: Via | None, reply: bytes) -> None:
        if reply:
            send(self.transport, reply[:LONGEST_DATAGRAM_REPLY], peer, via)


@implementer(IHalfCloseableProtocol)
class TmcdConnection(Protocol):
    """One connection: passes its events to ConnectionStates, and carries out the actions."""

    transport: Any

    def __init__(self, server: "TmcdConnections") -> None:
        self._server = server
        self._states = ConnectionStates()
        self._timer: IDelayedCall | None = None
        self._reply = b""
        self._do = {
            Do.SECURE: self._secure,
            Do.ANSWER: self._answer,
            Do.SEND: self._send,
            Do.CLOSE: lambda: self.transport.loseConnection(),
            Do.ABORT: lambda: self.transport.abortConnection(),
        }

    def connectionMade(self) -> None:
        """See Protocol."""
        self._states.deadline = self._server.seconds() + self._server.read_within
        self._set_timer()

    def dataReceived(self, data: bytes) -> None:
        """See Protocol."""
        self._handle(Input.DATA, data)

    def readConnectionLost(self) -> None:
        """See IHalfCloseableProtocol: tmcc closes its half after the request."""
        self._handle(Input.END)

    def writeConnectionLost(self) -> None:
        """See IHalfCloseableProtocol."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See Protocol."""
        self._handle(Input.LOST)
        self._server.lost(self)

    def _handle(self, event: Input, data: bytes = b"") -> None:
        self._states.run(self._do, event, data, self._server.seconds())
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._states.deadline
        if deadline is not None:
            self._timer = self._server.call_later(max(0.0, deadline - self._server.seconds()), self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._handle(Input.TIMEOUT)

    def _secure(self) -> None:
        certificate = self._server.certificate
        if certificate is None:
            self.transport.loseConnection()
            return
        transport, rest = self.transport, self._states.rest
        transport.startTLS(certificate)
        if rest:
            # startTLS() has put a TLS protocol between the two; bytes that came with the tag have not passed it.
            transport.protocol.dataReceived(rest)

    def _answer(self) -> None:
        peer, host = self.transport.getPeer(), self.transport.getHost()
        arrival = Arrival((peer.host, peer.port), host.host.removeprefix("::ffff:"), by_tcp=True)
        self._server.tmcd.answer(self._states.received[:LONGEST], arrival).addCallback(self._answered)

    def _answered(self, reply: bytes) -> None:
        self._reply = reply
        self._handle(Input.ANSWERED)

    def _send(self) -> None:
        self.transport.write(self._reply)
        self.transport.loseConnection()


class TmcdConnections(Factory):
    """tmcd by TCP.

    :param reactor: IReactorTime.
    :param certificate: an IOpenSSLContextFactory; None: a client that wants TLS is refused.
    """

    noisy = False

    def __init__(self, reactor: Any, tmcd: Tmcd, certificate: Any, read_within: float) -> None:
        self._reactor = reactor
        self.tmcd = tmcd
        self.certificate = certificate
        self.read_within = read_within
        self._connections: set[TmcdConnection] = set()

    def seconds(self) -> float:
        """Return the reactor's time in seconds."""
        return float(self._reactor.seconds())

    def call_later(self, seconds: float, call: Callable[[], None]) -> IDelayedCall:
        """Call *call* after *seconds*."""
        delayed_call: IDelayedCall = self._reactor.callLater(seconds, call)
        return delayed_call

    def buildProtocol(self, addr: Any) -> TmcdConnection | None:
        """See Factory. None: there are too many connections."""
        if len(self._connections) >= CONNECTIONS:
            return None
        connection = TmcdConnection(self)
        self._connections.add(connection)
        return connection

    def lost(self, connection: TmcdConnection) -> None:
        """Remove a connection that is closed."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Drop all connections."""
        for connection in list(self._connections):
            connection.transport.abortConnection()
