"""The outputs of the log: standard output, a file, or journald."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import RLock
from typing import IO, Any

from attrs import define, field
from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.logfile import LogFile
from zope.interface import implementer

from bootfw.config.settings import LogSettings
from bootfw.errors import ConfigError
from bootfw.observe.journal import JOURNAL, JournalSocket
from bootfw.observe.logtext import as_datagram, as_json, as_text

DEFAULT_FILE = "twistd.log"
"""The log file of a daemon, in its working directory; the name is twistd's default."""


def open_log(
    settings: LogSettings,
    logfile: str,
    reactor: Any,
    *,
    foreground: bool,
    environ: Mapping[str, str] = os.environ,
    journal: Path = JOURNAL,
) -> "LinesLog | JournalLog":
    """Return the log observer for *settings*, with the same file that twistd would use.

    :param logfile: twistd's option --logfile: a path, "-" for the standard output, or "" for the default.
    :param reactor: IReactorFromThreads.
    :param foreground: twistd's option ``--nodaemon``.
    :param journal: path of journald's socket.
    :raise ConfigError: the format is "journal", and there is no journald. Its path is a key of [log].
    :raise SystemExit: a daemon can't log to the standard output.
    :raise OSError: the file can't be opened.
    """
    skipped = _below(settings.level)
    to_stdout = logfile == "-" or (foreground and not logfile)
    if to_stdout and not foreground:
        raise SystemExit("Daemons cannot log to stdout, exiting!")  # twistd's own message
    if settings.format == "journal" or (settings.format == "auto" and to_stdout and _is_journal(sys.stdout, environ)):
        try:
            return JournalLog(JournalSocket(journal), skipped)
        except OSError as error:
            if settings.format == "auto":
                return LinesLog(sys.stdout, as_text, skipped)
            problem = f'"journal" needs journald: {journal}: {error.strerror}; use "text" or "json" without it'
            raise ConfigError(problem, ("format",)) from None
    as_line = as_json if settings.format == "json" else as_text
    if to_stdout:
        return LinesLog(sys.stdout, as_line, skipped)
    return LinesLog(_log_file(logfile or DEFAULT_FILE, reactor), as_line, skipped)


_LEVELS = tuple(LogLevel.iterconstants())


def _is_journal(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Return whether systemd has connected *stream* to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or not a file
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _log_file(path: str, reactor: Any) -> LogFile:
    """Open a log file that rotates as twistd's does: after a megabyte, and on SIGUSR1."""
    directory = Path(path).absolute().parent
    if not directory.is_dir():
        raise FileNotFoundError(2, os.strerror(2), str(directory))
    opened: LogFile = LogFile.fromFullPath(path)

    def rotate(number: int, frame: object) -> None:
        reactor.callFromThread(opened.rotate)

    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, rotate)
    return opened


_FACTORIES = frozenset(("Starting factory {factory!r}", "Stopping factory {factory!r}"))
"""Formats of the events that Twisted logs for each connection of an HTTP client: of a webhook, a callout, a plugin."""


def _is_skipped(event: LogEvent, levels: frozenset[Any]) -> bool:
    """Return whether *event* is left out: its level is one of *levels*, or it is about a factory."""
    return event.get("log_level") in levels or event.get("log_format") in _FACTORIES


def _below(level: str) -> frozenset[Any]:
    """Return the levels that are less important than *level*."""
    return frozenset(each for each in _LEVELS if each < LogLevel.lookupByName(level))


@implementer(ILogObserver)
@define(eq=False)
class LinesLog:
    """Writes events to a text file. Events of one delivery are written together: see bootfw.observe.log.

    :param file: has write() for text, and flush().
    :param as_line: formats an event as a line, with its line feed; "": the event is skipped.
    :param skipped: levels that are left out.
    """

    _file: Any
    _as_line: Callable[[LogEvent], str]
    _skipped: frozenset[Any] = frozenset()
    _lines: list[str] = field(factory=list, init=False)
    _lost: int = field(default=0, init=False)
    """Lines that could not be written since the last successful write."""
    _reason: str = field(default="", init=False)
    """Why the last write failed."""
    _lock: Any = field(factory=RLock, init=False)
    """Plugins log from threads. Reentrant, since Twisted logs in signal handlers too, which may interrupt a write."""

    @property
    def shows_fields(self) -> bool:
        """Whether the output contains the fields of an event, and not only its text."""
        return self._as_line is as_json

    def use_level(self, level: str) -> None:
        """Leave out what is less important than *level*, from now on."""
        self._skipped = _below(level)

    def __call__(self, event: LogEvent) -> None:
        """See ILogObserver."""
        skipped = _is_skipped(event, self._skipped)
        with self._lock:
            if not skipped:
                self._lines.append(self._as_line(event))
            if "log_more" in event or not self._lines:
                return
            if self._lost:
                self._lines.insert(0, self._lost_line(event))
            count, text = len(self._lines), "".join(self._lines)
            self._lines.clear()
            try:
                self._file.write(text)
                self._file.flush()
            except OSError as error:
                self._lost += count - bool(self._lost)
                self._reason = error.strerror or str(error)
            else:
                self._lost = 0

    def _lost_line(self, event: LogEvent) -> str:
        """Return a line with the number of lost lines. It begins with a line feed, since the last write may have ended
        in the middle of a line."""
        lost = {
            "log_format": "{count} line(s) of the log could not be written: {reason}",
            "log_level": LogLevel.warn,
            "log_namespace": "bootfw",
            "log_time": event["log_time"],
            "count": self._lost,
            "reason": self._reason,
        }
        return "\n" + self._as_line(lost)


@implementer(ILogObserver)
@define(eq=False)
class JournalLog:
    """Sends each event to journald.

    :param skipped: levels that are left out.
    """

    _journal: JournalSocket
    _skipped: frozenset[Any] = frozenset()

    shows_fields = True

    def use_level(self, level: str) -> None:
        """Leave out what is less important than *level*, from now on."""
        self._skipped = _below(level)

    def __call__(self, event: LogEvent) -> None:
        """See ILogObserver."""
        if not _is_skipped(event, self._skipped):
            datagram = as_datagram(event)
            if datagram:
                self._journal.send(datagram)
