"""The server of bootinfo: sends boot loaders what the resolver chain has for their machine, and sends them orders."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.api import (
    Address,
    BootFile,
    BootFileUsed,
    BootRefused,
    BootReported,
    BootRequest,
    Client,
    Event,
    IBatchReceiver,
    IViaTransport,
    Via,
)
from bootfw_emulab.bootinfopacket import CLIENT_PORT, BootinfoRequest, order, parse, reply
from bootfw_emulab.bootwhat import PHASE, BootWhat, Kind, boot_what
from bootfw_emulab.loaderstates import Do, Input, LoaderStates, State
from bootfw_emulab.node import Node
from bootfw_emulab.nodes import Nodes

_log = Logger(namespace="bootfw")

LOADERS = 65536
"""Most boot loaders whose state is kept; that with the oldest request is dropped first."""

_EVENTS = {Kind.WAIT: "PXEWAIT", Kind.REBOOT: "REBOOTING"}
_ORDER_EVENTS = {Kind.REBOOT: "SHUTDOWN", Kind.AUTO: "PXEWAKEUP"}


@define(eq=False)
class Loader:
    """The boot loader of one machine."""

    client: Client
    node: Node | None
    address: str
    """IPv4 address that its latest request came from."""
    states: LoaderStates = field(factory=LoaderStates)
    version: int = 1
    via: Via | None = None
    """How its latest request arrived."""
    boot: BootWhat | None = None
    """The answer; None: there is nothing for it."""
    file: str = ""
    """The name of the boot file from which *boot* was read; "": there is none, or its use was published."""
    reason: str = ""
    """Why there is nothing for it."""
    order: BootWhat | None = None
    """The latest order for it."""
    timer: "IDelayedCall | None" = None
    """Calls handle() at the deadline of the states; None: there is none."""


@implementer(IBatchReceiver)
class OrderSender(DatagramProtocol):
    """Sends orders from a port of its own, and ignores datagrams that arrive there."""

    noisy = False

    def datagrams_received(self, batch: Sequence[tuple[bytes, Address, Via]]) -> None:
        """See IBatchReceiver."""
        for data, peer, via in batch:
            self._received(data, peer, via)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See DatagramProtocol."""
        self._received(datagram, addr, None)

    def _received(self, data: bytes, peer: Address, via: Via | None) -> None:
        """Process a datagram; overridden by subclasses that answer it."""

    def send(self, data: bytes, peer: Address, via: Via | None) -> None:
        """Send a datagram; see send()."""
        send(self.transport, data, peer, via)


def send(transport: Any, data: bytes, peer: Address, via: Via | None) -> None:
    """Send a datagram, if the transport supports it from the address that the request was sent to.

    A datagram that can't be sent counts as lost: the node repeats its request.
    """
    if transport is None:
        return
    if IViaTransport.providedBy(transport):
        transport.write_via(data, peer, via)
        return
    try:
        transport.write(data, peer)
    except OSError as error:
        _log.debug("{peer}: {error}", peer=peer, error=error)


def _cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)


class BootinfoServer(OrderSender):
    """Answers boot loaders.

    :param reactor: IReactorTime.
    :param nodes: the machines of the testbed; others are answered too, if their MAC is known.
    :param resolve: see IChainAware.
    :param client_at: see IClientAware.
    :param publish: takes the events.
    :param orders: sends orders, from a port of its own.
    """

    def __init__(
        self,
        reactor: Any,
        nodes: Nodes,
        resolve: Callable[[BootRequest], Any],
        client_at: Callable[[Address], Client],
        publish: Callable[[Event], None],
        orders: OrderSender,
    ) -> None:
        self._reactor = reactor
        self._nodes = nodes
        self._resolve = resolve
        self._client_at = client_at
        self._publish = publish
        self._orders = orders
        self._loaders: dict[str, Loader] = {}
        """By MAC, in the order of their latest requests."""

    def _received(self, data: bytes, peer: Address, via: Via | None) -> None:
        request = parse(data)
        if request is None or ":" in peer[0]:
            return
        loader = self._loader(request, peer)
        if loader is None:
            send(self.transport, reply(request.version, None, ""), (peer[0], CLIENT_PORT), via)
            return
        loader.version, loader.via, loader.address = request.version, via, peer[0]
        self.handle(loader, Input.REQUEST)

    def _loader(self, request: BootinfoRequest, peer: Address) -> Loader | None:
        """Return the loader that sent *request*; None: its machine is not known."""
        if request.key:
            node = self._nodes.with_private_key(request.key.lower()) or self._nodes.with_identity_key(request.key)
            client = Client(peer[0], node.mac) if node is not None else Client()
        else:
            client = self._client_at(peer)
            node = self._nodes.at(peer[0]) or self._nodes.of_mac(client.mac)
        mac = node.mac if node is not None and node.mac else client.mac
        if not mac:
            return None
        loader = self._loaders.pop(mac, None) or Loader(client, node, peer[0])
        loader.client = client if client.mac == mac else Client(peer[0], mac)
        loader.node = node
        self._loaders[mac] = loader
        if len(self._loaders) > LOADERS:
            self._forget(next(iter(self._loaders)))
        return loader

    def _forget(self, mac: str) -> None:
        loader = self._loaders.pop(mac)
        if loader.states.state is State.RESOLVING:
            # _resolve_boot() has a Deferred for it that fires within a second.
            self._loaders[mac] = loader
        elif loader.timer is not None:
            loader.timer.cancel()
            loader.timer = None

    def firmware_seen(self, mac: str) -> None:
        """Note a DHCP request of the machine."""
        self._saw(mac, Input.FIRMWARE)

    def system_seen(self, mac: str) -> None:
        """Note a report from the system of the machine."""
        self._saw(mac, Input.SYSTEM)

    def _saw(self, mac: str, event: Input) -> None:
        loader = self._loaders.get(mac)
        if loader is not None:
            self.handle(loader, event)

    def send_order(self, node: Node | None, mac: str, address: str, boot: BootWhat) -> None:
        """Send an order to the loader of a machine. Loaders do not acknowledge orders.

        :param node: None: there is no host file for it.
        :param address: where to send it if the machine has sent no request.
        """
        loader = self._loaders.get(mac)
        if loader is None:
            loader = self._loaders[mac] = Loader(Client(address, mac), node, address)
        loader.order = boot
        self.handle(loader, Input.ORDER, boot)

    def records(self) -> list[Mapping[str, object]]:
        """Return a record of each loader, for the operator."""
        return [
            {
                "mac": mac,
                "node": loader.node.name if loader.node is not None else "",
                "address": loader.address,
                "state": loader.states.state.value,
                "boot": loader.boot.text if loader.boot is not None else "",
            }
            for mac, loader in self._loaders.items()
        ]

    def what_boots(self, node: Node, address: str) -> Any:
        """Ask the resolvers what a node boots, for tmcd's "bootwhat".

        :return: a Deferred of the BootWhat; of None: there is nothing, or the service stops.
        """
        # Not the loader of its MAC: this question is no request of it, and changes no state.
        loader = Loader(Client(address, node.mac), node, address)
        return self._resolve_boot(loader).addCallbacks(lambda _: loader.boot, _cancelled)

    def close(self) -> None:
        """Cancel the timers, and drop the state of all loaders."""
        for loader in self._loaders.values():
            if loader.timer is not None:
                loader.timer.cancel()
                loader.timer = None
        self._loaders.clear()

    def handle(self, loader: Loader, event: Input, argument: BootWhat | None = None) -> None:
        """Pass an input to the table, and carry out the actions that it returns."""
        actions = {
            Do.RESOLVE: partial(self._start_resolving, loader),
            Do.REPLY: partial(self._reply, loader),
            Do.SEND_ORDER: partial(self._send_order, loader),
            Do.REPORT_REQUEST: partial(self._report, loader, "PXEBOOTING"),
            Do.REPORT_ANSWER: partial(self._report_answer, loader),
            Do.USED: partial(self._used, loader),
        }
        loader.states.run(actions, event, argument, self._reactor.seconds())
        self._set_timer(loader)

    def _set_timer(self, loader: Loader) -> None:
        if loader.timer is not None:
            loader.timer.cancel()
            loader.timer = None
        deadline = loader.states.deadline
        if deadline is not None:
            wait = max(0.0, deadline - self._reactor.seconds())
            loader.timer = self._reactor.callLater(wait, self._timed_out, loader)

    def _timed_out(self, loader: Loader) -> None:
        loader.timer = None
        self.handle(loader, Input.SILENT)

    # Actions.

    def _start_resolving(self, loader: Loader) -> None:
        resolving = self._resolve_boot(loader)
        resolving.addCallback(lambda _: self.handle(loader, Input.ANSWER, loader.boot))
        resolving.addErrback(_cancelled)

    def _resolve_boot(self, loader: Loader) -> "Deferred[None]":
        """Ask the resolvers, and set the answer in *loader*: boot, file and reason.

        The Deferred fails with CancelledError if the service stops meanwhile: then there is no reply, and the node
        repeats its request.
        """
        client = loader.client
        request = BootRequest(
            client.mac,
            PHASE,
            client.persona,
            client.architecture,
            uuid=client.uuid,
            vendor_class=client.vendor_class,
            client_address=loader.address,
            server=loader.via.local if loader.via is not None else "",
        )
        loader.boot, loader.file, loader.reason = None, "", ""
        resolving: Deferred[Any] = Deferred()
        resolving.addCallback(self._resolve)
        resolving.addCallback(partial(self._take_answer, loader))
        resolving.addErrback(partial(self._refused, loader))
        resolving.callback(request)
        return resolving

    def _take_answer(self, loader: Loader, boot_file: BootFile | None) -> None:
        if boot_file is None:
            loader.reason = "no resolver has anything for it"
            return
        try:
            loader.boot = boot_what(boot_file.name.partition(":")[2])
        except ValueError as error:
            raise BootRefused(f'"{boot_file.name}": {error}') from error
        if loader.boot.kind is Kind.RESTART:
            loader.boot = None
            raise BootRefused(f'"{boot_file.name}" can be sent as an order only')
        loader.file = boot_file.name

    def _refused(self, loader: Loader, failure: Failure) -> Failure | None:
        if failure.check(CancelledError) is not None:
            return failure
        if failure.check(BootRefused) is None:
            _log.failure("bootinfo {mac}", failure, mac=loader.client.mac)
        loader.reason = str(failure.value)
        return None

    def _reply(self, loader: Loader) -> None:
        local = loader.via.local if loader.via is not None else self._own_address()
        peer = (loader.address, CLIENT_PORT)
        send(self.transport, reply(loader.version, loader.boot, local), peer, loader.via)

    def _send_order(self, loader: Loader) -> None:
        assert loader.order is not None
        local = loader.via.local if loader.via is not None else self._own_address()
        self._orders.send(order(loader.order, local), (loader.address, CLIENT_PORT), loader.via)
        name = _ORDER_EVENTS.get(loader.order.kind, "BOOTING")
        self._report(loader, f"{name}: order {loader.order.text}")

    def _own_address(self) -> str:
        host = self.transport.getHost().host if self.transport is not None else ""
        return "" if host == "0.0.0.0" else str(host)

    def _report_answer(self, loader: Loader) -> None:
        boot = loader.boot
        if boot is None:
            self._report(loader, f"nothing to boot: {loader.reason}")
        elif boot.boots:
            self._report(loader, f"BOOTING: {boot.text}")
        elif boot.kind in _EVENTS:
            self._report(loader, _EVENTS[boot.kind])

    def _report(self, loader: Loader, text: str) -> None:
        peer = (loader.address, CLIENT_PORT)
        self._publish(BootReported(self._reactor.seconds(), peer, loader.client.mac, PHASE, text))

    def _used(self, loader: Loader) -> None:
        if loader.file:
            self._publish(BootFileUsed(self._reactor.seconds(), loader.client.mac, loader.file))
            loader.file = ""
