"""The ``loop-breaker`` resolver: makes a machine in a boot loop boot its own disk. The rule: docs/adr/0008-loops.md."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field, validators
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.api import (
    Address,
    BootFile,
    BootRequest,
    Client,
    Event,
    IBootFileResolver,
    IBootObserver,
    IClientAware,
    IOperable,
    IOrderStore,
    ISelectiveResolver,
    IStartable,
    LoopBroken,
    NextBootTaken,
    OfferMade,
    Outcome,
    PluginContext,
    StateError,
    TransferEnded,
    TransferReport,
    boot_plugin,
)
from bootfw.resolvers.scripts import is_url, local_boot
from bootfw.stores.memory import MemoryStore

LOOPS = "loop"
"""The kind of orders in the store that make a machine in a loop boot its own disk until a given time."""

MACHINES = 65536
"""Most machines that are remembered; the one whose last request is the oldest is dropped first."""

TRAIL = 32
"""Most files of a round that are compared."""

_SERVED = (Outcome.COMPLETE, Outcome.UNCONFIRMED)

LoadedFile = tuple[str, int]
"""(path, size in bytes) of a file. An edited script almost always has another size."""


@define(eq=False)
class _Machine:
    """A machine and its current round. A round lasts from a DHCP request to the next request of the same kind after the
    machine has loaded a file."""

    seen: float
    """Time of its last request or transfer."""
    requested: dict[str, tuple[int, int, int]] = field(factory=dict)
    """Kind of DHCP request -> its (xid, ``served``, ``offered``), which show whether a file was loaded since."""
    loaded: dict[LoadedFile, None] = field(factory=dict)
    """The files that the machine loaded in this round, in order."""
    served: int = 0
    """Number of files that it has loaded from this server."""
    offered: int = 0
    """Number of replies that named a file of another server."""
    trail: tuple[LoadedFile, ...] = ()
    """The files of the previous round."""
    times: int = 0
    """Consecutive rounds with that trail."""
    local_until: float = 0.0
    """The machine boots its own disk until then, in seconds of the reactor's clock; 0: it is not in a loop."""
    reason: str = ""
    """Why it boots its own disk, for the operator."""

    def note(self, file: LoadedFile) -> None:
        """Add a file to this round."""
        if len(self.loaded) < TRAIL:
            self.loaded.setdefault(file)


@implementer(ISelectiveResolver, IClientAware, IBootObserver, IStartable, IOperable)
@define(eq=False)
class LoopBreaker:
    """Makes a machine that boots the same files again and again boot its own disk for a while.

    It counts consecutive boots in which the machine loaded the same files, of the same size, and sent its next DHCP
    request so soon that it can't have installed or run a system. Retries, size probes, and boots without a loaded file
    do not count.
    """

    repeats: int = field(default=5, validator=validators.ge(2))
    """Number of such boots after which the machine boots its own disk."""
    within_seconds: float = field(default=300.0, validator=validators.gt(0))
    """Longest time from the end of the last file to the next DHCP request. A machine that takes longer has booted."""
    local_seconds: float = field(default=600.0, validator=validators.gt(0))
    """How long it boots its own disk. `bootfw next --forgive` ends this at once, and so does a one-time boot."""
    _reactor: Any = None
    _store: IOrderStore = field(factory=MemoryStore)
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)
    _client_at: Callable[[Address], Client] = field(default=lambda peer: Client(peer[0]), init=False, repr=False)
    _publish: Callable[[Event], None] = field(default=lambda event: None, init=False, repr=False)
    _machines: dict[str, _Machine] = field(factory=dict, init=False, repr=False)
    """MAC -> machine; the one with the latest request is last."""

    @classmethod
    def configured(
        cls, context: PluginContext, repeats: int = 5, within_seconds: float = 300.0, local_seconds: float = 600.0
    ) -> "LoopBreaker":
        """Called by boot_plugin."""
        return cls(repeats, within_seconds, local_seconds, context.reactor, context.orders or MemoryStore())

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        """See IClientAware."""
        self._client_at = lookup

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable."""
        self._publish = publish
        now, wall = self._reactor.seconds(), time.time()
        over = []
        for mac, order in self._store.load_orders(LOOPS).items():
            try:
                machine = _restored(order, now, wall)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise StateError(f"the stored loop of {mac} is invalid: {order!r}") from error
            if machine.local_until > now:
                self._machines[mac] = machine
            else:
                over.append(mac)
        if over:
            self._save(dict.fromkeys(over))

    def close(self) -> "Deferred[None]":
        """See IStartable. Only the machines that are in a loop are stored."""
        self._machines.clear()
        return self._store.close_orders(LOOPS)

    def resolve(self, request: BootRequest) -> BootFile | None:
        """See IBootFileResolver."""
        if not request.mac:
            return None  # in DHCPv6 the MAC may be unknown, and then machines can't be distinguished
        if not request.is_dhcp:
            return None  # of a boot program, after the DHCP request of this boot
        if request.may_be_system:
            return None  # an installed system that renews its address is no loop
        now = self._reactor.seconds()
        machine = self._machines.pop(request.mac, None)
        if machine is None or 0 < machine.local_until <= now:
            if machine is not None:
                self._save({request.mac: None})
            machine = _Machine(now)
        self._machines[request.mac] = machine
        if len(self._machines) > MACHINES:
            del self._machines[next(iter(self._machines))]
        if not machine.local_until:
            self._requested(machine, request, now)
            if machine.times < self.repeats:
                return None
            self._break(machine, request, now)
        return local_boot(request, machine.reason)

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        if isinstance(event, TransferEnded):
            request = event.report.request
            if self._machines and not request.write:
                machine = self._machines.get(self._client_at(request.peer).mac)
                if machine is not None:
                    self._ended(machine, event.report)
        elif isinstance(event, OfferMade):
            self._offered(event)
        elif isinstance(event, NextBootTaken):
            machine = self._machines.pop(event.mac, None)
            if machine is not None and machine.local_until:
                self._save({event.mac: None})

    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """See IOperable."""
        return {"looping": self._looping, "forgive": self._forgive}

    def _requested(self, machine: _Machine, request: BootRequest, now: float) -> None:
        """Count the round that this request ends, if it ends one."""
        kind = "ipxe" if request.ipxe else "http" if request.http else "pxe"
        this_request = (request.xid, machine.served, machine.offered)
        xid, served, offered = before = machine.requested.get(kind, this_request)
        # A request after a loaded file begins a new round, even if the firmware always sends the same xid. Whether a
        # client has loaded a file from another server is not known, so then only a new xid begins a round.
        if machine.served > served or (machine.offered > offered and request.xid != xid):
            trail = tuple(machine.loaded)
            if now - machine.seen > self.within_seconds:
                machine.times = 0
            elif trail == machine.trail:
                machine.times += 1
            else:
                machine.times = 1
            machine.trail = trail
            machine.loaded.clear()
            machine.requested.clear()
            before = this_request
        machine.requested[kind] = before
        machine.seen = now

    def _ended(self, machine: _Machine, report: TransferReport) -> None:
        machine.seen = max(machine.seen, report.ended)
        if report.outcome in _SERVED:
            machine.served += 1
            # The size of the file, since bytes_transferred is smaller if the last ACK was lost.
            size = report.agreed.tsize
            machine.note((report.request.path, report.bytes_transferred if size is None else size))

    def _offered(self, event: OfferMade) -> None:
        """Count the offer of a file on another server as a loaded file, since its transfer is not seen."""
        file, machine = event.file, self._machines.get(event.request.mac)
        if machine is None or not isinstance(file, BootFile) or machine.local_until:
            return
        own_urls = [url for url in (event.request.http_url, event.request.https_url) if url]
        elsewhere = is_url(file.name) and not any(file.name.startswith(f"{url}/") for url in own_urls)
        if elsewhere or file.server not in (None, event.request.server):
            machine.offered += 1
            machine.note((file.name, 0))

    def _break(self, machine: _Machine, request: BootRequest, now: float) -> None:
        files = tuple(name for name, _ in machine.trail)
        machine.local_until = now + self.local_seconds
        machine.reason = _reason(machine.times, files)
        until = time.time() + self.local_seconds
        self._save({request.mac: {"files": files, "times": machine.times, "until": until}})
        self._publish(LoopBroken(now, request, files, machine.times, machine.local_until))

    def _save(self, orders: Mapping[str, Mapping[str, object] | None]) -> None:
        self._store.save_orders(LOOPS, orders).addErrback(self._not_saved)

    def _not_saved(self, failure: Failure) -> None:
        self._log.error(
            "boot loops can't be stored, so a restart forgets which machines are in one: {why}", why=failure.value
        )

    def _looping(self, arguments: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        now = self._reactor.seconds()
        for mac, machine in list(self._machines.items()):
            if machine.local_until > now:
                yield _record(mac, machine, now)

    def _forgive(self, arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        now, mac = self._reactor.seconds(), str(arguments.get("mac"))
        machine = self._machines.get(mac)
        if machine is None or machine.local_until <= now:
            return ()
        del self._machines[mac]
        self._save({mac: None})
        self._log.info("dhcp {mac}: boot loop ended by the operator; it boots from the network again", mac=mac)
        return (_record(mac, machine, now),)


def _reason(times: int, files: Sequence[str]) -> str:
    return f"it loaded the same files {times} times in a row and came back: {', '.join(files)}"


def _restored(order: Mapping[str, Any], now: float, wall: float) -> _Machine:
    """Return the machine of a stored order.

    :param now: seconds of the reactor's clock.
    :param wall: the same time in seconds since the epoch.
    """
    files, times = [str(name) for name in order["files"]], int(order["times"])
    trail = tuple((name, 0) for name in files)
    until = now + float(order["until"]) - wall
    return _Machine(now, trail=trail, times=times, local_until=until, reason=_reason(times, files))


def _record(mac: str, machine: _Machine, now: float) -> Mapping[str, Any]:
    files = [name for name, _ in machine.trail]
    return {"mac": mac, "files": files, "times": machine.times, "seconds": machine.local_until - now}


plugin = boot_plugin(IBootFileResolver, LoopBreaker)
