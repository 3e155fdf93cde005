"""Writes the packets of a boot that failed to a file that Wireshark and ``bootfw replay`` read."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from twisted.logger import Logger

from bootfw.attempts.attempt import BootAttempt
from bootfw.attempts.story import stage_line
from bootfw.boot.flightrecorder import FlightRecorder, datagram_of
from bootfw.wire.pcapng import write_pcapng

FILES = 100
"""Recordings that are kept, the latest ones."""

PACKETS = 64
"""Packets of each, the last ones: 100 kB at most."""

_BEFORE = 2.0
"""Seconds: packets are taken from that long before the attempt began."""

_NEAR = 0.05
"""Seconds between a packet and its stage."""


class Recordings:
    """The files in one directory.

    :param seconds: the clock of the recorder.
    :param directory: it is created with the first file.
    :param wall_clock: seconds since the epoch.
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

    def write(self, attempt: BootAttempt) -> str:
        """Write what the client of *attempt* has sent and was sent.

        :return: the path of the file; "": there are no packets, or the disk refuses the file.
        """
        wall = self._wall_clock() - self._seconds()
        entries = self._recorder.packets_of(attempt.mac, attempt.addresses, attempt.began - wall - _BEFORE)
        if not entries:
            return ""
        packets = [datagram_of(entry, wall, _stages(attempt, entry[0] + wall)) for entry in entries[-PACKETS:]]
        path = self._directory / f"{attempt.id}.pcapng"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(write_pcapng(packets, _story(attempt)))
            self._drop_oldest()
        except OSError as error:
            self._log.warn("the packets of a failed boot can't be written: {error}", error=error)
            return ""
        return str(path)

    def _drop_oldest(self) -> None:
        files = sorted(self._directory.glob("*.pcapng"), key=lambda path: path.stat().st_mtime_ns)
        for path in files[:-FILES]:
            path.unlink(missing_ok=True)


def _stages(attempt: BootAttempt, at: float) -> str:
    return ", ".join(dict.fromkeys(stage.kind.value for stage in attempt.stages if abs(stage.at - at) < _NEAR))


def _story(attempt: BootAttempt) -> str:
    lines = [f"bootfw: boot of {attempt.client}: {attempt.verdict.value}"]
    if attempt.cause is not None:
        lines.append(f"{attempt.cause.sentence}; {attempt.cause.remedy}")
    lines += [f"{stage.at - attempt.began:8.3f} s  {stage_line(stage)}" for stage in attempt.stages]
    return "\n".join(lines)
