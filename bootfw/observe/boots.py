"""Keeps the boot attempts of a service: folds its events, publishes what changes, and stores what has ended."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite, nan
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads
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
from bootfw.values import Address, Client
from bootfw.wire.executable import runs_on

TICK = 1.0
"""Seconds between two checks for attempts that have changed or ended, while a machine boots."""

RECENT = 1000
"""Attempts with a verdict that are kept in memory, in case the store fails."""

LISTED = 100
"""Attempts that a list has if no limit is given."""

_MOST = 10_000
_DAY = 86_400.0
_FIRMWARE = ("uefi", "bios")


@implementer(IBatchObserver, IClientAware, IStartable, IOperable)
@define(eq=False)
class BootRecorder:
    """An observer that joins events into boot attempts.

    :param reactor: IReactorTime. If it has threads, files are read in one of them.
    :param store: an IAttemptStore. When it fails, the latest attempts are kept in memory, and the service goes on.
    :param backends: (name, backend): where names like a missing one are looked for.
    :param wall_clock: seconds since the epoch.
    """

    _reactor: Any
    _store: IAttemptStore
    _settings: BootsSettings = field(factory=BootsSettings)
    backends: Sequence[tuple[str, Any]] = ()
    _wall_clock: Callable[[], float] = time.time
    write_packets: "Callable[[BootAttempt], Deferred[str]]" = field(default=lambda attempt: succeed(""), init=False)
    """Writes the packets of an attempt to a file; the result is its path, or "". To be set before start()."""
    _client_at: Callable[[Address], Client] = field(default=lambda peer: Client(peer[0]), init=False)
    _fold: Attempts = field(init=False)
    _publish: Callable[[Event], None] = field(default=lambda event: None, init=False)
    _ticking: IDelayedCall | None = field(default=None, init=False)
    _unsaved: list[BootAttempt] = field(factory=list, init=False)
    _recent: "OrderedDict[str, BootAttempt]" = field(factory=OrderedDict, init=False)
    _numbers: "OrderedDict[str, tuple[int, BootAttempt]]" = field(factory=OrderedDict, init=False)
    """Id -> (number of its latest change, the attempt), for "bootfw boots --follow"; the latest change last."""
    _number: int = field(default=0, init=False)
    _examined: set[str] = field(factory=set, init=False)
    """Ids of attempts whose files are being examined, or were."""
    _failing: bool = field(default=False, init=False)
    """The store has failed, and the log says so."""
    _started: bool = field(default=False, init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)

    def __attrs_post_init__(self) -> None:
        self._fold = self._new_fold()

    def _new_fold(self) -> Attempts:
        wall = self._wall_clock() - self._reactor.seconds()
        settings = self._settings
        return Attempts(wall, lambda peer: self._client_at(peer), settings.quiet_seconds, settings.silent_seconds)

    def use(self, settings: BootsSettings, backends: Sequence[tuple[str, Any]]) -> None:
        """Use other settings and backends from now on, for the boots in progress too."""
        self._settings, self.backends = settings, backends
        self._fold.quiet, self._fold.silent = settings.quiet_seconds, settings.silent_seconds

    # As a plugin.

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        """See IClientAware."""
        self._client_at = lookup

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable. The store is opened, so that it need not be while machines boot."""
        self._publish = publish
        self._fold = self._new_fold()
        self._started = True
        maybeDeferred(self._store.find_attempts, limit=1).addCallbacks(lambda _: None, self._store_failed)

    def close(self) -> "Deferred[Any]":
        """See IStartable. Boots that are in progress are forgotten: how they end will not be seen."""
        self._started = False
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        self._fold.stop(self._reactor.seconds())
        self._save()
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
            self._ended()
        if self._ticking is None and self._started and not self._fold.idle:
            self._ticking = self._reactor.callLater(TICK, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        now = self._reactor.seconds()
        self._fold.wall = self._wall_clock() - now
        self._fold.tick(now)
        self._ended()
        for attempt in self._fold.changes():
            self._changed(attempt)
            self._publish(BootAttemptChanged(now, attempt))
        if self._unsaved:
            self._save()
        if not self._fold.idle or self._unsaved:
            self._ticking = self._reactor.callLater(TICK, self._tick)

    def _ended(self) -> None:
        ended, self._fold.out = self._fold.out, []
        for attempt in ended:
            if not self._examine(attempt):
                self._keep(attempt)

    def _keep(self, attempt: BootAttempt) -> None:
        """Publish an attempt that has its verdict, and store it with others that end soon."""
        if attempt.verdict is Verdict.FAILED:
            self.write_packets(attempt).addCallback(lambda path: self._publish_ended(evolve(attempt, recording=path)))
        else:
            self._publish_ended(attempt)

    def _publish_ended(self, attempt: BootAttempt) -> None:
        self._recent[attempt.id] = attempt
        self._recent.move_to_end(attempt.id)
        if len(self._recent) > RECENT:
            self._examined.discard(self._recent.popitem(last=False)[0])
        self._changed(attempt)
        self._unsaved.append(attempt)
        self._publish(BootAttemptEnded(self._reactor.seconds(), attempt))
        if self._ticking is None and self._started:
            self._ticking = self._reactor.callLater(TICK, self._tick)

    def _changed(self, attempt: BootAttempt) -> None:
        self._number += 1
        self._numbers[attempt.id] = self._number, attempt
        self._numbers.move_to_end(attempt.id)
        if len(self._numbers) > RECENT:
            self._numbers.popitem(last=False)

    # Files

    def _examine(self, attempt: BootAttempt) -> bool:
        """Examine the files of the attempt if they may show the cause; returns False if there is nothing to examine.

        Otherwise the verdict is published later, with the result.
        """
        find = None
        if attempt.id not in self._examined and self._started:
            find = _question(attempt)
        if find is None:
            return False
        self._examined.add(attempt.id)
        kind, path, architecture = find

        def look() -> dict[str, Any]:
            if kind is StageKind.REFUSED:
                return {"nearest": nearest_names(self.backends, path)}
            machine = program_machine(self.backends, path)
            wrong = machine is not None and not runs_on(machine, architecture)
            return {"architecture": machine, "client": architecture} if wrong else {}

        def found(result: Any) -> None:
            if not isinstance(result, dict):
                self._log.warn("the files of a failed boot could not be looked at: {error}", error=result.value)
            elif any(result.values()):
                if self._fold.amend(attempt.id, kind, path, result):
                    self._ended()
                else:  # the machine has started again meanwhile
                    self._keep(amended(attempt, kind, path, result))
                return
            self._keep(attempt)

        _in_thread(self._reactor, look).addBoth(found)
        return True

    # The store

    def _save(self) -> None:
        attempts, self._unsaved = self._unsaved, []
        if attempts:
            since = self._wall_clock() - self._settings.days * _DAY
            saved = maybeDeferred(self._store.save_attempts, attempts, self._settings.keep, since)
            saved.addCallbacks(self._store_works, self._store_failed)

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

    def _boots(self, given: Mapping[str, Any]) -> Any:
        """The latest attempts, without stages; with "after", those that have changed since that number."""
        if "after" in given:
            after = int(_number(given, "after"))
            news = [(number, each) for number, each in self._numbers.values() if number > after]
            return [{**attempt_record(each, stages=False), "change": number} for number, each in news] or [
                {"change": min(self._number, max(after, 0)) if after >= 0 else self._number}
            ]
        return self._found(given).addCallback(
            lambda found: (attempt_record(attempt, stages=False) for attempt in found)
        )

    def _boot(self, given: Mapping[str, Any]) -> Any:
        """The attempts of one machine, with their stages."""
        if not given.get("machine"):
            raise ControlError("which machine? give its MAC, UUID or IP address")
        return self._found({"limit": 10, **given}).addCallback(lambda found: map(attempt_record, found))

    def _found(self, given: Mapping[str, Any]) -> "Deferred[Any]":
        try:
            machine = machine_text(str(given["machine"])) if given.get("machine") else ""
        except ValueError as error:
            raise ControlError(str(error)) from error
        verdict = str(given.get("verdict", ""))
        if verdict not in ("", *(each.value for each in Verdict)):
            known = ", ".join(f'"{each.value}"' for each in Verdict)
            raise ControlError(f'there is no verdict "{verdict}"; there is {known}')
        since, before = _number(given, "since"), _number(given, "before")
        limit = max(0, min(int(_number(given, "limit", LISTED)), _MOST))

        def fits(attempt: BootAttempt) -> bool:
            return (
                (not machine or attempt.client == machine)
                and (not verdict or attempt.verdict.value == verdict)
                and attempt.began >= since
                and (not before or attempt.began < before)
            )

        def merged(stored: Iterable[BootAttempt]) -> list[BootAttempt]:
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


def _question(attempt: BootAttempt) -> tuple[StageKind, str, str] | None:
    """What to examine: (stage that the result belongs to, path, architecture of the client); None: nothing."""
    if attempt.cause is not None and attempt.cause.key == "missing-file":
        for stage in reversed(attempt.stages):
            if stage.kind is StageKind.REFUSED and f'"{stage.data["file"]}"' in attempt.cause.sentence:
                return StageKind.REFUSED, stage.data["file"], ""
    # Firmware that has loaded one program, which then loads nothing: does it run there?
    alone = len(attempt.files) == 1 and not any(stage.kind is StageKind.REFUSED for stage in attempt.stages)
    if alone and attempt.architecture and any(word in attempt.persona for word in _FIRMWARE):
        return StageKind.PROGRAM, attempt.files[0], attempt.architecture
    return None


def _in_thread(reactor: Any, function: Callable[[], Any]) -> "Deferred[Any]":
    """Call *function* in a thread of the reactor, or here where it has none."""
    if not IReactorFromThreads.providedBy(reactor) or not hasattr(reactor, "callInThread"):
        return maybeDeferred(function)
    answer: Deferred[Any] = Deferred()

    def run() -> None:
        try:
            result = function()
        except Exception:
            result = Failure()
        reactor.callFromThread(answer.callback, result)

    reactor.callInThread(run)
    return answer


def _number(given: Mapping[str, Any], name: str, default: float = 0.0) -> float:
    try:
        number = float(given.get(name, default))
    except (TypeError, ValueError, OverflowError):
        number = nan
    if not isfinite(number):
        raise ControlError(f'"{name}" must be a number, not {given[name]!r}')
    return number
