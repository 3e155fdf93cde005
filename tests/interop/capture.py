"""What was said on the segment, as tshark reads it."""

import os
import re
import signal
from pathlib import Path

from attrs import define

from .lab import Host, Program, need

_ROOM = ("-B", "16384", "-s", "10000")
"""KiB for packets that tcpdump has not read yet, and bytes that each of them takes there. By default 2 MiB have room
for 8 packets."""


@define(eq=False)
class Capture:
    """A recording of UDP, made by tcpdump on a host. tshark reads it after ``stop()``."""

    _host: Host
    _file: Path
    _recording: Program

    @classmethod
    def start(cls, host: Host, directory: Path, which: str = "udp") -> "Capture":
        """Record what passes *host* from now on.

        :param which: tcpdump's filter.
        """
        need("tcpdump")
        need("tshark")
        file = directory / "capture.pcap"
        recording = host.start("tcpdump", "--immediate-mode", "-U", *_ROOM, "-i", "eth0", "-w", file, which)
        recording.wait_until(lambda: "listening on" in recording.output, 90, "it records")
        return cls(host, file, recording)

    def stop(self) -> None:
        """Nothing more is recorded. What has been sent until now is in the file, even on a busy machine."""
        self._recording.wait_until(self._has_all, 90, "tcpdump has written what the kernel has for it")
        self._recording.stop()

    def _has_all(self) -> bool:
        self._recording.send(signal.SIGUSR1)  # makes tcpdump print its counters
        counts = re.findall(r"(\d+) packets? captured, (\d+) packets? received by filter", self._recording.output)
        return bool(counts) and counts[-1][0] == counts[-1][1]

    def fields(self, which: str, *names: str) -> list[str]:
        """A line for each packet that the display filter *which* takes, with these fields of it, a tab between each."""
        words = [word for name in names for word in ("-e", name)]
        shown = self._host.run(
            *("tshark", "-o", "udp.check_checksum:TRUE", "-r", os.fspath(self._file), "-Y", which, "-T", "fields"),
            *words,
            seconds=60,
        )
        assert shown.exit_code == 0, shown.output
        return [line for line in shown.output.splitlines() if not line.startswith("Running as user")]

    def faults(self, which: str) -> list[str]:
        """The same with the numbers and the faults of the packets that tshark has something against."""
        wrong = '_ws.malformed || _ws.expert.severity >= "Warning" || udp.checksum.status == "Bad"'
        return self.fields(f"({which}) && ({wrong})", "frame.number", "_ws.expert.message")
