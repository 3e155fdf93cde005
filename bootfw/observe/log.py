"""The log: one event for each boot stage and each finished or refused transfer, never one for a packet.

Each has the text and the fields of bootfw.observe.record, so that JSON and journald logs can be searched by them. An
event with the key ``log_more`` is followed at once by another one of the same delivery, so a writer may buffer it until
then.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from string import Formatter
from time import time
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.logger import LogEvent, Logger, LogLevel
from zope.interface import implementer

from bootfw.attempts.attempt import Verdict
from bootfw.events import (
    AddressesGranted,
    AddressReleased,
    AddressTaken,
    BackendProblem,
    BootAttemptEnded,
    CertificateLoaded,
    CertificateProblem,
    ClientsLimited,
    DatagramsMalformed,
    Event,
    EventsDropped,
    FileWithheld,
    HandshakeFailed,
    InterfaceProblem,
    InternalError,
    LeasesKeptAgain,
    LeasesNotKept,
    ListenerBound,
    ListenerClosed,
    ListenerFailed,
    LoopBroken,
    NextBootTaken,
    OfferMade,
    OfferWithheld,
    OtherBootServerSeen,
    OtherServerSeen,
    PluginBlocked,
    PluginFailed,
    PoolExhausted,
    ProxyARPSeen,
    ReadinessChanged,
    RequestIgnored,
    RequestsDropped,
    ResolverPassedOver,
    SecondStageFound,
    SocketChanged,
    StaleRequestsDropped,
    TransferEnded,
    TransferRefused,
    WorkerLost,
)
from bootfw.interfaces import IBatchObserver, IBootObserver, IClientAware
from bootfw.lease import NEVER, Lease
from bootfw.observe.clientmacs import ClientMACs
from bootfw.observe.record import Record, record
from bootfw.plugins import boot_plugin
from bootfw.values import Address, BootMenu, BootRequest, Client, Outcome, TransferReport, TransferRequest, address_text

REMEMBERED = 1000
"""Most facts of each kind that are remembered, so that a repeated fact is logged once."""

REPEATED_AFTER = 600.0
"""Seconds until it is logged again that requests of the same client are dropped for the same reason."""

GRANTED_SINGLY = 4
"""Most leases of a batch that have a line each. A larger batch, as of a rack that is powered on, has one line."""

LINES_AT_ONCE = 100_000
"""Lines about clients that may be logged at once. A storm of 3,000 machines has about 60,000."""

LINES_PER_SECOND = 100.0
"""Lines about clients that are logged in the long run. Those beyond are left out, and counted."""

LEFT_OUT_AGAIN = 10.0
"""Seconds until the log says again how many lines it has left out."""

WORTH_SAYING = 0.1
"""Seconds of waiting for a backend from which a line mentions them."""

_LEVELS = {
    Outcome.COMPLETE: LogLevel.info,
    Outcome.UNCONFIRMED: LogLevel.info,
    Outcome.SIZE_PROBE: LogLevel.info,
    Outcome.CANCELLED: LogLevel.info,
    Outcome.STOPPED_BY_PEER: LogLevel.info,
    Outcome.FAILED: LogLevel.error,
}
"""Others: warn."""


@implementer(IBatchObserver, IClientAware)
@define(eq=False)
class LogObserver:
    """Writes what happened to Twisted's log, one event per boot stage and per transfer."""

    log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    names_macs: bool = field(default=False, init=False)
    """The record of a transfer has the client's MAC, ``mac``. Costs a lookup for each client and minute."""
    _client_macs: ClientMACs | None = field(default=None, init=False)
    _known: dict[type[Event], "OrderedDict[Hashable, Hashable]"] = field(factory=dict, init=False)
    """Kind of event -> the state of each fact that was logged last; see _Line.fact."""

    _lines_left: float = field(default=LINES_AT_ONCE, init=False)
    """How many lines about clients may be logged now."""
    _counted_at: float = field(default=0.0, init=False)
    """When ``_lines_left`` was computed."""
    _left_out: int = field(default=0, init=False)
    """Lines that were left out, and of which the log has not said so."""
    _left_out_said: float = field(default=-LEFT_OUT_AGAIN, init=False)
    """When it said so last."""

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        """See IClientAware."""
        self._client_macs = ClientMACs(lookup)

    def observe(self, event: Event) -> None:
        """Log *event*; kinds without a line are skipped."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """Log several events. Requests for a file that were refused for the same reason share a line, with a count."""
        found = self.log_events(events)
        for each in found[:-1]:
            each["log_more"] = True
        for each in found:
            self.log.observer(each)

    def has_line(self, event: Event) -> bool:
        """Whether events of this kind are logged."""
        return type(event) in _LINES or type(event) in (TransferEnded, TransferRefused)

    def log_events(self, events: Sequence[Event]) -> list[LogEvent]:
        """What observe_many() gives to Twisted's log."""
        found: list[LogEvent] = []
        refused: Counter[Hashable] | None = None
        for event in events:
            kind = type(event)
            if kind in _OF_CLIENTS and not self._has_line_left(event.at):
                self._left_out += 1
            elif kind is TransferEnded:
                found.append(self._ended(event))
            elif kind is TransferRefused:
                if refused is None:
                    refused = Counter(_refusal(each) for each in events if type(each) is TransferRefused)
                count = refused.pop(_refusal(event), 0)
                if count:
                    found.append(self._refused(event, count))
            elif kind in _LINES:
                found += self._by_line(_LINES[kind], event)
        if self._left_out and events[-1].at >= self._left_out_said + LEFT_OUT_AGAIN:
            found.append(self._lines_left_out(events[-1].at))
        return found

    def _has_line_left(self, now: float) -> bool:
        """Whether another line about a client may be logged. If so, it is counted."""
        left = min(LINES_AT_ONCE, self._lines_left + max(0.0, now - self._counted_at) * LINES_PER_SECOND)
        self._counted_at = max(now, self._counted_at)
        self._lines_left = left - 1 if left >= 1 else left
        return left >= 1

    def _lines_left_out(self, now: float) -> LogEvent:
        count, self._left_out, self._left_out_said = self._left_out, 0, now
        line = f"{count} line(s) about clients were left out: the log takes {LINES_PER_SECOND:.0f} a second"
        return self._log_event(LogLevel.warn, line, {"event": "LinesLeftOut", "count": count})

    def _ended(self, event: Any) -> LogEvent:
        report: TransferReport = event.report
        level = _LEVELS.get(report.outcome, LogLevel.warn)
        return self._log_event(level, transfer_line(report), self._of_transfer(event, report.request))

    def _refused(self, event: Any, count: int) -> LogEvent:
        fields = self._of_transfer(event, event.request)
        fields["count"] = count
        return self._log_event(LogLevel.error if event.detail else LogLevel.info, refused_line(event, count), fields)

    def _of_transfer(self, event: Event, request: TransferRequest) -> Record:
        fields = record(event)
        if self.names_macs and self._client_macs is not None:
            fields["mac"] = self._client_macs.mac(event.at, request.peer)
        return fields

    def _log_event(self, level: Any, line: str, fields: Record) -> LogEvent:
        """Make of *fields* what ``log.emit(level, "{line}", line=line, **fields)`` makes, with less work.

        Twisted's formatting is most of what a log event costs. An event that has been flattened, as Twisted does it for
        JSON, is formatted by joining its parts, so this adds what flattenEvent() would.
        """
        log = self.log
        fields.update(
            line=line,
            log_logger=log,
            log_level=level,
            log_namespace=log.namespace,
            log_source=log.source,
            log_format="{line}",
            log_time=time(),
            log_flattened={"line!s:": line, "line!:": line},
        )
        return fields

    def _by_line(self, line: "_Line", event: Event) -> Iterator[LogEvent]:
        if line.fact is not None:
            known = self._known.setdefault(type(event), OrderedDict())
            key, value = line.fact(event)
            repeated = key in known and known[key] == value
            known[key] = value
            known.move_to_end(key)
            if len(known) > REMEMBERED:
                known.popitem(last=False)
            if repeated:
                return
        if line.settles is not None:
            self._known.pop(line.settles, None)
        for part in line.split(event) if line.split is not None else (event,):
            yield self._log_event(line.level_of(part), line.of(part), record(part))


def _refusal(event: Any) -> Hashable:
    """What clients that share a line have in common."""
    request = event.request
    return (
        *(event.code, event.message, event.detail, event.persona),
        *(request.filename, request.write, request.protocol),
    )


@frozen
class _Line:
    """How one kind of event is logged."""

    level: Any
    """A LogLevel, or what returns it for the event."""
    text: str
    """A format string. Its fields are attributes of the event, or *computed*."""
    computed: Mapping[str, Callable[[Any], object]]
    fact: Callable[[Any], tuple[Hashable, Hashable]] | None
    """(what it is about, its state) of the event: logged when that state is another than the latest. None: always."""
    split: Callable[[Any], Iterable[Any]] | None
    """The events to log in its place."""
    settles: type[Event] | None
    """A kind of event whose facts are over with this event: the next one of that kind is logged."""
    _names: Sequence[str] = field(init=False)

    @_names.default
    def _names_of(self) -> Sequence[str]:
        return [name for _, name, _, _ in Formatter().parse(self.text) if name is not None]

    def level_of(self, event: Event) -> Any:
        """The LogLevel of *event*."""
        return self.level(event) if callable(self.level) else self.level

    def of(self, event: Event) -> str:
        """The line for *event*."""
        computed = self.computed
        return self.text.format(
            **{name: computed[name](event) if name in computed else getattr(event, name) for name in self._names}
        )


def _line(
    level: Any,
    text: str,
    fact: Callable[[Any], tuple[Hashable, Hashable]] | None = None,
    split: Callable[[Any], Iterable[Any]] | None = None,
    settles: type[Event] | None = None,
    **computed: Callable[[Any], object],
) -> _Line:
    return _Line(level, text, computed, fact, split, settles)


def client(request: BootRequest) -> str:
    """A client, as the log names it."""
    text = f"{request.mac or request.client_address} ({request.persona}, {request.architecture}"
    if request.interface:
        text += f", on {request.interface}"
    if request.relay_address not in ("0.0.0.0", "::"):
        text += f", by relay {request.relay_address}"
    return text + ")"


def holder(lease: Lease) -> str:
    """The client that has *lease*, and for how long, as the log names it."""
    text = lease.mac or f"client {lease.client_id.hex()}"
    if lease.hostname:
        text += f" ({lease.hostname!r})"
    return f"{text} for ever" if lease.expires >= NEVER else f"{text} for {lease.expires - lease.granted:.0f} s"


def transfer_line(report: TransferReport) -> str:
    """A finished transfer in one line."""
    request, agreed = report.request, report.agreed
    text = (
        f"{request.protocol} {address_text(request.peer)} {'put' if request.write else 'got'} {request.filename!r}: "
        f"{report.outcome.value}{f' ({report.detail})' if report.detail else ''}, "
        f"{report.bytes_transferred} bytes in {report.ended - report.began:.2f} s"
    )
    if report.waited >= WORTH_SAYING:
        text += f" after {report.waited:.2f} s of waiting for {report.backend or 'the backend'}"
    if request.protocol == "tftp":
        text += f", blksize {agreed.blksize}"
    if agreed.windowsize > 1:
        text += f", windowsize {agreed.windowsize}"
    if report.retransmitted:
        text += f", {report.retransmitted} retransmitted"
    return text + _treated(report.persona)


def refused_line(event: TransferRefused, count: int) -> str:
    """*count* requests that were refused alike in one line."""
    request = event.request
    clients = address_text(request.peer) + (f" and {count - 1} more" if count > 1 else "")
    verb = "offered" if request.write else "requested"
    why = (f" ({event.detail})" if event.detail else "") + _treated(event.persona)
    return f"{request.protocol} {clients} {verb} {request.filename!r}: ERROR {event.code} {event.message}{why}"


def _treated(persona: str) -> str:
    return f", treated as {persona}" if persona else ""


def _client(event: Any) -> str:
    return client(event.request)


def _address(event: Any) -> str:
    return address_text(event.address)


def _peer(event: Any) -> str:
    return address_text(event.peer)


def _phase(event: Any) -> str:
    return str(event.request.phase)


def _offered(event: OfferMade) -> str:
    if event.file is None:
        return "sends it to the boot server port for the file"
    if isinstance(event.file, BootMenu):
        return f"shows a menu of {len(event.file.items)}"
    return f"boots {event.file.name!r}" + (f" from {event.file.server}" if event.file.server else "")


def _granted(event: AddressesGranted) -> str:
    first = event.leases[0]
    if len(event.leases) == 1:
        return f"{first.address} to {holder(first)}"
    return f"{len(event.leases)} addresses, {first.address} to {event.leases[-1].address} among them"


def _granted_singly(event: AddressesGranted) -> Sequence[AddressesGranted]:
    return [event] if len(event.leases) > GRANTED_SINGLY else [evolve(event, leases=(lease,)) for lease in event.leases]


def _taken(event: AddressTaken) -> str:
    if event.declined:
        return f"{event.mac} has declined it"
    return f"{event.mac} answers there" if event.mac else "a ping is answered there"


def _boot_client(event: BootAttemptEnded) -> str:
    attempt = event.attempt
    about = ", ".join(filter(None, (attempt.persona, attempt.architecture)))
    name = attempt.mac or attempt.uuid or (attempt.addresses[-1] if attempt.addresses else "of an unknown client")
    return f"{name} ({about})" if about else name


def _boot_cause(event: BootAttemptEnded) -> str:
    cause = event.attempt.cause
    return f": {cause.sentence}. {cause.remedy}" if cause is not None else ""


def _socket_changed(event: SocketChanged) -> str:
    socket = event.socket
    host, port = socket.address[0], socket.address[1]
    kind = "network" if "/" in host else "address"
    if socket.state == "bound":
        return f"{socket.service} serves {host}" if "/" in host else f"interface {socket.device} exists"
    if event.was == "bound":
        gone = f"interface {socket.device} is gone" if socket.device else f"the {kind} is gone"
        location = (
            f"{address_text(socket.address)} on {socket.device}" if socket.device else address_text(socket.address)
        )
        return f"{socket.service} lost {host if kind == 'network' else location}: {gone}; waiting for it"
    wanted = f"interface {socket.device}" if socket.device else f"{kind} {host}"
    by = f" ({socket.service}, port {port})" if port else ""
    return f"waiting for {wanted}{by}: {socket.reason}"


def _socket_changes(event: SocketChanged) -> Sequence[SocketChanged]:
    """What no other event says: ListenerBound and ListenerFailed have lines of their own."""
    has_own_line = event.socket.state == "bound" and "/" not in event.socket.address[0] and event.socket.address[1]
    return () if has_own_line or event.socket.state not in ("bound", "waiting") else (event,)


_info, _warn, _error = LogLevel.info, LogLevel.warn, LogLevel.error

_LINES: dict[type[Event], _Line] = {
    ListenerBound: _line(
        _info,
        "{service} listens on {where}{note}",
        where=_address,
        note=lambda event: f" ({event.note})" if event.note else "",
    ),
    ListenerFailed: _line(_error, "{service} can't listen on {where}: {reason}", where=_address),
    ListenerClosed: _line(_info, "{service} no longer listens on {where}", where=_address),
    SocketChanged: _line(_warn, "{what}", split=_socket_changes, what=_socket_changed),
    ReadinessChanged: _line(
        _info,
        "{what}",
        what=lambda event: "every wanted socket is bound" if event.ready else "not ready: a wanted socket is not bound",
    ),
    BackendProblem: _line(_warn, "backend {backend}: {problem}"),
    InterfaceProblem: _line(
        _warn,
        "interface {interface}: {problem}",
        fact=lambda event: ((event.interface, event.problem), None),  # every worker reports it
    ),
    CertificateLoaded: _line(
        _info,
        "https certificate {path} is for {names}, until {ends}",
        fact=lambda event: (event.path, (event.names, event.ends)),  # every worker reports it
        names=lambda event: ", ".join(event.names) or "nobody by name",
        ends=lambda event: f"{datetime.fromtimestamp(event.ends, UTC):%Y-%m-%d}",
    ),
    CertificateProblem: _line(_warn, "https certificate {path}: {problem}"),
    HandshakeFailed: _line(_warn, "https {peer}: no connection: {reason}", peer=_peer),
    RequestIgnored: _line(_info, "dhcp {mac} ignored: {reason}", fact=lambda event: ((event.mac, event.reason), None)),
    OfferMade: _line(
        _info,
        "dhcp {client} {phase}: {message} to {where}, {what}",
        client=_client,
        phase=_phase,
        message=lambda event: f"{event.message} of {event.address}" if event.address else event.message,
        where=lambda event: address_text(event.destination),
        what=_offered,
    ),
    OfferWithheld: _line(_warn, "dhcp {client} {phase}: no answer: {reason}", client=_client, phase=_phase),
    FileWithheld: _line(
        _warn, "dhcp {client} {phase}: an address but no boot file: {reason}", client=_client, phase=_phase
    ),
    AddressesGranted: _line(_info, "dhcp leases {what}", split=_granted_singly, what=_granted),
    AddressReleased: _line(_info, "dhcp {mac} releases {address}"),
    AddressTaken: _line(_warn, "dhcp {address} is in use without a lease: {how}", how=_taken),
    ProxyARPSeen: _line(
        _warn,
        "dhcp {mac} on {interface} answers ARP for one address after the other, {addresses}: its answers are ignored; "
        "check that device for proxy ARP",
        addresses=lambda event: ", ".join(event.addresses),
    ),
    PoolExhausted: _line(_error, "dhcp {network} has no free address for {mac}: enlarge its pool"),
    ClientsLimited: _line(_warn, "dhcp {network}: too many new clients at once, some have to wait"),
    OtherBootServerSeen: _line(
        _warn,
        "dhcp another boot server, {server}, is on {interface}: it names {what} for {mac}",
        what=lambda event: f"the boot file {event.file!r}" if event.file else "its port 4011",
    ),
    OtherServerSeen: _line(
        _warn,
        "dhcp another DHCP server, {server}, is on {interface}: {mac} accepts its offer",
        interface=lambda event: event.interface or "the same network",
    ),
    LeasesNotKept: _line(
        _error,
        "dhcp leases can't be stored, so clients get no address until they can: {reason}",
        fact=lambda event: ("store", event.reason),
    ),
    LeasesKeptAgain: _line(_info, "dhcp leases are stored again", settles=LeasesNotKept),
    BootAttemptEnded: _line(
        lambda event: _warn if event.attempt.verdict is Verdict.FAILED else _info,
        "boot {client}: {verdict} after {seconds:.0f} s{cause}",
        client=_boot_client,
        verdict=lambda event: event.attempt.verdict.value,
        seconds=lambda event: max(0.0, (event.attempt.ended or event.attempt.began) - event.attempt.began),
        cause=_boot_cause,
    ),
    NextBootTaken: _line(_info, "dhcp {mac}: one-time boot {file!r} served, entry removed"),
    LoopBroken: _line(
        _warn,
        "dhcp {client}: boot loop: it loaded the same files {times} times in a row: {files}. "
        'It boots its own disk for {seconds:.0f} s; "bootfw next --forgive {mac}" ends that',
        client=_client,
        files=lambda event: ", ".join(map(repr, event.files)),
        seconds=lambda event: event.until - event.at,
        mac=lambda event: event.request.mac,
    ),
    ResolverPassedOver: _line(
        _warn,
        "dhcp {client}: resolver {resolver} had not answered after {seconds:.2f} s and was skipped",
        client=_client,
    ),
    PluginBlocked: _line(
        _warn,
        "{plugin} blocked the server for {seconds:.2f} s in {doing}: "
        "it has to return a Deferred, such as deferToThread makes",
    ),
    PluginFailed: _line(_error, "{plugin} failed to {doing}:\n{traceback}"),
    InternalError: _line(_error, "internal error of bootfw, please report it: it failed to {doing}:\n{traceback}"),
    SecondStageFound: _line(
        _info,
        "{protocol} {peer} requested {filename!r}, which is missing, and gets {path!r}, beside its boot program",
        protocol=lambda event: event.request.protocol,
        peer=lambda event: address_text(event.request.peer),
        filename=lambda event: event.request.filename,
    ),
    WorkerLost: _line(_error, "worker {worker} has ended: {reason}; another one takes over its {transfers} transfers"),
    DatagramsMalformed: _line(
        _warn, "{service} dropped {count} malformed datagram(s), the latest from {peer}: {reason}", peer=_peer
    ),
    StaleRequestsDropped: _line(
        _warn,
        "{service} dropped {what} requests that had waited {waited:.1f} s unread: more arrive than can be answered",
        what=lambda event: " and ".join(f"{count} {kind}" for kind, count in event.dropped),
    ),
    RequestsDropped: _line(
        _warn,
        "{service} dropped {count} request(s), the latest from {peer}: {reason}",
        fact=lambda event: ((event.service, event.reason, event.peer[0]), event.at // REPEATED_AFTER),
        peer=_peer,
    ),
    EventsDropped: _line(_warn, "{count} event(s) were dropped: an observer is too slow"),
}


_OF_CLIENTS = frozenset(
    (
        *(TransferEnded, TransferRefused, OfferMade, OfferWithheld, FileWithheld, RequestIgnored, AddressesGranted),
        *(AddressReleased, AddressTaken, BootAttemptEnded, SecondStageFound, HandshakeFailed, PluginFailed),
        *(InternalError, ResolverPassedOver, LoopBroken),
    )
)
"""Kinds of events that a client can cause as often as it likes."""


plugin = boot_plugin(IBootObserver, LogObserver)
