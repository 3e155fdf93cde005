"""The exceptions of bootfw and its plugins. All exceptions that are raised on purpose derive from BootfwError."""

import datetime
import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class BootfwError(Exception):
    """Base class of the exceptions that bootfw and its plugins raise on purpose."""


class WireError(BootfwError):
    """A malformed datagram; the only exception that a parser raises."""


class ConfigError(BootfwError):
    """An error in the configuration.

    :param message: what is wrong and what would be right, without the path.
    :param path: the keys and list positions from the top, such as ``("resolver", 1, "files", "x86-bios")``.
    """

    def __init__(self, message: str, path: Iterable[str | int] = ()) -> None:
        self.message = message
        self.path = tuple(path)
        where = format_path(self.path)
        super().__init__(f"{where}: {message}" if where else message)

    def under(self, *prefix: str | int) -> "ConfigError":
        """Return the same error with *prefix* before its path."""
        return type(self)(self.message, (*prefix, *self.path))

    @property
    def each(self) -> tuple["ConfigError", ...]:
        """The errors that were found together; usually only this one."""
        return (self,)


class ConfigErrorGroup(ConfigError):
    """Several errors in the configuration. Message and path are those of the first one.

    :param errors: at least one.
    """

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self._each = tuple(single for error in errors for single in error.each)
        super().__init__(self._each[0].message, self._each[0].path)
        self.args = ("\n".join(map(str, self._each)),)

    def under(self, *prefix: str | int) -> "ConfigErrorGroup":
        """See ConfigError."""
        return type(self)(error.under(*prefix) for error in self._each)

    @property
    def each(self) -> tuple[ConfigError, ...]:
        """See ConfigError."""
        return self._each


class ErrorCollector:
    """Runs independent checks, and raises all their errors together."""

    def __init__(self) -> None:
        self.errors: list[ConfigError] = []

    @contextmanager
    def under(self, *path: str | int) -> Iterator[None]:
        """Note a ConfigError or ValueError that is raised inside, with *path* before its path."""
        try:
            yield
        except ConfigError as error:
            self.errors += error.under(*path).each
        except ValueError as error:
            self.errors.append(ConfigError(str(error), path))

    def note(self, message: str, *path: str | int) -> None:
        """Note an error."""
        self.errors.append(ConfigError(message, path))

    def finish(self) -> None:
        """Raise what was noted.

        :raise ConfigError: an error was noted; a ConfigErrorGroup if there are several.
        """
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 else ConfigErrorGroup(self.errors)


class PluginError(ConfigError):
    """A plugin is missing, broken, installed twice, or of another kind than its entry point group."""


class BootRefused(BootfwError):
    """Raised by a resolver: this client gets no boot file, and the later resolvers are not called.

    :param reason: for the operator, one sentence.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StateError(BootfwError):
    """The stored state (leases, reservations, orders) can't be read or written, or the control socket can't be opened.

    The message is for the operator: what is wrong, where, and what to do about it.
    """


class PowerError(BootfwError):
    """The power of a machine can't be read or switched.

    The message is for the operator: what is wrong, where, and what to do about it. It has no password in it.
    """


class TransferError(BootfwError):
    """A file can't be served or stored. ``tftp_code`` is the code of the ERROR packet (RFC 1350 section 5).

    :param message: sent to the peer, so it must not contain paths or other internals of this host.
    :param detail: for the log only.
    """

    tftp_code = 0
    summary = "not defined"

    def __init__(self, message: str = "", detail: str = "") -> None:
        self.message = message or self.summary
        self.detail = detail
        super().__init__(self.message)

    @property
    def reason(self) -> str:
        """Message and detail, for the log."""
        return f"{self.message}: {self.detail}" if self.detail else self.message


class FileMissing(TransferError):
    """There is no such file. The next backend is tried."""

    tftp_code = 1
    summary = "File not found"


class AccessViolation(TransferError):
    """The file may not be read or written."""

    tftp_code = 2
    summary = "Access violation"


class DiskFull(TransferError):
    """There is not enough disk space for an upload."""

    tftp_code = 3
    summary = "Disk full or allocation exceeded"


class IllegalOperation(TransferError):
    """The request is not valid here."""

    tftp_code = 4
    summary = "Illegal TFTP operation"


class FileAlreadyExists(TransferError):
    """An upload would overwrite a file."""

    tftp_code = 6
    summary = "File already exists"


class TemporarilyUnavailable(TransferError):
    """The file can't be opened now, but may be later. The HTTP status is 503."""

    summary = "The file can't be opened now, try again later"


def format_path(path: Iterable[str | int]) -> str:
    """Format ``("resolver", 1, "files", "x86-bios")`` as ``resolver[1].files.x86-bios``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def spelled(name: str) -> str:
    """Convert a Python name to a key of the configuration: ``max_blksize`` to ``max-blksize``."""
    return name.replace("_", "-")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean "files"?``, or "" if no known name is similar to *word*."""
    by_spelling = {spelled(name.lower()): name for name in known}
    close = difflib.get_close_matches(spelled(word.lower()), by_spelling, n=1, cutoff=0.6)
    return f'; did you mean "{by_spelling[close[0]]}"?' if close else ""


_KINDS: Mapping[type, str] = {
    dict: "a table",
    datetime.datetime: "a date and time",
    datetime.date: "a date",
    datetime.time: "a time of day",
}


def shown(value: Any) -> str:
    """Format a value of the configuration for a message: short values literally, others as their type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else "a string"
    if isinstance(value, int | float):
        return str(value)
    return _KINDS.get(type(value)) or f"a {type(value).__name__}"
