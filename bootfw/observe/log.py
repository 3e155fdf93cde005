"""The ``log`` observer: one log event for each boot stage and each finished or refused transfer, never one per packet.

A log event has a text and the fields of bootfw.observe.record, so that JSON and journald logs can be searched. The key
``log_more`` means that another log event of the same delivery follows at once, so that a writer may buffer this one.
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
    BootReported,
    CertificateLoaded,
    CertificateProblem,
    ClientsLimited,
    DatagramsMalformed,
    Event,
    EventsDropped,
    FileWithheld,
    HandshakeFailed,
    ImageSent,
    InstallationReported,
    InterfaceProblem,
    InternalError,
    LeadershipChanged,
    LeasesKeptAgain,
    LeasesNotKept,
    ListenerBound,
    ListenerClosed,
    ListenerFailed,
    LoopBroken,
    NeighbourTableFull,
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
from bootfw.tokenbuckets import TokenBuckets
from bootfw.values import Address, BootMenu, BootRequest, Client, Outcome, TransferReport, TransferRequest, address_text

REMEMBERED = 1000
"""Most subjects of each kind of event that are remembered, so that a repeated report is logged once."""

REPEATED_AFTER = 600.0
"""Seconds until the log repeats that requests of a client are dropped for the same reason."""

LINES_AT_ONCE = 100_000
"""Capacity of the token bucket for lines about clients. A storm of 3,000 machines has about 60,000 lines."""

LINES_PER_SECOND = 100.0
"""Rate of that token bucket. Lines beyond it are left out and counted."""

LEFT_OUT_AGAIN = 10.0
"""Seconds between two lines with the number of lines that were left out."""

LONGEST_LINE = 2000
"""Characters of a line, apart from tracebacks. A longer one has a long text of a client in it: its middle is left out
and its fields are cut too, so that the limit on lines limits the bytes."""

_LAST_PART = 400
"""Characters that are kept of the end of such a line: it says what happened."""

_RETURN_A_DEFERRED = ": it has to return a Deferred, such as deferToThread makes"

MIN_BACKEND_WAIT = 0.1
"""Seconds. A transfer that waited longer for its backend is logged with that time."""

_LEVELS = {
    Outcome.COMPLETE: LogLevel.info,
    Outcome.UNCONFIRMED: LogLevel.info,
    Outcome.SIZE_PROBE: LogLevel.info,
    Outcome.HANDED_OVER: LogLevel.info,
    Outcome.CANCELLED: LogLevel.info,
    Outcome.STOPPED_BY_PEER: LogLevel.info,
    Outcome.FAILED: LogLevel.error,
}
"""Level by outcome; other outcomes are logged as warnings."""


@implementer(IBatchObserver, IClientAware)
@define(eq=False)
class LogObserver:
    """Logs the service's events to Twisted's log."""

    log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    names_macs: bool = field(default=False, init=False)
    """Whether records of transfers contain the client's MAC, as ``mac``. Costs a lookup for each client and minute."""
    _client_macs: ClientMACs | None = field(default=None, init=False)
    _known: dict[type[Event], "OrderedDict[Hashable, Hashable]"] = field(factory=dict, init=False)
    """Kind of event -> the last logged state of each subject; see _Line.subject."""

    _lines: TokenBuckets = field(factory=lambda: TokenBuckets(1), init=False)
    """How many lines about clients may be logged."""
    _left_out: int = field(default=0, init=False)
    """Lines that were left out and not reported yet."""
    _left_out_logged_at: float = field(default=-LEFT_OUT_AGAIN, init=False)
    """When the log last reported lines that were left out."""

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        """See IClientAware."""
        self._client_macs = ClientMACs(lookup)

    def observe(self, event: Event) -> None:
        """See IBootObserver. Kinds of events without a line are skipped."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """See IBatchObserver. Equal requests of a client that were refused share a line, with a count."""
        log_events = self.log_events(events)
        for each in log_events[:-1]:
            each["log_more"] = True
        for each in log_events:
            self.log.observer(each)

    def has_line(self, event: Event) -> bool:
        """Return whether events of this kind are logged."""
        return type(event) in _LINES or type(event) in (TransferEnded, TransferRefused)

    def log_events(self, events: Sequence[Event]) -> list[LogEvent]:
        """Return the log events for *events*, which observe_many() passes to Twisted's log."""
        log_events: list[LogEvent] = []
        refused: Counter[Hashable] | None = None
        for event in events:
            kind = type(event)
            # A batch of leases is one event, and a line for each.
            parts = _each_lease(event) if kind is AddressesGranted else (event,)
            for part in parts:
                if kind in _CAUSED_BY_CLIENTS and not self._lines.take("", LINES_PER_SECOND, LINES_AT_ONCE, part.at):
                    self._left_out += 1
                elif kind is TransferEnded:
                    log_events.append(self._ended(part))
                elif kind is TransferRefused:
                    # Counted with the first one: most deliveries have none. pop() lets each line appear once.
                    if refused is None:
                        refused = Counter(_refusal(each) for each in events if type(each) is TransferRefused)
                    count = refused.pop(_refusal(part), 0)
                    if count:
                        log_events.append(self._refused(part, count))
                elif kind in _LINES:
                    log_events += self._by_line(_LINES[kind], part)
        if self._left_out and events[-1].at >= self._left_out_logged_at + LEFT_OUT_AGAIN:
            log_events.append(self._lines_left_out(events[-1].at))
        return log_events

    def _lines_left_out(self, now: float) -> LogEvent:
        count, self._left_out, self._left_out_logged_at = self._left_out, 0, now
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
        """Return the log event that ``log.emit(level, "{line}", line=line, **fields)`` would create, at lower cost.

        Formatting is most of the cost of a log event. Twisted formats a flattened event by joining its parts, so this
        adds the key that twisted.logger.flattenEvent() would add.
        """
        log = self.log
        if len(line) > LONGEST_LINE and "\n" not in line:
            line = _shortened(line)
            fields = {key: _shortened(value) if type(value) is str else value for key, value in fields.items()}
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
        if line.subject is not None:
            known = self._known.setdefault(type(event), OrderedDict())
            subject, state = line.subject(event)
            repeated = subject in known and known[subject] == state
            known[subject] = state
            known.move_to_end(subject)
            if len(known) > REMEMBERED:
                known.popitem(last=False)
            if repeated:
                return
        if line.resets is not None:
            self._known.pop(line.resets, None)
        for part in line.split(event) if line.split is not None else (event,):
            yield self._log_event(line.level_of(part), line.of(part), record(part))


def _shortened(text: str) -> str:
    """Return *text* without its middle, if it is longer than LONGEST_LINE."""
    left_out = len(text) - LONGEST_LINE
    if left_out <= 0:
        return text
    return f"{text[: LONGEST_LINE - _LAST_PART]}[{left_out} characters]{text[-_LAST_PART:]}"


def _refusal(event: Any) -> Hashable:
    """Return a key that is equal for refused requests that share a line: those of one client, so its fields fit all."""
    request = event.request
    return (
        *(request.peer[0], event.code, event.message, event.detail, event.persona),
        *(request.filename, request.write, request.protocol),
    )


@frozen
class _Line:
    """How one kind of event is logged."""

    level: Any
    """A LogLevel, or a function that returns the level of an event."""
    text: str
    """A format string. Its fields are attributes of the event, or names in *computed*."""
    computed: Mapping[str, Callable[[Any], object]]
    """Name of a field -> function that computes it from the event."""
    subject: Callable[[Any], tuple[Hashable, Hashable]] | None
    """Returns (subject, its state) of an event: logged only if the last event about that subject had another state.
    None: every event is logged."""
    split: Callable[[Any], Iterable[Any]] | None
    """Returns the events to log instead of the event."""
    resets: type[Event] | None
    """A kind of event whose remembered states are dropped by this event, so that the next one is logged."""
    _names: Sequence[str] = field(init=False)

    @_names.default
    def _names_of(self) -> Sequence[str]:
        return [name for _, name, _, _ in Formatter().parse(self.text) if name is not None]

    def level_of(self, event: Event) -> Any:
        """Return the LogLevel of *event*."""
        return self.level(event) if callable(self.level) else self.level

    def of(self, event: Event) -> str:
        """Return the line for *event*."""
        computed = self.computed
        return self.text.format(
            **{name: computed[name](event) if name in computed else getattr(event, name) for name in self._names}
        )


def _line(
    level: Any,
    text: str,
    subject: Callable[[Any], tuple[Hashable, Hashable]] | None = None,
    split: Callable[[Any], Iterable[Any]] | None = None,
    resets: type[Event] | None = None,
    **computed: Callable[[Any], object],
) -> _Line:
    return _Line(level, text, computed, subject, split, resets)


def _leadership(event: LeadershipChanged) -> str:
    """Describe the role of this server in a cluster."""
    if event.state == "leading":
        return "this server leads, and answers"
    if event.state == "cut off":
        return f"the store can't be reached, so leases are renewed up to their stored end, and no more: {event.reason}"
    if event.state == "resigned":
        return "this server does not lead any more, and does not answer: it is about to stop"
    leader = f"{event.leader} leads" if event.leader else "no server leads"
    return f"this server is a standby, and does not answer: {event.reason or leader}"


def client(request: BootRequest) -> str:
    """Describe the client of a request: "52:54:00:12:34:56 (uefi, x86_64-uefi, on eth0)"."""
    text = f"{request.mac or request.client_address} ({request.persona}, {request.architecture}"
    if request.interface:
        text += f", on {request.interface}"
    if request.relay_address not in ("0.0.0.0", "::"):
        text += f", by relay {request.relay_address}"
    return text + ")"


def holder(lease: Lease) -> str:
    """Describe the client of a lease, and its duration: "52:54:00:12:34:56 ('web1') for 3600 s"."""
    text = lease.mac or f"client {lease.client_id.hex()}"
    if lease.hostname:
        text += f" ({lease.hostname!r})"
    return f"{text} for ever" if lease.expires >= NEVER else f"{text} for {lease.expires - lease.granted:.0f} s"


def transfer_line(report: TransferReport) -> str:
    """Describe a finished transfer on one line."""
    request, agreed = report.request, report.agreed
    text = (
        f"{request.protocol} {address_text(request.peer)} {'put' if request.write else 'got'} {request.filename!r}: "
        f"{report.outcome.value}{f' ({report.detail})' if report.detail else ''}, "
        f"{report.bytes_transferred} bytes in {report.ended - report.began:.2f} s"
    )
    if report.waited >= MIN_BACKEND_WAIT:
        text += f" after {report.waited:.2f} s of waiting for {report.backend or 'the backend'}"
    if request.protocol == "tftp":
        text += f", blksize {agreed.blksize}"
    if agreed.windowsize > 1:
        text += f", windowsize {agreed.windowsize}"
    if report.retransmitted:
        text += f", {report.retransmitted} retransmitted"
    return text + _treated(report.persona)


def refused_line(event: TransferRefused, count: int) -> str:
    """Describe *count* equal requests of a client that were refused; *event* is the first one."""
    request = event.request
    verb = "offered" if request.write else "requested"
    notes = (f" ({event.detail})" if event.detail else "") + _treated(event.persona)
    peer = address_text(request.peer)
    times = f" {count} times" if count > 1 else ""
    return f"{request.protocol} {peer} {verb} {request.filename!r}{times}: ERROR {event.code} {event.message}{notes}"


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
    (lease,) = event.leases
    return f"{lease.address} to {holder(lease)}"


def _each_lease(event: Event) -> Iterable[AddressesGranted]:
    assert isinstance(event, AddressesGranted)
    return (evolve(event, leases=(lease,)) for lease in event.leases)


def _evidence(event: AddressTaken) -> str:
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
    return f": {cause.sentence}. What to do: {cause.remedy}" if cause is not None else ""


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
    missing = f"interface {socket.device}" if socket.device else f"{kind} {host}"
    by = f" ({socket.service}, port {port})" if port else ""
    return f"waiting for {missing}{by}: {socket.reason}"


def _socket_changes(event: SocketChanged) -> Sequence[SocketChanged]:
    """Return *event* if no other event reports the change; ListenerBound and ListenerFailed have lines of their own."""
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
    SocketChanged: _line(
        lambda event: _info if event.socket.state == "bound" else _warn,
        "{what}",
        split=_socket_changes,
        what=_socket_changed,
    ),
    ReadinessChanged: _line(
        _info,
        "{what}",
        what=lambda event: "every wanted socket is bound" if event.ready else "not ready: a wanted socket is not bound",
    ),
    BackendProblem: _line(_warn, "backend {backend}: {problem}"),
    InterfaceProblem: _line(
        _warn,
        "interface {interface}: {problem}",
        subject=lambda event: ((event.interface, event.problem), None),  # every worker reports it
    ),
    CertificateLoaded: _line(
        _info,
        "https certificate {path} is for {names}, until {ends}",
        subject=lambda event: (event.path, (event.names, event.ends)),  # every worker reports it
        names=lambda event: ", ".join(event.names) or "no host name",
        ends=lambda event: f"{datetime.fromtimestamp(event.ends, UTC):%Y-%m-%d}",
    ),
    CertificateProblem: _line(_warn, "https certificate {path}: {problem}"),
    HandshakeFailed: _line(_warn, "https {peer}: no connection: {reason}", peer=_peer),
    RequestIgnored: _line(
        _info, "dhcp {mac} ignored: {reason}", subject=lambda event: ((event.mac, event.reason), None)
    ),
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
    AddressesGranted: _line(_info, "dhcp leases {what}", what=_granted),
    AddressReleased: _line(_info, "dhcp {mac} releases {address}"),
    AddressTaken: _line(_warn, "dhcp {address} is in use without a lease: {how}", how=_evidence),
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
        subject=lambda event: ("store", event.reason),
    ),
    LeasesKeptAgain: _line(_info, "dhcp leases are stored again", resets=LeasesNotKept),
    LeadershipChanged: _line(
        lambda event: _warn if event.reason else _info,
        "dhcp {what}",
        what=lambda event: _leadership(event),
    ),
    BootAttemptEnded: _line(
        lambda event: _warn if event.attempt.verdict is Verdict.FAILED else _info,
        "boot {client}: {verdict} after {seconds:.0f} s{cause}",
        client=_boot_client,
        verdict=lambda event: event.attempt.verdict.value,
        seconds=lambda event: max(0.0, (event.attempt.ended or event.attempt.began) - event.attempt.began),
        cause=_boot_cause,
    ),
    InstallationReported: _line(
        lambda event: _warn if event.failed else LogLevel.debug,
        "http {client}: the installer {verb}: {what!r}",
        client=lambda event: event.mac or event.peer[0],
        verb=lambda event: "has failed" if event.failed else "reports",
    ),
    BootReported: _line(_info, "{protocol} {client}: {what}", client=lambda event: event.mac or event.peer[0]),
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
        "{plugin} blocked the server for {seconds:.2f} s in {doing}{remedy}",
        # IStartable.start() returns None.
        remedy=lambda event: "" if event.doing == "start()" else _RETURN_A_DEFERRED,
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
    ImageSent: _line(
        lambda event: _warn if event.detail else _info,
        "{image} was sent to {joined} receiver(s) by {method} to {where}, of which {completed} have it: {blocks_sent} "
        "blocks for {blocks}, {blocks_lost} lost{why}",
        where=lambda event: address_text(event.destination),
        blocks=lambda event: -(-event.size // 1024),
        why=lambda event: f"; ended: {event.detail}" if event.detail else "",
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
        subject=lambda event: ((event.service, event.reason, event.peer[0]), event.at // REPEATED_AFTER),
        peer=_peer,
    ),
    NeighbourTableFull: _line(
        _warn,
        "the kernel had no room for {overflows} neighbour(s), and dropped what was sent to them: {setting} is {most}, "
        "which has to be more than the machines of all links together",
    ),
    EventsDropped: _line(_warn, "{count} event(s) were dropped: an observer is too slow"),
}


_CAUSED_BY_CLIENTS = frozenset(
    (
        *(TransferEnded, TransferRefused, OfferMade, OfferWithheld, FileWithheld, RequestIgnored, AddressesGranted),
        *(AddressReleased, AddressTaken, BootAttemptEnded, SecondStageFound, HandshakeFailed, PluginFailed),
        *(
            InternalError,
            ResolverPassedOver,
            LoopBroken,
            OtherBootServerSeen,
            OtherServerSeen,
            PoolExhausted,
            ProxyARPSeen,
        ),
    )
)
"""Kinds of events that a client can cause at any rate, and whose lines are therefore limited."""


plugin = boot_plugin(IBootObserver, LogObserver)
