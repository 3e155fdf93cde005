"""Records boot attempts: joins the service's events into attempts, publishes changes, and stores ended attempts."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite, nan
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.attempts.attempt import BootAttempt, StageKind, Verdict
from bootfw.attempts.fold import Attempts, amended
from bootfw.attempts.record import attempt_record
from bootfw.boot.evidence import nearest_names, program_machine
from bootfw.config.settings import BootsSettings
from bootfw.events import BootAttemptChanged, BootAttemptEnded, Event, SystemUp
from bootfw.interfaces import IAttemptStore, IBatchObserver, IClientAware, IOperable, IStartable
from bootfw.lease import machine_text
from bootfw.net.control import ControlError
from bootfw.observe.inthread import in_thread
from bootfw.values import Address, Client
from bootfw.wire.executable import runs_on

TICK = 1.0
"""Seconds between two checks for attempts that have changed or ended, while a machine boots."""

RECENT = 1000
"""Attempts with a verdict that are kept in memory, in case the store fails."""

LISTED = 100
"""Default limit of a list."""

_MAX_LISTED = 10_000
"""Highest limit of a list."""
_DAY = 86_400.0
_FIRMWARE = ("uefi", "bios")
"""Parts of the names of personas that stand for firmware."""


@implementer(IBatchObserver, IClientAware, IStartable, IOperable)
@define(eq=False)
class BootRecorder:
    """An observer that joins events into boot attempts.

    :param reactor: IReactorTime. If it has threads, files are read in one of them.
    :param store: an IAttemptStore. If it fails, the latest attempts are kept in memory, and the service continues.
    :param backends: (name, backend), to search for names that are similar to a missing one.
    :param wall_clock: returns seconds since the epoch.
    """

    _reactor: Any
    _store: IAttemptStore
    _settings: BootsSettings = field(factory=BootsSettings)
    backends: Sequence[tuple[str, Any]] = ()
    _wall_clock: Callable[[], float] = time.time
    write_packets: "Callable[[BootAttempt], Deferred[str]]" = field(default=lambda attempt: succeed(""), init=False)
    """Writes the packets of an attempt to a file; the Deferred fires with its path, or "". Set it before start()."""
    _client_at: Callable[[Address], Client] = field(default=lambda peer: Client(peer[0]), init=False)
    _fold: Attempts = field(init=False)
    _publish: Callable[[Event], None] = field(default=lambda event: None, init=False)
    _timer: "IDelayedCall | None" = field(default=None, init=False)
    _unsaved: list[BootAttempt] = field(factory=list, init=False)
    """Ended attempts that the next save will store, RECENT of them at most."""
    _saving: bool = field(default=False, init=False)
    """Whether the store has not answered to the latest save."""
    _recent: "OrderedDict[str, BootAttempt]" = field(factory=OrderedDict, init=False)
    """Id -> attempt that has ended; the latest last."""
    _changes: "OrderedDict[str, tuple[int, BootAttempt]]" = field(factory=OrderedDict, init=False)
    """Id -> (number of its latest change, the attempt), for "bootfw boots --follow"; the latest change last. RECENT of
    them at most."""
    _change_number: int = field(default=0, init=False)
    """Number of the latest change."""
    _examined: set[str] = field(factory=set, init=False)
    """Ids of attempts whose files have been examined, or are being examined."""
    _failing: bool = field(default=False, init=False)
    """Whether the last access to the store failed, and this has been logged."""
    _started: bool = field(default=False, init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)

    def __attrs_post_init__(self) -> None:
        self._fold = self._new_fold()

    def _new_fold(self) -> Attempts:
        wall = self._wall_clock() - self._reactor.seconds()
        settings = self._settings
        return Attempts(wall, lambda peer: self._client_at(peer), settings.quiet_seconds, settings.silent_seconds)

    def use(self, settings: BootsSettings, backends: Sequence[tuple[str, Any]]) -> None:
        """Apply new settings and backends, to boots in progress too."""
        self._settings, self.backends = settings, backends
        self._fold.quiet, self._fold.silent = settings.quiet_seconds, settings.silent_seconds

    # The interfaces of a plugin

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        """See IClientAware."""
        self._client_at = lookup

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable. A first query opens the store, which would otherwise delay the first boot."""
        self._publish = publish
        self._fold = self._new_fold()
        self._started = True
        maybeDeferred(self._store.find_attempts, limit=1).addCallbacks(lambda _: None, self._store_failed)

    def close(self) -> "Deferred[Any]":
        """See IStartable. Boots in progress are stored as booted or interrupted."""
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fold.stop(self._reactor.seconds())
        self._finish_ended()
        self._save(last=True)
        return maybeDeferred(self._store.close_attempts).addErrback(self._store_failed)

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """See IBatchObserver."""
        add = self._fold.add
        for event in events:
            add(event)
            if type(event) is SystemUp:
                self._fold.up(event.at, event.peer, event.mac, event.protocol)
        if self._fold.out:
            self._finish_ended()
        if self._timer is None and self._started and not self._fold.idle:
            self._timer = self._reactor.callLater(TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        # The wall clock may have been set since the last tick; the fold's own times are of the monotonic clock.
        self._fold.wall = self._wall_clock() - now
        self._fold.tick(now)
        self._finish_ended()
        for attempt in self._fold.changes():
            self._number_change(attempt)
            self._publish(BootAttemptChanged(now, attempt))
        if self._unsaved:
            self._save()
        if not self._fold.idle or self._unsaved:
            self._timer = self._reactor.callLater(TICK, self._tick)

    def _finish_ended(self) -> None:
        """Examine, publish and store the attempts that have ended since the last call."""
        ended, self._fold.out = self._fold.out, []
        for attempt in ended:
            if not self._examine(attempt):
                self._finish(attempt)

    def _finish(self, attempt: BootAttempt) -> None:
        """Publish an attempt that has its final verdict, after its packets have been written if it failed."""
        if attempt.verdict is Verdict.FAILED:
            self.write_packets(attempt).addCallback(lambda path: self._publish_ended(evolve(attempt, recording=path)))
        else:
            self._publish_ended(attempt)

    def _publish_ended(self, attempt: BootAttempt) -> None:
        self._recent[attempt.id] = attempt
        self._recent.move_to_end(attempt.id)
        if len(self._recent) > RECENT:
            self._examined.discard(self._recent.popitem(last=False)[0])
        self._number_change(attempt)
        # The next tick stores it, together with the others of a rack.
        self._unsaved.append(attempt)
        del self._unsaved[:-RECENT]
        self._publish(BootAttemptEnded(self._reactor.seconds(), attempt))
        if self._timer is None and self._started:
            self._timer = self._reactor.callLater(TICK, self._tick)

    def _number_change(self, attempt: BootAttempt) -> None:
        """Give a change of *attempt* the next number, by which followers query later changes."""
        self._change_number += 1
        self._changes[attempt.id] = self._change_number, attempt
        self._changes.move_to_end(attempt.id)
        if len(self._changes) > RECENT:
            self._changes.popitem(last=False)

    # Files

    def _examine(self, attempt: BootAttempt) -> bool:
        """Start to examine the boot files if they may show the cause; false: there is nothing to examine.

        If true, the verdict is published later, with the result.
        """
        file = None
        if attempt.id not in self._examined and self._started:
            file = _file_to_examine(attempt)
        if file is None:
            return False
        self._examined.add(attempt.id)
        kind, path, architecture = file

        def examine() -> dict[str, Any]:
            if kind is StageKind.REFUSED:
                return {"nearest": nearest_names(self.backends, path)}
            machine = program_machine(self.backends, path)
            wrong = machine is not None and not runs_on(machine, architecture)
            return {"architecture": machine, "client": architecture} if wrong else {}

        def examined(result: Any) -> None:
            if not isinstance(result, dict):
                self._log.warn("the files of a failed boot could not be examined: {error}", error=result.value)
            elif any(result.values()):
                # The fold computes the verdict again, and puts the attempt among the ended ones once more.
                if self._fold.amend(attempt.id, kind, path, result):
                    self._finish_ended()
                else:  # the machine has started again meanwhile
                    self._finish(amended(attempt, kind, path, result))
                return
            self._finish(attempt)

        in_thread(self._reactor, examine).addBoth(examined)
        return True

    # The store

    def _save(self, last: bool = False) -> None:
        """Store the unsaved attempts, unless the store has not answered to the latest save: it may hang.

        :param last: store them in any case: the service stops.
        """
        if not self._unsaved or (self._saving and not last):
            return
        attempts, self._unsaved = self._unsaved, []
        since = self._wall_clock() - self._settings.days * _DAY
        self._saving = True
        saved = maybeDeferred(self._store.save_attempts, attempts, self._settings.keep, since)
        saved.addBoth(self._answered).addCallbacks(self._store_works, self._store_failed)

    def _answered(self, result: Any) -> Any:
        self._saving = False
        return result

    def _store_works(self, _: object) -> None:
        if self._failing:
            self._failing = False
            self._log.info("boot attempts are stored again")

    def _store_failed(self, failure: Failure) -> None:
        if not self._failing:
            self._failing = True
            self._log.warn(
                "boot attempts can't be stored; the latest {count} are kept in memory: {reason}",
                count=RECENT,
                reason=failure.getErrorMessage(),
            )

    # Operations of the control socket

    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """See IOperable."""
        return {"boots": self._boots, "boot": self._boot}

    def _boots(self, arguments: Mapping[str, Any]) -> Any:
        """Return the latest attempts without stages; with "after", those with a change of a higher number.

        If there is none, the only record has the number to pass as "after" next; a negative "after" requests the latest
        number.
        """
        if "after" in arguments:
            after = int(_number(arguments, "after"))
            later = [(number, each) for number, each in self._changes.values() if number > after]
            # After a restart of the service its numbers are lower than those that a follower has seen.
            return [{**attempt_record(each, stages=False), "change": number} for number, each in later] or [
                {"change": min(self._change_number, max(after, 0)) if after >= 0 else self._change_number}
            ]
        return self._find(arguments).addCallback(
            lambda found: (attempt_record(attempt, stages=False) for attempt in found)
        )

    def _boot(self, arguments: Mapping[str, Any]) -> Any:
        """Return the attempts of one machine, with their stages."""
        if not arguments.get("machine"):
            raise ControlError('"machine" is missing: give the MAC, UUID or IP address of the machine')
        return self._find({"limit": 10, **arguments}).addCallback(lambda found: map(attempt_record, found))

    def _find(self, arguments: Mapping[str, Any]) -> "Deferred[Any]":
        """Return the attempts that fit, the latest first: running, in memory and stored ones."""
        try:
            machine = machine_text(str(arguments["machine"])) if arguments.get("machine") else ""
        except ValueError as error:
            raise ControlError(str(error)) from error
        verdict = str(arguments.get("verdict", ""))
        if verdict not in ("", *(each.value for each in Verdict)):
            known = ", ".join(f'"{each.value}"' for each in Verdict)
            raise ControlError(f'unknown verdict "{verdict}"; known: {known}')
        since, before = _number(arguments, "since"), _number(arguments, "before")
        limit = max(0, min(int(_number(arguments, "limit", LISTED)), _MAX_LISTED))

        def fits(attempt: BootAttempt) -> bool:
            return (
                (not machine or attempt.client == machine)
                and (not verdict or attempt.verdict.value == verdict)
                and attempt.began >= since
                and (not before or attempt.began < before)
            )

        def merged(stored: Iterable[BootAttempt]) -> list[BootAttempt]:
            # The newest version of each attempt wins: running, then in memory, then stored.
            attempts = {attempt.id: attempt for attempt in stored}
            attempts |= {attempt.id: attempt for attempt in self._recent.values() if fits(attempt)}
            for attempt in self._fold.running():
                attempts.pop(attempt.id, None)
                if fits(attempt):
                    attempts[attempt.id] = attempt
            return sorted(attempts.values(), key=lambda attempt: attempt.began, reverse=True)[:limit]

        def failed(failure: Failure) -> list[BootAttempt]:
            self._store_failed(failure)
            return []

        self._save()
        stored = maybeDeferred(self._store.find_attempts, machine, verdict, since, before, limit)
        return stored.addErrback(failed).addCallback(merged)


def _file_to_examine(attempt: BootAttempt) -> tuple[StageKind, str, str] | None:
    """Return (stage that the result belongs to, path, architecture of the client), or None: nothing to examine."""
    if attempt.cause is not None and attempt.cause.key == "missing-file":
        for stage in reversed(attempt.stages):
            if stage.kind is StageKind.REFUSED and f'"{stage.data["file"]}"' in attempt.cause.sentence:
                return StageKind.REFUSED, stage.data["file"], ""
    # Firmware loaded one program, which then loaded nothing: it may be for another architecture. A program that runs
    # already, such as iPXE, may have loaded the file although the last ACK of the program itself was lost.
    stages = attempt.stages
    requested = {stage.data["file"] for stage in stages if stage.kind is StageKind.TRANSFER}
    has_others = any(stage.kind is StageKind.REFUSED or stage.data.get("stack") == "ipxe" for stage in stages)
    is_only_file = len(attempt.files) == 1 and requested == set(attempt.files) and not has_others
    if is_only_file and attempt.architecture and any(word in attempt.persona for word in _FIRMWARE):
        return StageKind.PROGRAM, attempt.files[0], attempt.architecture
    return None


def _number(arguments: Mapping[str, Any], name: str, default: float = 0.0) -> float:
    try:
        number = float(arguments.get(name, default))
    except (TypeError, ValueError, OverflowError):
        number = nan
    if not isfinite(number):
        raise ControlError(f'"{name}" must be a number, not {arguments[name]!r}')
    return number
