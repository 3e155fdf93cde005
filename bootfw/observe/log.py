"""The log: one line for each boot stage and each finished or refused transfer, never one for a packet."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.events import (
    AddressesGranted,
    AddressReleased,
    AddressTaken,
    BackendProblem,
    CertificateLoaded,
    CertificateProblem,
    ClientsLimited,
    DatagramsMalformed,
    Event,
    EventsDropped,
    FileWithheld,
    HandshakeFailed,
    InterfaceProblem,
    LeasesNotKept,
    ListenerBound,
    ListenerClosed,
    ListenerFailed,
    LoopBroken,
    NextBootTaken,
    OfferMade,
    OfferWithheld,
    OtherServerSeen,
    PluginBlocked,
    PluginFailed,
    PoolExhausted,
    ProxyARPSeen,
    RequestIgnored,
    ResolverPassedOver,
    SecondStageFound,
    WorkerLost,
)
from bootfw.interfaces import IBootObserver
from bootfw.lease import NEVER, Lease
from bootfw.observe.told import Told, at
from bootfw.plugins import boot_plugin
from bootfw.values import BootMenu, BootRequest

IGNORED_REMEMBERED = 1000
"""Clients whose being ignored has been said once; an office network's leases must not fill the log."""

GRANTED_SINGLY = 4
"""Leases of one batch that have a line each; when a rack comes up, a batch has one line."""


@implementer(IBootObserver)
@define(eq=False)
class LogObserver:
    """Writes what happened to Twisted's log, one line per boot stage and per transfer."""

    log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    _ignored: "OrderedDict[tuple[str, str], None]" = field(factory=OrderedDict, init=False)
    _certificates: dict[str, tuple[tuple[str, ...], float]] = field(factory=dict, init=False)
    _interfaces: set[tuple[str, str]] = field(factory=set, init=False)

    def observe(self, event: Event) -> None:
        """Write the line for *event*; kinds without a line are passed over."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """The same for several. Under load it is the log's own work that costs, so transfers share a call of it."""
        told = Told(self.log)
        for event in events:
            if not told.takes(event):
                write = _LINES.get(type(event))
                if write is not None:
                    told.write()
                    write(self, event)
        told.write()

    def _bound(self, event: ListenerBound) -> None:
        note = f" ({event.note})" if event.note else ""
        self.log.info("{service} listens on {where}{note}", service=event.service, where=at(event.address), note=note)

    def _failed(self, event: ListenerFailed) -> None:
        self.log.error(
            "{service} can't listen on {where}: {reason}",
            service=event.service,
            where=at(event.address),
            reason=event.reason,
        )

    def _closed(self, event: ListenerClosed) -> None:
        self.log.info("{service} has left {where}", service=event.service, where=at(event.address))

    def _problem(self, event: BackendProblem) -> None:
        self.log.warn("backend {backend}: {problem}", backend=event.backend, problem=event.problem)

    def _interface(self, event: InterfaceProblem) -> None:
        if (event.interface, event.problem) in self._interfaces:
            return  # each worker says so
        self._interfaces.add((event.interface, event.problem))
        self.log.warn("interface {interface}: {problem}", interface=event.interface, problem=event.problem)

    def _certificate(self, event: CertificateLoaded) -> None:
        found = event.names, event.ends
        if self._certificates.get(event.path) == found:
            return  # each worker says so
        self._certificates[event.path] = found
        names = ", ".join(event.names) or "nobody by name"
        ends = datetime.fromtimestamp(event.ends, UTC)
        self.log.info(
            "https certificate {path} is for {names}, until {ends}",
            path=event.path,
            names=names,
            ends=f"{ends:%Y-%m-%d}",
        )

    def _certificate_problem(self, event: CertificateProblem) -> None:
        self.log.warn("https certificate {path}: {problem}", path=event.path, problem=event.problem)

    def _handshake(self, event: HandshakeFailed) -> None:
        self.log.warn("https {peer} can't be served: {reason}", peer=at(event.peer), reason=event.reason)

    def _ignored_once(self, event: RequestIgnored) -> None:
        key = (event.mac, event.reason)
        if key in self._ignored:
            self._ignored.move_to_end(key)
            return
        self._ignored[key] = None
        if len(self._ignored) > IGNORED_REMEMBERED:
            self._ignored.popitem(last=False)
        self.log.info("dhcp {mac} is left alone: {reason}", mac=event.mac, reason=event.reason)

    def _offer(self, event: OfferMade) -> None:
        if event.file is None:
            what = "asks it to come to the boot server port for the file"
        elif isinstance(event.file, BootMenu):
            what = f"shows a menu of {len(event.file.items)}"
        else:
            what = f"boots {event.file.name!r}" + (f" from {event.file.server}" if event.file.server else "")
        self.log.info(
            "dhcp {client} {stage}: {message} to {where}, {what}",
            client=client(event.request),
            stage=event.request.stage,
            message=f"{event.message} of {event.address}" if event.address else event.message,
            where=at(event.destination),
            what=what,
        )

    def _withheld(self, event: OfferWithheld) -> None:
        self.log.warn(
            "dhcp {client} {stage}: no answer: {reason}",
            client=client(event.request),
            stage=event.request.stage,
            reason=event.reason,
        )

    def _file_withheld(self, event: FileWithheld) -> None:
        self.log.warn(
            "dhcp {client} {stage}: an address but no boot file: {reason}",
            client=client(event.request),
            stage=event.request.stage,
            reason=event.reason,
        )

    def _granted(self, event: AddressesGranted) -> None:
        if len(event.leases) > GRANTED_SINGLY:
            told = f"{len(event.leases)} addresses, {event.leases[0].address} to {event.leases[-1].address} among them"
            self.log.info("dhcp gives {what}", what=told)
            return
        for lease in event.leases:
            self.log.info("dhcp gives {address} to {who}", address=lease.address, who=holder(lease))

    def _released(self, event: AddressReleased) -> None:
        self.log.info("dhcp {mac} gives {address} back", mac=event.mac, address=event.address)

    def _taken(self, event: AddressTaken) -> None:
        if event.declined:
            how = f"{event.mac} has declined it"
        else:
            how = f"{event.mac} answers there" if event.mac else "a ping is answered there"
        self.log.warn("dhcp {address} is used by somebody without a lease: {how}", address=event.address, how=how)

    def _proxy_arp(self, event: ProxyARPSeen) -> None:
        self.log.warn(
            "dhcp {mac} on {interface} answers ARP for one address after the other, {addresses}: that proves nothing, "
            "and its answers are ignored; look for proxy ARP there",
            mac=event.mac,
            interface=event.interface,
            addresses=", ".join(event.addresses),
        )

    def _exhausted(self, event: PoolExhausted) -> None:
        self.log.error(
            "dhcp {network} has no address left, and {mac} asks for one: enlarge its pool",
            network=event.network,
            mac=event.mac,
        )

    def _limited(self, event: ClientsLimited) -> None:
        self.log.warn("dhcp {network}: too many unknown clients at once, some have to wait", network=event.network)

    def _other_server(self, event: OtherServerSeen) -> None:
        self.log.warn(
            "dhcp another server, {server}, gives addresses on {interface}: {mac} takes its offer",
            server=event.server,
            interface=event.interface or "the same wire",
            mac=event.mac,
        )

    def _not_kept(self, event: LeasesNotKept) -> None:
        self.log.error(
            "dhcp {count} lease(s) can't be kept, so their clients are not answered: {reason}",
            count=event.count,
            reason=event.reason,
        )

    def _next_boot(self, event: NextBootTaken) -> None:
        self.log.info(
            "dhcp {mac} has got what was ordered for its next boot, {file!r}: the order is used up",
            mac=event.mac,
            file=event.file,
        )

    def _loop(self, event: LoopBroken) -> None:
        self.log.warn(
            "dhcp {client} has got the same {times} times in a row and come back each time: {files}. "
            'It is sent to its own disk for {seconds:.0f} s; "bootfw next --forgive {mac}" ends that',
            client=client(event.request),
            times=event.times,
            files=", ".join(map(repr, event.files)),
            seconds=event.until - event.at,
            mac=event.request.mac,
        )

    def _passed_over(self, event: ResolverPassedOver) -> None:
        self.log.warn(
            "dhcp {client}: resolver {resolver} had not answered after {seconds:.2f} s and was passed over",
            client=client(event.request),
            resolver=event.resolver,
            seconds=event.seconds,
        )

    def _plugin_blocked(self, event: PluginBlocked) -> None:
        self.log.warn(
            "{plugin} took {seconds:.2f} s for {doing}, and nothing else was answered meanwhile: "
            "it must answer later, as with deferToThread",
            plugin=event.plugin,
            seconds=event.seconds,
            doing=event.doing,
        )

    def _plugin(self, event: PluginFailed) -> None:
        self.log.error(
            "{plugin} failed to {doing}:\n{traceback}",
            plugin=event.plugin,
            doing=event.doing,
            traceback=event.traceback,
        )

    def _second_stage(self, event: SecondStageFound) -> None:
        self.log.info(
            "{protocol} {peer} asks for {filename!r}, which is not there, and gets {path!r}, after the loader it had",
            protocol=event.request.protocol,
            peer=at(event.request.peer),
            filename=event.request.filename,
            path=event.path,
        )

    def _worker_lost(self, event: WorkerLost) -> None:
        self.log.error(
            "worker {number} has ended: {reason}; another one takes over its {transfers} transfers",
            number=event.worker,
            reason=event.reason,
            transfers=event.transfers,
        )

    def _malformed(self, event: DatagramsMalformed) -> None:
        self.log.warn(
            "{service} dropped {count} malformed datagram(s), the latest from {peer}: {reason}",
            service=event.service,
            count=event.count,
            peer=at(event.peer),
            reason=event.reason,
        )

    def _dropped(self, event: EventsDropped) -> None:
        self.log.warn("{count} event(s) were dropped: an observer is too slow", count=event.count)


_LINES: dict[type[Event], Callable[[LogObserver, Any], None]] = {
    ListenerBound: LogObserver._bound,
    ListenerFailed: LogObserver._failed,
    ListenerClosed: LogObserver._closed,
    BackendProblem: LogObserver._problem,
    InterfaceProblem: LogObserver._interface,
    CertificateLoaded: LogObserver._certificate,
    CertificateProblem: LogObserver._certificate_problem,
    HandshakeFailed: LogObserver._handshake,
    RequestIgnored: LogObserver._ignored_once,
    OfferMade: LogObserver._offer,
    OfferWithheld: LogObserver._withheld,
    FileWithheld: LogObserver._file_withheld,
    AddressesGranted: LogObserver._granted,
    AddressReleased: LogObserver._released,
    AddressTaken: LogObserver._taken,
    ProxyARPSeen: LogObserver._proxy_arp,
    PoolExhausted: LogObserver._exhausted,
    ClientsLimited: LogObserver._limited,
    OtherServerSeen: LogObserver._other_server,
    LeasesNotKept: LogObserver._not_kept,
    LoopBroken: LogObserver._loop,
    NextBootTaken: LogObserver._next_boot,
    ResolverPassedOver: LogObserver._passed_over,
    PluginBlocked: LogObserver._plugin_blocked,
    PluginFailed: LogObserver._plugin,
    SecondStageFound: LogObserver._second_stage,
    WorkerLost: LogObserver._worker_lost,
    DatagramsMalformed: LogObserver._malformed,
    EventsDropped: LogObserver._dropped,
}


def client(request: BootRequest) -> str:
    """Who asks, as the log names it."""
    text = f"{request.mac or request.client_address} ({request.persona}, {request.architecture}"
    if request.interface:
        text += f", on {request.interface}"
    if request.relay_address not in ("0.0.0.0", "::"):
        text += f", by relay {request.relay_address}"
    return text + ")"


def holder(lease: Lease) -> str:
    """Who has *lease*, as the log names it."""
    text = lease.mac or f"client {lease.client_id.hex()}"
    if lease.hostname:
        text += f" ({lease.hostname!r})"
    return f"{text} for ever" if lease.expires >= NEVER else f"{text} for {lease.expires - lease.granted:.0f} s"


plugin = boot_plugin(IBootObserver, LogObserver)
