"""Writes the packets of a failed boot to a pcapng file, for Wireshark and ``bootfw replay``."""

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from bootfw.attempts.attempt import BootAttempt, StageKind
from bootfw.attempts.attempttext import stage_line
from bootfw.boot.flightrecorder import FlightRecorder, datagram_of
from bootfw.wire.pcapng import Datagram, Segment, write_pcapng

FILES = 100
"""Most recordings in the directory; the oldest are deleted first."""

PACKETS = 256
"""Most packets of a recording, the last ones of the boot: 150 kB at most."""

_BEFORE = 2.0
"""Seconds before the begin of the attempt from which packets are included."""

_NEAR = 0.05
"""Most seconds between a packet and the stage that is shown in its comment."""

_HTTP_PORT = 80
"""Our port in the packets that are written for HTTP, and for HTTPS too, since their content is not encrypted."""
_FIRST_EPHEMERAL = 49152


class Recordings:
    """The recordings in a directory.

    :param recorder: has the packets.
    :param seconds: the recorder's clock.
    :param directory: created with the first file.
    :param wall_clock: returns seconds since the epoch.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self,
        recorder: FlightRecorder,
        seconds: Callable[[], float],
        directory: Path,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._recorder = recorder
        self._seconds = seconds
        self._directory = directory
        self._wall_clock = wall_clock
        self._failing = False
        """Whether the last recording could not be written, and this has been logged."""
        self.transfers_of_workers: Callable[[Collection[str], float], Deferred[list[Datagram]]] = (
            lambda addresses, since: succeed([])
        )
        """Returns the TFTP packets that other processes of this server have recorded; see FlightRecorder."""

    def write(self, attempt: BootAttempt) -> "Deferred[str]":
        """Write the packets from and to the client of *attempt*.

        :return: fires with the path of the file; "": there are no packets, or the file can't be written.
        """
        wall = self._wall_clock() - self._seconds()
        since = attempt.began - wall - _BEFORE
        entries = self._recorder.packets_of(attempt.mac, attempt.addresses, since)
        packets = [datagram_of(entry, wall) for entry in entries]

        def write(transfers: list[Datagram]) -> str:
            every = transfers + self._recorder.transfers_of(attempt.addresses, since)
            packets.extend(evolve(each, at=each.at + wall) for each in every)
            packets.extend(_http_packets(attempt, packets))
            return self._write(attempt, packets)

        return self.transfers_of_workers(attempt.addresses, since).addCallback(write)

    def _write(self, attempt: BootAttempt, packets: list[Datagram]) -> str:
        if not packets:
            return ""
        packets.sort(key=lambda each: each.at)
        packets = [
            evolve(packet, comment=packet.comment or _stages(attempt, packet.at)) for packet in packets[-PACKETS:]
        ]
        path = self._directory / f"{attempt.id}.pcapng"
        # Renamed when it is complete: the directory never has half a recording under a final name.
        unfinished = path.with_suffix(".part")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(write_pcapng(packets, _summary(attempt)))
            unfinished.replace(path)
            self._drop_oldest()
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            if not self._failing:
                self._failing = True
                self._log.warn("the packets of failed boots can't be written: {error}", error=error)
            return ""
        if self._failing:
            self._failing = False
            self._log.info("the packets of failed boots are written again")
        return str(path)

    def _drop_oldest(self) -> None:
        files = sorted(self._directory.glob("*.pcapng"), key=lambda path: path.stat().st_mtime_ns)
        for path in files[:-FILES]:
            path.unlink(missing_ok=True)


def _stages(attempt: BootAttempt, at: float) -> str:
    """Return the stages at the time of a packet, as its comment."""
    return ", ".join(dict.fromkeys(stage.kind.value for stage in attempt.stages if abs(stage.at - at) < _NEAR))


def _http_packets(attempt: BootAttempt, packets: list[Datagram]) -> Iterator[Segment]:
    """Make packets for the HTTP requests and responses of an attempt, from its stages.

    A server does not see the TCP segments that the kernel handled. The stages do not contain the client's port, so each
    request gets a port of its own.
    """
    for number, stage in enumerate(attempt.stages):
        data = stage.data
        if stage.kind not in (StageKind.TRANSFER, StageKind.REFUSED) or data.get("protocol") not in ("http", "https"):
            continue
        client = str(data.get("peer", "")), _FIRST_EPHEMERAL + number
        if not client[0]:
            continue
        ours = "::" if ":" in client[0] else "0.0.0.0"
        server = next((_own_address(other) for other in packets if _can_be_of(other, client[0])), ours), _HTTP_PORT
        request = f"GET {quote('/' + str(data['file']).lstrip('/'))} HTTP/1.1\r\nHost: {server[0]}\r\n\r\n".encode()
        code = int(data.get("code", HTTPStatus.OK))
        phrase = HTTPStatus(code).phrase if code in set(HTTPStatus) else ""
        response = f"HTTP/1.1 {code} {phrase}\r\nConnection: close\r\n\r\n".encode()
        note = f"made from the record of the boot: {stage_line(stage)}"
        sent = 1 + len(request)
        yield Segment(stage.at, client, server, request, False, note, sequence=1, acknowledged=1)
        yield Segment(stage.at, server, client, response, True, note, sequence=1, acknowledged=sent)


def _own_address(packet: Datagram) -> str:
    return packet.source[0] if packet.outbound else packet.destination[0]


def _can_be_of(packet: Datagram, client: str) -> bool:
    """Return whether the source of *packet* is an address at which *client* may have reached our HTTP server."""
    address = _own_address(packet)
    return packet.outbound and (":" in address) == (":" in client) and address not in ("0.0.0.0", "::")


def _summary(attempt: BootAttempt) -> str:
    """Return the verdict and the stages of an attempt, as the comment of the file."""
    lines = [f"bootfw: boot of {attempt.client}: {attempt.verdict.value}"]
    if attempt.cause is not None:
        lines.append(f"{attempt.cause.sentence}; {attempt.cause.remedy}")
    lines += [f"{stage.at - attempt.began:8.3f} s  {stage_line(stage)}" for stage in attempt.stages]
    return "\n".join(lines)
