"""The exceptions of bootfw and its plugins. All that are raised on purpose derive from BootfwError."""

import datetime
import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class BootfwError(Exception):
    """Anything bootfw or one of its plugins raises deliberately."""


class WireError(BootfwError):
    """A malformed datagram; the only exception that a parser raises."""


class ConfigError(BootfwError):
    """The configuration is wrong at one place.

    :param message: what is wrong and what would be right, without the path.
    :param path: where: keys and list positions from the top, such as ``("resolver", 1, "files", "x86-bios")``.
    """

    def __init__(self, message: str, path: Iterable[str | int] = ()) -> None:
        self.message = message
        self.path = tuple(path)
        where = format_path(self.path)
        super().__init__(f"{where}: {message}" if where else message)

    def under(self, *prefix: str | int) -> "ConfigError":
        """The same error seen from further up: the path gets *prefix* in front."""
        return type(self)(self.message, (*prefix, *self.path))

    @property
    def each(self) -> tuple["ConfigError", ...]:
        """The errors that were found together; most often there is one."""
        return (self,)


class ConfigErrorGroup(ConfigError):
    """The configuration is wrong at several places. Message and path are those of the first one.

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
        """A ConfigError or ValueError inside is noted as one at *path*."""
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
        """:raise ConfigError: something was noted; a ConfigErrorGroup for several."""
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 else ConfigErrorGroup(self.errors)


class PluginError(ConfigError):
    """A plugin that is missing, broken, duplicated or not what its group promises."""


class BootRefused(BootfwError):
    """Raised by a resolver: this client gets no boot file, and the later resolvers are not called.

    :param reason: for the operator, one sentence.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StateError(BootfwError):
    """What has to outlive the process can't be read or stored: leases, reservations, orders, the control socket.

    The message is for the operator: what and where, and what to do about it.
    """


class TransferError(BootfwError):
    """A file can't be given or taken. ``tftp_code`` is the code of the ERROR packet (RFC 1350 section 5).

    :param message: sent to the peer, so it holds no path of the host and no internals.
    :param detail: for the operator only: the log has it with the refusal.
    """

    tftp_code = 0
    summary = "not defined"

    def __init__(self, message: str = "", detail: str = "") -> None:
        self.message = message or self.summary
        self.detail = detail
        super().__init__(self.message)


class FileMissing(TransferError):
    """There is no such file. After it the next backend is tried."""

    tftp_code = 1
    summary = "File not found"


class AccessViolation(TransferError):
    """The file may not be read or written."""

    tftp_code = 2
    summary = "Access violation"


class DiskFull(TransferError):
    """No room for what is being written."""

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
    """The file can't be opened now, and could be later: the HTTP status is 503."""

    summary = "The file can't be opened now, try again later"


def format_path(path: Iterable[str | int]) -> str:
    """``("resolver", 1, "files", "x86-bios")`` as an operator reads it: ``resolver[1].files.x86-bios``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def spelled(name: str) -> str:
    """A Python name as the configuration spells it: ``max_blksize`` is ``max-blksize``."""
    return name.replace("_", "-")


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean "files"?``, or nothing when no known name is like *word*."""
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
    """A value of the configuration, for a message: short values literally, others by kind."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else "a string"
    if isinstance(value, int | float):
        return str(value)
    return _KINDS.get(type(value)) or f"a {type(value).__name__}"
