"""The progress of installations: what each machine does, from its first packet until its system is up."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from attrs import define, field

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict
from bootfw.attempts.attempttext import outcome_line, stage_line
from bootfw.attempts.record import Record, attempt_of
from bootfw.cli.boots import changed_boots, coloured
from bootfw.cli.running import RunningServer, ServerEnded
from bootfw.terminal import StatusLine, printable

FAILED = 1
"""Exit code: the boot has failed."""

RETRIED_FOR = 300.0
"""Seconds after which an installation that the machine tries again has failed, if it reports no progress."""

_LOADED = ("complete", "unconfirmed")
"""Outcomes of a transfer of which the client has the file."""

_INSTALLATION_FAILED = "installation-failed"
"""Key of the cause that a report of the machine results in: see bootfw/attempts/symptoms.py."""

_BOOTS = 5
"""Number of the machine's latest boots that are read."""


@define(eq=False)
class Installation:
    """Shows the boots of one machine since it was ordered to install an image.

    :param order: the one-time boot, as the control socket has it: "mac", "file" and "ordered".
    :param unattended: the machine phones home at the end of the installation. Else its end can't be seen, and it is
        shown until the installer has been loaded.
    :param retries: the machine tries again when its installation has failed: it writes a disk image.
    :param shows_name: it is one of several: its lines begin with the machine, and have verdicts and reports only.
    :param seconds: a clock.
    """

    order: Record
    unattended: bool
    retries: bool = False
    shows_name: bool = False
    _seconds: Callable[[], float] = time.monotonic
    _loaded: bool = field(default=False, init=False)
    """Whether a boot has loaded what was ordered."""
    _printed_keys: set[Any] = field(factory=set, init=False)
    """What has been printed: stages, and verdicts."""
    _activity: str = field(default="waiting for the machine", init=False)
    """What the machine does now."""
    _since: float = field(default=0.0, init=False)
    """When it began to do that, in seconds."""
    _failing_since: float | None = field(default=None, init=False)
    """When its installation failed, and the machine has reported no progress since; None: it has not failed."""

    def __attrs_post_init__(self) -> None:
        self._since = self._seconds()

    @property
    def mac(self) -> str:
        """The machine."""
        mac: str = self.order["mac"]
        return mac

    @property
    def doing(self) -> str:
        """For how long it has been doing what."""
        return f"{self._seconds() - self._since:5.0f} s  {self._activity}"

    @property
    def has_given_up(self) -> bool:
        """Whether all tries have failed for RETRIED_FOR."""
        return self._failing_since is not None and self._seconds() - self._failing_since >= RETRIED_FOR

    def follow(self, server: RunningServer, sleep: Callable[[float], None] = time.sleep) -> int:
        """See follow(): this one alone."""
        return follow([self], server, sleep)

    def show(self, attempts: Sequence[BootAttempt], status: StatusLine) -> int | None:
        """Print what has happened since the last call.

        :param attempts: the latest boots of the machine, the latest first.
        :return: the exit code; None: it is not over.
        """
        for attempt in reversed(attempts):
            if attempt.ended is not None and attempt.ended < self.order["ordered"]:
                continue
            for stage in attempt.stages:
                if max(stage.at, stage.until) >= self.order["ordered"]:
                    self._show_stage(attempt, stage, status)
            code = self._show_verdict(attempt, status)
            if code is not None:
                return code
        return None

    def _show_stage(self, attempt: BootAttempt, stage: Stage, status: StatusLine) -> None:
        transfer = stage.kind in (StageKind.TRANSFER, StageKind.UPLOAD)
        self._loaded |= stage.data.get("file") == self.order["file"] and stage.data.get("outcome") in _LOADED
        if transfer and "outcome" not in stage.data:
            self._set_activity(stage_line(stage))
            return
        if stage.kind is StageKind.INSTALLATION:
            self._set_activity(stage_line(stage))
        # A stage may be left out of a long attempt later, so its number does not identify it.
        if self._is_new((attempt.id, stage.at, stage.kind, stage.data.get("file"))):
            self._set_activity(stage_line(stage))
            if not self.shows_name or stage.kind is StageKind.INSTALLATION:
                self._print(stage.until if transfer else stage.at, printable(stage_line(stage)), status)

    def _show_verdict(self, attempt: BootAttempt, status: StatusLine) -> int | None:
        if attempt.verdict is not Verdict.FAILED:
            self._failing_since = None
        elif self.retries and attempt.cause is not None and attempt.cause.key == _INSTALLATION_FAILED:
            self._show_failed_try(attempt, attempt.cause, status)
            return None
        if attempt.verdict is Verdict.IN_PROGRESS or not self._is_new((attempt.id, attempt.verdict, attempt.ended)):
            return None
        outcome = printable(outcome_line(attempt))
        if attempt.verdict in (Verdict.UP, Verdict.BOOTED):
            outcome += f" after {attempt.seconds:.0f} s"
        self._set_activity(outcome)
        self._print(attempt.ended or time.time(), coloured(outcome, attempt.verdict), status)
        if attempt.verdict is Verdict.FAILED:
            if attempt.cause is not None:
                sys.stdout.write(f"What to do: {printable(attempt.cause.remedy)}\n")
            if not self._loaded:
                sys.stdout.write("The image is still ordered for its next boot.\n")
            return FAILED
        # An UP before that is of the system that was there before.
        done = attempt.verdict is Verdict.UP or (attempt.verdict is Verdict.BOOTED and not self.unattended)
        return 0 if self._loaded and done else None

    def _show_failed_try(self, attempt: BootAttempt, cause: Cause, status: StatusLine) -> None:
        """Print why a try has failed, once for all tries that fail alike."""
        if self._failing_since is None:
            self._failing_since = self._seconds()
        if self._is_new((attempt.id, cause.sentence)):
            outcome = printable(outcome_line(attempt))
            self._set_activity(f"tries again; {outcome}")
            self._print(attempt.ended or time.time(), coloured(outcome, attempt.verdict), status)
            sys.stdout.write("The machine tries again.\n")

    def _print(self, at: float, line: str, status: StatusLine) -> None:
        status.clear()
        name = f"{self.mac}  " if self.shows_name else ""
        sys.stdout.write(f"{datetime.fromtimestamp(at):%H:%M:%S}  {name}{line}\n")
        sys.stdout.flush()

    def _set_activity(self, activity: str) -> None:
        if activity != self._activity:
            self._activity, self._since = activity, self._seconds()

    def _is_new(self, key: Any) -> bool:
        if key in self._printed_keys:
            return False
        self._printed_keys.add(key)
        return True


def follow(
    installations: Sequence[Installation], server: RunningServer, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Print what the machines do, until each is installed or has failed.

    :return: the exit code: 0 when all are installed.
    """
    status = StatusLine()
    waiting, failed = {each.mac: each for each in installations}, 0
    try:
        for changed in changed_boots(server, sleep):
            for mac in dict.fromkeys(record["mac"] for record in changed):
                if mac not in waiting:
                    continue
                with suppress(ServerEnded):
                    records = server.call("boot", machine=mac, limit=_BOOTS)
                    code = waiting[mac].show([attempt_of(record) for record in records], status)
                    if code is not None:
                        del waiting[mac]
                        failed += code != 0
            for each in [each for each in waiting.values() if each.has_given_up]:
                del waiting[each.mac]
                failed += 1
            if not waiting:
                return FAILED if failed else 0
            status.show(_summary(list(waiting.values()), len(installations), failed))
    finally:
        status.clear()
    raise AssertionError("changed_boots() ends")


def _summary(waiting: Sequence[Installation], count: int, failed: int) -> str:
    if count == 1:
        return waiting[0].doing
    done = count - len(waiting) - failed
    return f"{done} of {count} installed, {failed} failed; {waiting[0].mac} {waiting[0].doing.strip()}"
