"""What the log says of transfers: a line for each that ended, and for each file that was refused."""

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from bootfw.events import Event, TransferEnded, TransferRefused
from bootfw.values import Address, Outcome, TransferReport

_LEVELS: dict[Outcome, Callable[..., None]] = {
    Outcome.COMPLETE: Logger.info,
    Outcome.UNCONFIRMED: Logger.info,
    Outcome.SIZE_PROBE: Logger.debug,
    Outcome.CANCELLED: Logger.info,
    Outcome.STOPPED_BY_PEER: Logger.info,
    Outcome.FAILED: Logger.error,
}


WORTH_SAYING = 0.1
"""Seconds of waiting for a backend."""


class Told:
    """The transfers' lines of one turn of the reactor.

    Lines of the same level that follow each other are written together. Of those who were refused the same file in the
    same words, the first has a line, which tells how many there were.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._write = Logger.info
        self._lines: list[str] = []
        self._refused: dict[tuple[Any, ...], tuple[int, TransferRefused, int]] = {}

    def takes(self, event: Event) -> bool:
        """Note *event*, if it is about a transfer."""
        if isinstance(event, TransferEnded):
            self._add(_LEVELS.get(event.report.outcome, Logger.warn), transfer_line(event.report))
        elif isinstance(event, TransferRefused):
            self._refuse(event)
        else:
            return False
        return True

    def write(self) -> None:
        """Write what has been noted."""
        if not self._lines:
            return
        for place, event, count in self._refused.values():
            self._lines[place] = refused_line(event, count)
        self._write(self._log, "{lines}", lines="\n".join(self._lines))
        self._lines.clear()
        self._refused.clear()

    def _add(self, write: Callable[..., None], line: str) -> None:
        if write is not self._write:
            self.write()
            self._write = write
        self._lines.append(line)

    def _refuse(self, event: TransferRefused) -> None:
        request = event.request
        key = (
            *(event.code, event.message, event.detail, event.persona),
            *(request.filename, request.write, request.protocol),
        )
        known = self._refused.get(key)
        if known is not None:
            place, first, count = known
            self._refused[key] = place, first, count + 1
        else:
            self._add(Logger.error if event.detail else Logger.info, "")
            self._refused[key] = len(self._lines) - 1, event, 1


def transfer_line(report: TransferReport) -> str:
    """One transfer in one line."""
    request, agreed = report.request, report.agreed
    text = (
        f"{request.protocol} {at(request.peer)} {'put' if request.write else 'got'} {request.filename!r}: "
        f"{report.outcome.value}{f' ({report.detail})' if report.detail else ''}, "
        f"{report.octets} octets in {report.ended - report.began:.2f} s"
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
    """*count* requests for the same in one line."""
    request = event.request
    one, several = ("offers", "offer") if request.write else ("asks for", "ask for")
    who = f"{at(request.peer)} {one}" if count == 1 else f"{at(request.peer)} and {count - 1} more {several}"
    why = (f" ({event.detail})" if event.detail else "") + _treated(event.persona)
    return f"{request.protocol} {who} {request.filename!r}: ERROR {event.code} {event.message}{why}"


def _treated(persona: str) -> str:
    return f", treated as {persona}" if persona else ""


def at(address: Address) -> str:
    """``("fd77::1", 69)`` as ``[fd77::1]:69``."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
