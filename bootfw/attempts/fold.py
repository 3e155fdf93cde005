"""The fold from events to boot attempts: which machine an event is about, and whether it belongs to the same boot.

A machine is known by its MAC, by its UUID where DHCPv6 does not tell the MAC, and by the addresses that it was given.
One boot has several DHCP clients: the firmware, then iPXE or GRUB, then the installed system. A boot ends when the same
firmware starts again; see ``_is_restart()``.

Times come in on the reactor's clock, and leave as seconds since the epoch.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from attrs import define, evolve, field

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict
from bootfw.attempts.attemptstates import AttemptStates, Do, Input, State
from bootfw.attempts.filekinds import is_payload, is_program
from bootfw.attempts.symptoms import PROGRAM_RETURNED, judge
from bootfw.events import (
    AddressesGranted,
    AddressRefused,
    AddressTaken,
    BootReported,
    Event,
    EventsDropped,
    FileWithheld,
    HandshakeFailed,
    InstallationReported,
    LeasesNotKept,
    LoopBroken,
    OfferMade,
    OfferWithheld,
    OtherBootServerSeen,
    OtherServerSeen,
    PluginFailed,
    PoolExhausted,
    RequestClassified,
    RequestIgnored,
    ResolverAnswered,
    ResolverPassedOver,
    ResolverUnavailable,
    SecondStageFound,
    TransferBegun,
    TransferEnded,
    TransferRefused,
)
from bootfw.values import Address, BootFile, BootMenu, BootRequest, Client, Outcome, TransferReport, TransferRequest

STAGES = 120
"""Stages that one attempt keeps at most: the first FIRST_STAGES, and the latest ones."""

FIRST_STAGES = 40
"""See STAGES. The first ones show what the firmware is, and the latest ones why it stopped."""

FILES = 200
"""Names of files that one attempt keeps at most."""

LONGEST_NAME = 255
"""Characters of a name that are kept, so that the bound on stages bounds their bytes."""

ADDRESSES = 16
"""Addresses that one attempt keeps at most; the one that was added first goes."""

ATTEMPTS = 5000
"""Attempts that are kept in memory at most. Those with a verdict go first."""

REMEMBERED = 7200.0
"""Seconds for which an attempt with a verdict stays in memory, so that a late request of the phone-home URL is added to
it."""

LONGEST_PAUSE = 600.0
"""Seconds: what a machine does after a longer pause is another boot."""

LOOKUP_INTERVAL = 1.0
"""Maximum seconds until the MAC behind an address without one is looked up again. It is sooner in the beginning: a
lookup is due when the attempt is twice as old as at the last one."""

INSTALLER_PATIENCE = 120.0
"""Seconds until the next report of a system that installs the machine. bootfw/cli/diskinstall.py reports every 10 s."""

LONGEST_TRANSFER = 7200.0
"""Seconds that a running transfer keeps an attempt open: the process that served it may be gone."""

_IPXE_PATIENCE = 20.0
"""The same where iPXE is the firmware. It repeats DISCOVER, REQUEST and RRQ for 8 s at most, in gaps of up to 4 s
(measured, ROM of Debian 12)."""

SILENT = 40.0
"""Seconds of silence after which a machine that has not booted has stopped. EDK2 sends DISCOVERs in gaps of up to 32 s,
and GRUB waits 34 s for lost data (both measured); U-Boot 5 s."""

_SOONEST_RESTART = 1.0
"""Seconds: no machine is through its power-on self-test sooner. U-Boot repeats DHCP for each file that it loads."""

_NO_ADDRESS = ("", "0.0.0.0", "::")
_LOADED = (Outcome.COMPLETE, Outcome.UNCONFIRMED)
_OUTCOMES = {outcome: outcome.name.lower() for outcome in Outcome}
_REQUEST_KINDS = {"discover": StageKind.DISCOVER, "request": StageKind.REQUEST, "boot-server": StageKind.BOOT_SERVER}
_PARAMETER_LISTS = {4: 55, 6: 6}
"""Version of DHCP -> the option with the list of options that the client requests: each program has its own list."""


@define(eq=False)
class _Entry:
    """A stage that may still change."""

    at: float
    kind: StageKind
    data: dict[str, Any]
    count: int = 1
    until: float = 0.0
    _stage: Stage | None = None

    def repeat(self, at: float) -> None:
        """Count a repetition."""
        self.count += 1
        self.until = at
        self._stage = None

    def end(self, at: float, data: dict[str, Any]) -> None:
        """End it, with what is known of it now."""
        self.until, self.data = at, data
        self._stage = None

    @property
    def stage(self) -> Stage:
        """The stage as a value: the same object until something changes, since each change publishes all of them."""
        if self._stage is None:
            self._stage = Stage(self.at, self.kind, self.data, self.count, self.until)
        return self._stage


@define(eq=False)
class _Attempt:
    """A boot attempt that is not closed."""

    id: str
    began: float
    """Seconds since the epoch."""
    first_seen: float
    """When it began, on the reactor's clock, as the next two times."""
    last_seen: float
    """When the client did something last."""
    deadline: float
    """When it is judged if nothing happens until then."""
    patience: float
    """Seconds that its firmware pauses at most between two requests."""
    next_lookup: float = -inf
    """When its MAC may be looked up again."""
    states: AttemptStates = field(factory=AttemptStates)
    keys: dict[str, None] = field(factory=dict)
    """Its keys in the index of Attempts."""
    mac: str = ""
    uuid: str = ""
    addresses: list[str] = field(factory=list)
    persona: str = ""
    architecture: str = ""
    interface: str = ""
    signature: Any = None
    """The _signature() of the first DHCP client of this boot, the firmware; None: it has sent no DHCP request."""
    round: dict[Any, _Entry] = field(factory=dict)
    """The DHCP messages since the last file or completed exchange, so that repetitions are counted."""
    round_xid: int | None = None
    entries: list[_Entry] = field(factory=list)
    omitted: int = 0
    running: dict[Any, _Entry] = field(factory=dict)
    """(peer, file name) -> transfers that have begun."""
    latest_request: _Entry | None = None
    """The latest request for a file by TFTP."""
    files: dict[str, None] = field(factory=dict)
    last_file: str = ""
    named_file: str = ""
    """The latest boot file that a reply named for it, as a path."""
    bytes: int = 0
    has_payload: bool = False
    verdict: Verdict = Verdict.IN_PROGRESS
    cause: Cause | None = None
    ended: float | None = None
    """Seconds since the epoch, of the verdict."""

    def snapshot(self) -> BootAttempt:
        """Return the attempt as a value."""
        stages = tuple([entry.stage for entry in self.entries])
        retries: dict[str, int] = {}
        for stage in stages:
            if stage.count > 1:
                name = stage.kind.value
                retries[name] = retries.get(name, 0) + stage.count - 1
        return BootAttempt(
            self.id,
            self.began,
            self.ended,
            self.mac,
            self.uuid,
            tuple(self.addresses),
            self.persona,
            self.architecture,
            self.interface,
            stages,
            self.omitted,
            tuple(self.files),
            self.bytes,
            retries,
            self.verdict,
            self.cause,
        )


@define(eq=False)
class Attempts:
    """Joins events into boot attempts.

    :param wall: seconds since the epoch at second 0 of the reactor's clock; it may be changed when the clock is set.
    :param client_at: the client at an address. Called for transfers of addresses that are not known from DHCP.
    :param quiet: seconds of silence after its last file by which a machine is taken to have booted.
    :param silent: seconds of silence by which a machine that has not booted is taken to have stopped.
    """

    wall: float
    client_at: Callable[[Address], Client] = field(default=lambda peer: Client(peer[0]))
    quiet: float = 30.0
    silent: float = SILENT
    out: list[BootAttempt] = field(factory=list, init=False)
    """Attempts that have reached a verdict, or a better one; the adapter empties it."""
    _index: dict[str, _Attempt] = field(factory=dict, init=False)
    """MAC, UUID or IP address -> its latest attempt."""
    # An OrderedDict, since finding the first entry of a dict takes longer with each one that was removed before it.
    _all: OrderedDict[str, _Attempt] = field(factory=OrderedDict, init=False)
    """By id; the oldest first."""
    _judged: OrderedDict[str, _Attempt] = field(factory=OrderedDict, init=False)
    """Of these, the ones with a verdict; that with the oldest verdict first."""
    _open: dict[str, _Attempt] = field(factory=dict, init=False)
    """The ones without a verdict."""
    _changed: dict[str, _Attempt] = field(factory=dict, init=False)
    _methods: dict[type[Event], Callable[[Any], None]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._methods = {
            RequestClassified: self._requested,
            RequestIgnored: self._ignored,
            ResolverAnswered: self._resolved,
            ResolverPassedOver: self._passed_over,
            ResolverUnavailable: self._unavailable,
            OfferMade: self._offered,
            OfferWithheld: self._withheld,
            FileWithheld: self._withheld,
            AddressesGranted: self._granted,
            AddressRefused: self._address_refused,
            AddressTaken: self._declined,
            PoolExhausted: self._exhausted,
            OtherServerSeen: self._other_server,
            OtherBootServerSeen: self._other_boot_server,
            LeasesNotKept: self._not_kept,
            PluginFailed: self._plugin_failed,
            LoopBroken: self._loop_broken,
            TransferBegun: self._begun,
            TransferEnded: self._transferred,
            TransferRefused: self._refused,
            SecondStageFound: self._second_stage,
            HandshakeFailed: self._no_tls,
            BootReported: self._reported,
            InstallationReported: self._installs,
            EventsDropped: self._events_dropped,
        }

    # What the adapter calls.

    def add(self, event: Event) -> None:
        """Take one event, of any kind."""
        take = self._methods.get(type(event))
        if take is not None:
            take(event)

    def up(self, now: float, peer: Address, mac: str = "", protocol: str = "") -> bool:
        """Take a request of the phone-home URL. Return whether there is an attempt of the machine."""
        found = self._index.get(mac) if mac else self._attempt_at(peer, now)
        if found is None:
            return False
        self._note(found, now, StageKind.UP, {"protocol": protocol} if protocol else {})
        self._handle(found, Input.UP, now)
        return True

    def tick(self, now: float) -> None:
        """End the attempts of clients that have been silent for too long; forget the oldest ones."""
        for attempt in [each for each in self._open.values() if each.deadline <= now]:
            # A transfer has no events but its begin and its end, so a client that loads a large file looks silent.
            if _is_loading(attempt) and now < attempt.last_seen + LONGEST_TRANSFER:
                attempt.deadline = now + self.quiet
            else:
                self._handle(attempt, Input.SILENT, now)
        for attempt in list(self._all.values()):
            if attempt.last_seen + REMEMBERED > now:
                break
            self._handle(attempt, Input.FORGOTTEN, now)

    @property
    def idle(self) -> bool:
        """Whether no tick is needed before the next event."""
        return not self._open and not self._changed

    def changes(self) -> list[BootAttempt]:
        """Return the attempts without a verdict that have changed since the last call."""
        changed, self._changed = self._changed, {}
        return [attempt.snapshot() for attempt in changed.values()]

    def running(self) -> list[BootAttempt]:
        """Return the attempts without a verdict, the oldest first."""
        return [each.snapshot() for each in self._open.values() if each.states.state is State.RUNNING]

    def amend(self, id: str, kind: StageKind, file: str, data: dict[str, Any]) -> bool:
        """Add what was found out about a stage afterwards, and judge again; see amended().

        :return: false: the attempt is closed.
        """
        attempt = self._all.get(id)
        if attempt is None:
            return False
        for entry in reversed(attempt.entries):
            if entry.kind is kind and entry.data.get("file") == file:
                entry.end(entry.until, {**entry.data, **data})
                break
        else:
            at = _last_end([entry.stage for entry in attempt.entries[-1:]], attempt.began)
            self._append(attempt, _Entry(at, kind, {"file": file, **data}))
        if attempt.states.state is State.ENDED:
            self._judge(attempt, attempt.ended)
        return True

    def stop(self, now: float) -> None:
        """Close everything: the service stops. Boots in progress are published first."""
        for attempt in list(self._all.values()):
            self._handle(attempt, Input.STOPPED, now)

    # DHCP.

    def _requested(self, event: RequestClassified) -> None:
        request, at = event.request, event.at
        kind = _REQUEST_KINDS[request.phase]
        attempt = self._attempt_of(request)
        signature = _signature(request)
        returned = ""
        if attempt is not None and kind is not StageKind.BOOT_SERVER and self._is_restart(attempt, request, event.at):
            is_running = attempt.states.state is State.RUNNING
            if is_running and not attempt.has_payload:
                self._note(attempt, at, StageKind.RESTART, {"seconds": round(at - attempt.last_seen, 3)})
            self._handle(attempt, Input.REPLACED, at)
            if is_running and attempt.cause is not None and attempt.cause.key == PROGRAM_RETURNED:
                returned = attempt.last_file
            attempt = None
        if attempt is None:
            attempt = self._new(at, request.mac, request.uuid or "")
            if returned:
                self._note(attempt, at, StageKind.RETURNED, {"file": returned})
        if request.may_be_system and attempt.files:
            self._note_system(attempt, at)
            return
        self._identify(attempt, request, signature)
        if (
            kind is StageKind.DISCOVER
            and attempt.round_xid not in (None, request.xid)
            and ((StageKind.ACK in attempt.round) or (StageKind.BOOT_SERVER in attempt.round))
        ):
            # Another exchange, after one that was complete: what it repeats is no retry.
            attempt.round = {}
        attempt.round_xid = request.xid if kind is not StageKind.BOOT_SERVER else attempt.round_xid
        stack = "ipxe" if request.ipxe else "http" if request.http else "pxe"
        key = kind, stack, request.family
        known = attempt.round.get(key)
        if known is not None:
            known.repeat(at + self.wall)
        else:
            data: dict[str, Any] = {
                "persona": request.persona,
                "architecture": request.architecture,
                "stack": stack,
                "family": request.family,
                "xid": request.xid,
            }
            if request.interface:
                data["interface"] = request.interface
            if request.relay_address not in _NO_ADDRESS:
                data["relay"] = request.relay_address
            if request.vendor_class:
                data["vendor_class"] = request.vendor_class
            if request.boot_item is not None:
                data["item"] = request.boot_item
            attempt.round[key] = attempt.round[kind] = self._note(attempt, at, kind, data)
        self._mark_seen(attempt, at, attempt.patience, is_boot=not request.may_be_system)

    def _is_restart(self, attempt: _Attempt, request: BootRequest, at: float) -> bool:
        """Return whether a DHCP request begins another boot than *attempt*."""
        if at - attempt.last_seen > LONGEST_PAUSE:
            return True
        if request.may_be_system:
            return False
        if attempt.signature is None or not attempt.files:
            # It came to DHCP after its first file; or it has loaded nothing, and tries again or in another way.
            return attempt.signature is None and bool(attempt.files)
        if _signature(request) != attempt.signature:
            # A boot program, or the next entry in the firmware's boot order. After a kernel, the firmware was changed.
            return attempt.has_payload and attempt.states.state is State.ENDED
        if at - attempt.last_seen < _SOONEST_RESTART:
            return False
        if not request.ipxe:
            return request.xid != attempt.round_xid or at - attempt.last_seen > attempt.patience
        # A ROM with iPXE loads iPXE again, or a script with "dhcp" in it, and then looks the same.
        if attempt.has_payload:
            return True
        return attempt.states.state is State.ENDED and not is_program(attempt.last_file)

    def _ignored(self, event: RequestIgnored) -> None:
        if event.request is not None:
            self._requested(RequestClassified(event.at, event.request))
            self._note_about(event.mac, event.at, StageKind.NO_ADDRESS, {"reason": event.reason})
            return
        attempt = self._index.get(event.mac)
        if attempt is not None:
            self._note_system(attempt, event.at)

    def _granted(self, event: AddressesGranted) -> None:
        for lease in event.leases:
            attempt = self._index.get(lease.mac)
            if attempt is not None:
                self._add_address(attempt, lease.address)

    def _note_system(self, attempt: _Attempt, at: float) -> None:
        """Note that an operating system requests its address. After a kernel, it is the one that was booted."""
        if attempt.has_payload and attempt.entries[-1].kind is not StageKind.SYSTEM:
            self._note(attempt, at, StageKind.SYSTEM, {})

    def _resolved(self, event: ResolverAnswered) -> None:
        if event.answer is None:
            return
        data: dict[str, Any] = {"resolver": event.resolver, "outcome": "answered", "seconds": round(event.seconds, 6)}
        if isinstance(event.answer, BootMenu):
            data["menu"] = len(event.answer.items)
        else:
            data["file"] = event.answer.name
        self._decided(event.request, event.at, data)

    def _passed_over(self, event: ResolverPassedOver) -> None:
        data = {"resolver": event.resolver, "outcome": "too slow", "seconds": round(event.seconds, 6)}
        self._decided(event.request, event.at, data)

    def _unavailable(self, event: ResolverUnavailable) -> None:
        data = {"resolver": event.resolver, "outcome": "unavailable", "reason": event.reason}
        self._decided(event.request, event.at, data)

    def _decided(self, request: BootRequest, at: float, data: dict[str, Any]) -> None:
        attempt = self._attempt_of(request)
        if attempt is not None:
            key = data["resolver"], data["outcome"], request.ipxe, request.http
            self._once_in_round(attempt, key, at, StageKind.RESOLVER, data)

    def _offered(self, event: OfferMade) -> None:
        request = event.request
        attempt = self._attempt_of(request)
        if attempt is None:
            return
        data: dict[str, Any] = {"destination": event.destination[0]}
        file = event.file
        if event.address:
            self._add_address(attempt, event.address)
            data["address"] = event.address
        if isinstance(file, BootFile):
            data["file"] = file.name
            attempt.named_file = file.name.partition("://")[2].partition("/")[2] or file.name.lstrip("/")
            server = _other_server(file, request)
            if server:
                data["server"] = server
        elif isinstance(file, BootMenu):
            data["menu"] = len(file.items)
        else:
            data["boot_server"] = True
        kind = StageKind.OFFER
        if request.phase == "boot-server":
            kind = StageKind.BOOT_SERVER_REPLY
        elif event.message not in ("OFFER", "ADVERTISE"):
            kind = StageKind.ACK
        self._once_in_round(attempt, (kind, request.ipxe, request.http, request.family), event.at, kind, data)
        attempt.round.setdefault(kind, attempt.entries[-1])

    def _withheld(self, event: OfferWithheld | FileWithheld) -> None:
        attempt = self._attempt_of(event.request)
        if attempt is not None:
            kind = StageKind.NO_ANSWER if isinstance(event, OfferWithheld) else StageKind.NO_FILE
            data = {"reason": event.reason, "phase": event.request.phase}
            self._once_in_round(attempt, (kind, event.reason), event.at, kind, data)

    def _once_in_round(self, attempt: _Attempt, key: Any, at: float, kind: StageKind, data: dict[str, Any]) -> None:
        known = attempt.round.get(key)
        if known is not None and known.data.get("file") == data.get("file"):
            known.repeat(at + self.wall)
        else:
            attempt.round[key] = self._note(attempt, at, kind, data)
        self._mark_seen(attempt, at, 0.0)

    def _address_refused(self, event: AddressRefused) -> None:
        self._note_about(event.mac, event.at, StageKind.ADDRESS_REFUSED, {"address": event.address})

    def _declined(self, event: AddressTaken) -> None:
        if event.declined:
            self._note_about(event.mac, event.at, StageKind.ADDRESS_DECLINED, {"address": event.address})

    def _exhausted(self, event: PoolExhausted) -> None:
        if event.request is not None:
            self._requested(RequestClassified(event.at, event.request))
        self._note_about(event.mac, event.at, StageKind.POOL_EXHAUSTED, {"network": event.network})

    def _other_server(self, event: OtherServerSeen) -> None:
        self._note_about(event.mac, event.at, StageKind.OTHER_SERVER, {"server": event.server})

    def _other_boot_server(self, event: OtherBootServerSeen) -> None:
        data = {"server": event.server, "file": event.file}
        self._note_about(event.mac, event.at, StageKind.OTHER_BOOT_SERVER, data)

    def _not_kept(self, event: LeasesNotKept) -> None:
        for mac in event.macs:
            self._note_about(mac, event.at, StageKind.PROBLEM, {"what": event.reason, "doing": "store the lease"})

    def _plugin_failed(self, event: PluginFailed) -> None:
        if event.mac:
            self._note_about(event.mac, event.at, StageKind.PROBLEM, {"what": event.plugin, "doing": event.doing})

    def _loop_broken(self, event: LoopBroken) -> None:
        data = {"files": list(event.files), "times": event.times}
        self._note_about(event.request.mac, event.at, StageKind.LOOP, data)

    def _note_about(self, mac: str, at: float, kind: StageKind, data: dict[str, Any]) -> None:
        """Add a stage to the attempt of the machine with *mac*, if it has no verdict yet."""
        attempt = self._index.get(mac)
        if attempt is not None and attempt.states.state is not State.ENDED:
            last = attempt.entries[-1] if attempt.entries else None
            if last is not None and last.kind is kind and last.data == data:
                last.repeat(at + self.wall)
            else:
                self._note(attempt, at, kind, data)
            self._mark_seen(attempt, at, 0.0)

    # Files.

    def _begun(self, event: TransferBegun) -> None:
        request = event.request
        attempt = self._for_transfer(request, event.at)
        if event.acked is not None and (request.peer, request.filename) in attempt.running:
            self._mark_seen(attempt, event.at, self.quiet)  # another node goes on with it
            return
        data: dict[str, Any] = {"protocol": request.protocol, "file": _name(request.path), "peer": request.peer[0]}
        agreed = event.agreed
        if request.protocol == "tftp":
            data["blksize"], data["windowsize"] = agreed.blksize, agreed.windowsize
        if agreed.tsize is not None:
            data["size"] = agreed.tsize
        kind = StageKind.UPLOAD if request.write else StageKind.TRANSFER
        entry = self._note(attempt, event.at, kind, data)
        attempt.running[request.peer, request.filename] = entry
        attempt.round = {}
        if request.protocol == "tftp":
            attempt.latest_request = entry
        self._mark_seen(attempt, event.at, self.quiet, is_boot=request.protocol == "tftp" and not request.write)

    def _transferred(self, event: TransferEnded) -> None:
        report = event.report
        request, outcome = report.request, report.outcome
        if outcome is Outcome.HANDED_OVER:
            return
        attempt = self._attempt_at(request.peer, event.at)
        entry = attempt.running.pop((request.peer, request.filename), None) if attempt is not None else None
        if attempt is None or entry is None:
            # It began before the service did, or before the machine was known by its MAC.
            attempt = self._for_transfer(request, event.at)
            kind = StageKind.UPLOAD if request.write else StageKind.TRANSFER
            entry = self._note(attempt, report.began, kind, {})
            if request.protocol == "tftp" and (attempt.latest_request is None or attempt.latest_request.at <= entry.at):
                attempt.latest_request = entry
        entry.end(report.ended + self.wall, _transfer_data(report))
        attempt.bytes += report.bytes_transferred
        # By TFTP a client reads one file at a time. When it has requested another one, the end of this one does not
        # show what it does now.
        is_abandoned = request.protocol == "tftp" and entry is not attempt.latest_request
        patience = 0.0 if is_abandoned else attempt.patience
        if outcome in _LOADED and not request.write:
            if not is_abandoned:
                patience = self.quiet
                attempt.last_file = _name(request.path)
            if len(attempt.files) < FILES:
                attempt.files.setdefault(_name(request.path))
            if is_payload(request.path):
                attempt.has_payload = True
        failed_upload = request.write and outcome not in _LOADED
        is_boot = request.protocol == "tftp" and not is_abandoned and (failed_upload or not request.write)
        self._mark_seen(attempt, event.at, patience, is_boot=is_boot)

    def _refused(self, event: TransferRefused) -> None:
        request = event.request
        attempt = self._for_transfer(request, event.at)
        data: dict[str, Any] = {
            "protocol": request.protocol,
            "file": _name(request.path),
            "code": event.code,
            "message": event.message,
        }
        if event.detail:
            data["detail"] = event.detail
        if request.write:
            data["upload"] = True
        last = attempt.entries[-1] if attempt.entries else None
        if last is not None and last.kind is StageKind.REFUSED and last.data == data:
            last.repeat(event.at + self.wall)
        else:
            last = self._note(attempt, event.at, StageKind.REFUSED, data)
        if request.protocol == "tftp":
            attempt.latest_request = last
        self._mark_seen(attempt, event.at, attempt.patience, is_boot=request.protocol == "tftp")

    def _second_stage(self, event: SecondStageFound) -> None:
        attempt = self._for_transfer(event.request, event.at)
        self._note(
            attempt, event.at, StageKind.SECOND_STAGE, {"file": _name(event.request.path), "path": _name(event.path)}
        )

    def _no_tls(self, event: HandshakeFailed) -> None:
        attempt = self._attempt_at(event.peer, event.at)
        if attempt is not None:
            self._note(attempt, event.at, StageKind.TLS, {"reason": event.reason})
            self._mark_seen(attempt, event.at, attempt.patience)

    def _reported(self, event: BootReported) -> None:
        attempt = (self._index.get(event.mac) if event.mac else None) or self._attempt_at(event.peer, event.at)
        if attempt is None or event.at - attempt.last_seen > LONGEST_PAUSE:
            if event.by_system:
                return  # its boot was not seen, or is long over
            attempt = self._new(event.at, event.mac, "")
        self._add_address(attempt, event.peer[0])
        data: dict[str, Any] = {"protocol": event.protocol, "what": _name(event.what)}
        if event.by_system:
            data["by_system"] = True
        last = attempt.entries[-1] if attempt.entries else None
        if last is not None and last.kind is StageKind.REPORT and last.data == data:
            last.repeat(event.at + self.wall)
        else:
            self._note(attempt, event.at, StageKind.REPORT, data)
        self._mark_seen(attempt, event.at, attempt.patience)

    def _installs(self, event: InstallationReported) -> None:
        attempt = (self._index.get(event.mac) if event.mac else None) or self._attempt_at(event.peer, event.at)
        if attempt is None:
            return
        self._add_address(attempt, event.peer[0])
        data: dict[str, Any] = {"what": _name(event.what)}
        if event.failed:
            data["failed"] = True
        last = attempt.entries[-1] if attempt.entries else None
        if last is not None and last.kind is StageKind.INSTALLATION and not last.data.get("failed"):
            last.end(event.at + self.wall, data)  # only the latest progress matters
        elif last is not None and last.kind is StageKind.INSTALLATION and last.data == data:
            last.repeat(event.at + self.wall)
        else:
            self._note(attempt, event.at, StageKind.INSTALLATION, data)
        attempt.last_seen, attempt.deadline = event.at, event.at + INSTALLER_PATIENCE
        if event.failed:
            self._handle(attempt, Input.FAILED, event.at)
        else:
            self._handle(attempt, Input.SEEN if attempt.verdict is Verdict.UP else Input.BOOTS, event.at)

    def _for_transfer(self, request: TransferRequest, at: float) -> _Attempt:
        """Return the attempt that a request for a file belongs to: a new one if there is none."""
        attempt = self._attempt_at(request.peer, at)
        if attempt is None or at - attempt.last_seen > LONGEST_PAUSE:
            client = self.client_at(request.peer)
            attempt = None if client.mac else self._by_file(request.path, request.peer[0])
            if attempt is None:
                attempt = self._new(at, client.mac, client.uuid or "")
                if client.persona:
                    attempt.persona, attempt.architecture = client.persona, client.architecture
            self._add_address(attempt, request.peer[0])
        return attempt

    def _by_file(self, path: str, address: str) -> _Attempt | None:
        """Return the latest attempt of a client whose reply named *path*, and whose address is not known.

        For clients of a proxy that are behind a router: neither their DHCP nor the kernel tells their address. By IPv6
        EDK2 loads its file from another address than it had on port 4011, which the kernel learns with our first
        packet to it; so the only client that has not loaded the file that a reply named is taken for that one.
        """
        named = [each for each in self._open.values() if each.named_file == path]
        waiting = [each for each in named if not each.addresses]
        if waiting:
            return waiting[-1]
        others = [each for each in named if ":" in "".join(each.addresses) and not each.files and not each.running]
        return others[0] if ":" in address and len(others) == 1 else None

    def _attempt_at(self, peer: Address, now: float) -> _Attempt | None:
        """Return the attempt of the machine at *peer*; None: there is none."""
        attempt = self._index.get(peer[0])
        if attempt is None:
            found = self._index.get(self.client_at(peer).mac)
            if found is not None:
                self._add_address(found, peer[0])
            return found
        ended = attempt.states.state is State.ENDED
        if not ended and (attempt.mac or attempt.uuid):
            return attempt
        # A lookup costs system calls, which a client that loads many small files must not cause for each of them.
        if now < attempt.next_lookup:
            return attempt
        attempt.next_lookup = now + min(now - attempt.first_seen, LOOKUP_INTERVAL)
        mac = self.client_at(peer).mac
        if not ended:
            return self._with_mac(attempt, mac)
        # The address may have passed to another machine.
        found = self._index.get(mac)
        if found is not None and found is not attempt:
            self._add_address(found, peer[0])
        return found or attempt

    def _with_mac(self, attempt: _Attempt, mac: str) -> _Attempt:
        """Return the attempt of a machine that was known by its address only, now that its *mac* may be known.

        The kernel learns the MAC with our first packet to the address, which is after the first request.
        """
        if not mac:
            return attempt
        other = self._index.get(mac)
        if other is None or attempt.last_seen - other.last_seen > LONGEST_PAUSE:
            attempt.mac = mac
            self._add_key(attempt, mac)
            return attempt
        self._merge(other, attempt)
        return other

    def _merge(self, attempt: _Attempt, later: _Attempt) -> None:
        """Add to *attempt* what the same machine did under an address that was not known to be its own."""
        self._drop(later)
        for entry in later.entries:
            self._append(attempt, entry)
        attempt.omitted += later.omitted
        attempt.running |= later.running
        for file in list(later.files)[: FILES - len(attempt.files)]:
            attempt.files.setdefault(file)
        attempt.latest_request = later.latest_request or attempt.latest_request
        attempt.last_file = later.last_file or attempt.last_file
        attempt.bytes += later.bytes
        attempt.has_payload = attempt.has_payload or later.has_payload
        for address in later.addresses:
            self._add_address(attempt, address)

    # All.

    def _events_dropped(self, event: EventsDropped) -> None:
        """Forget the attempts without a verdict. What was dropped may be the file that an attempt seems to lack: no
        verdict is better than a wrong one."""
        for attempt in list(self._open.values()):
            self._handle(attempt, Input.FORGOTTEN, event.at)

    def _attempt_of(self, request: BootRequest) -> _Attempt | None:
        found = self._index.get(request.mac) if request.mac else None
        if found is None and request.uuid:
            found = self._index.get(request.uuid)
            if found is not None and found.mac and request.mac:
                return None  # another card of the same machine, or a UUID that the vendor gave to all
        if found is None and not request.mac and request.client_address not in _NO_ADDRESS:
            found = self._index.get(request.client_address)
        return found

    def _new(self, at: float, mac: str, uuid: str) -> _Attempt:
        began = at + self.wall
        name = mac.replace(":", "") or uuid or "client"
        id, number = f"{name}-{int(began * 1000):x}", 0
        # Two attempts of a machine may begin within a millisecond, or at one time if the clock was set back.
        while id in self._all:
            number += 1
            id = f"{name}-{int(began * 1000) + number:x}"
        attempt = _Attempt(id, began, at, at, at + self.silent, self.silent)
        if len(self._all) >= ATTEMPTS:
            self._make_room(at)
        self._all[id] = self._open[id] = attempt
        if mac:
            attempt.mac = mac
            self._add_key(attempt, mac)
        if uuid:
            attempt.uuid = uuid
            # Some vendors give all machines one UUID: the first of them has it as a key, the others their MACs only.
            if uuid not in self._index or not mac:
                self._add_key(attempt, uuid)
        return attempt

    def _make_room(self, now: float) -> None:
        oldest = next(iter(self._judged.values()), None) or next(iter(self._all.values()))
        self._handle(oldest, Input.FORGOTTEN, now)

    def _identify(self, attempt: _Attempt, request: BootRequest, signature: Any) -> None:
        """Add what a DHCP request says about its client."""
        if attempt.signature is None and not request.may_be_system:
            attempt.signature = signature
        if not attempt.persona:
            attempt.persona, attempt.interface = request.persona, request.interface
            attempt.architecture = "" if request.architecture == "unknown" else request.architecture
            attempt.patience = min(_IPXE_PATIENCE, self.silent) if request.ipxe else self.silent
        if request.mac and not attempt.mac:
            attempt.mac = request.mac
            self._add_key(attempt, request.mac)
        if request.uuid and not attempt.uuid:
            attempt.uuid = request.uuid
            if request.uuid not in self._index:
                self._add_key(attempt, request.uuid)
        if request.client_address not in _NO_ADDRESS:
            self._add_address(attempt, request.client_address)

    def _add_address(self, attempt: _Attempt, address: str) -> None:
        if self._index.get(address) is not attempt:
            self._add_key(attempt, address)
            if address not in attempt.addresses:
                attempt.addresses.append(address)
                if len(attempt.addresses) > ADDRESSES:
                    self._remove_key(attempt, attempt.addresses.pop(0))

    def _remove_key(self, attempt: _Attempt, key: str) -> None:
        attempt.keys.pop(key, None)
        if self._index.get(key) is attempt:
            del self._index[key]

    def _add_key(self, attempt: _Attempt, key: str) -> None:
        self._index[key] = attempt
        attempt.keys[key] = None

    def _note(self, attempt: _Attempt, at: float, kind: StageKind, data: dict[str, Any]) -> _Entry:
        entry = _Entry(at + self.wall, kind, data)
        self._append(attempt, entry)
        return entry

    def _append(self, attempt: _Attempt, entry: _Entry) -> None:
        attempt.entries.append(entry)
        if len(attempt.entries) > STAGES:
            del attempt.entries[FIRST_STAGES]
            attempt.omitted += 1

    def _mark_seen(self, attempt: _Attempt, at: float, patience: float, *, is_boot: bool = True) -> None:
        """Put off the deadline, and give SEEN or BOOTS.

        :param patience: seconds until the deadline; 0: not the client did something, but our side.
        :param is_boot: only a machine that boots does that.
        """
        state = attempt.states.state
        if patience:
            attempt.last_seen = at
            attempt.deadline = at + max(patience, self.quiet if attempt.running else 0.0)
        if state is State.ENDED and (attempt.has_payload or attempt.verdict is Verdict.UP or not patience):
            # What an installed system loads later says nothing about the boot.
            is_boot = False
        event = Input.BOOTS if is_boot and (patience or state is State.RUNNING) else Input.SEEN
        self._handle(attempt, event, at)

    def _handle(self, attempt: _Attempt, event: Input, now: float) -> None:
        """Take one input of the table, and do what follows from it."""
        states = attempt.states
        states.handle(event, None, now)
        if not states.out:
            return
        for do in states.out:
            if do is Do.CHANGED:
                self._changed[attempt.id] = attempt
                if attempt.id not in self._open:
                    self._reopen(attempt)
            elif do is Do.JUDGE:
                self._judge(attempt, now + self.wall)
            elif do is Do.INTERRUPT:
                self._judge(attempt, now + self.wall, interrupted=True)
            else:
                self._drop(attempt)
        states.out.clear()

    def _reopen(self, attempt: _Attempt) -> None:
        self._open[attempt.id] = attempt
        self._judged.pop(attempt.id, None)
        attempt.verdict, attempt.cause, attempt.ended = Verdict.IN_PROGRESS, None, None

    def _judge(self, attempt: _Attempt, ended: float | None, interrupted: bool = False) -> None:
        """Find the verdict, and publish it.

        :param interrupted: the client may still continue, so nothing shows that its boot has failed.
        """
        self._open.pop(attempt.id, None)
        self._changed.pop(attempt.id, None)
        self._judged[attempt.id] = attempt
        attempt.ended = ended
        snapshot = attempt.snapshot()
        attempt.verdict, attempt.cause = judge(snapshot)
        if interrupted and attempt.verdict is Verdict.FAILED:
            attempt.verdict, attempt.cause = Verdict.INTERRUPTED, None
        self.out.append(evolve(snapshot, verdict=attempt.verdict, cause=attempt.cause))

    def _drop(self, attempt: _Attempt) -> None:
        for table in (self._all, self._open, self._judged, self._changed):
            table.pop(attempt.id, None)
        for key in list(attempt.keys):
            self._remove_key(attempt, key)


def amended(attempt: BootAttempt, kind: StageKind, file: str, data: dict[str, Any]) -> BootAttempt:
    """Add what was found out about a stage to an attempt that is closed, and judge again.

    :param kind: REFUSED: *data* is added to the latest refusal of *file*. Another: there is a stage more.
    """
    stages = list(attempt.stages)
    for number in reversed(range(len(stages))):
        stage = stages[number]
        if stage.kind is kind and stage.data.get("file") == file:
            stages[number] = evolve(stage, data={**stage.data, **data})
            break
    else:
        stages.append(Stage(_last_end(stages, attempt.began), kind, {"file": file, **data}))
    changed = evolve(attempt, stages=tuple(stages))
    verdict, cause = judge(changed)
    return evolve(changed, verdict=verdict, cause=cause)


def _last_end(stages: Sequence[Stage], began: float) -> float:
    return (stages[-1].until or stages[-1].at) if stages else began


def _is_loading(attempt: _Attempt) -> bool:
    """Return whether a transfer runs that the client may still read.

    By TFTP only the latest may be: boot programs read one file at a time. When the last ACK of an earlier one is lost,
    the server goes on with it for a minute, and the client with its boot.
    """
    return any(
        entry is attempt.latest_request or entry.data["protocol"] != "tftp" for entry in attempt.running.values()
    )


def _signature(request: BootRequest) -> Any:
    """Return what tells the DHCP clients of one boot from each other. Only those that are iPXE have the same."""
    options = request.options
    requested = options.get(_PARAMETER_LISTS[request.family])
    return request.family, request.vendor_class, request.user_classes, request.uuid is not None, requested


def _other_server(file: BootFile, request: BootRequest) -> str:
    """Return the host that serves *file*; "": it is this one."""
    scheme, separator, host_and_path = file.name.partition("://")
    if separator and "/" not in scheme:
        host = host_and_path.partition("/")[0]
        ours = (request.http_url, request.https_url, f"tftp://{request.server}", f"tftp://[{request.server}]")
        return "" if f"{scheme}://{host}" in ours or host.partition(":")[0] == request.server else host
    return file.server if file.server is not None and file.server != request.server else ""


def _name(path: str) -> str:
    """Return *path*, cut after LONGEST_NAME characters."""
    return path if len(path) <= LONGEST_NAME else f"{path[:LONGEST_NAME]}..."


def _transfer_data(report: TransferReport) -> dict[str, Any]:
    request, agreed = report.request, report.agreed
    data: dict[str, Any] = {
        "protocol": request.protocol,
        "file": _name(request.path),
        "peer": request.peer[0],
        "outcome": _OUTCOMES[report.outcome],
        "bytes": report.bytes_transferred,
        "seconds": round(report.ended - report.began, 6),
    }
    if agreed.tsize is not None:
        data["size"] = agreed.tsize
    if request.protocol == "tftp":
        data["blksize"], data["windowsize"], data["blocks"] = agreed.blksize, agreed.windowsize, report.blocks
        if agreed.acknowledged:
            data["oack"] = True
    if report.retransmitted:
        data["retransmitted"] = report.retransmitted
    if report.waited >= 0.001:
        data["waited"] = round(report.waited, 6)
    if report.backend:
        data["backend"] = report.backend
    if report.detail:
        data["detail"] = report.detail
    return data
