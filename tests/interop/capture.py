"""A recording of the packets on the segment, by tcpdump, and what tshark reads in it."""

import os
import re
import signal
from pathlib import Path

from attrs import define

from .lab import Host, Program, need

_BUFFER_OPTIONS = ("-B", "16384", "-s", "10000")
"""KiB for packets that tcpdump has not read yet, and bytes that each of them takes there. By default 2 MiB have room
for 8 packets."""


@define(eq=False)
class Capture:
    """A recording of UDP, made by tcpdump on a host. tshark reads it after ``stop()``."""

    _host: Host
    _file: Path
    _recording: Program

    @classmethod
    def start(cls, host: Host, directory: Path, capture_filter: str = "udp") -> "Capture":
        """Record what passes *host* from now on.

        :param which: tcpdump's filter.
        """
        need("tcpdump")
        need("tshark")
        file = directory / "capture.pcap"
        recording = host.start(
            "tcpdump", "--immediate-mode", "-U", *_BUFFER_OPTIONS, "-i", "eth0", "-w", file, capture_filter
        )
        recording.wait_until(lambda: "listening on" in recording.output, 90, "it records")
        return cls(host, file, recording)

    def stop(self) -> None:
        """Stop recording, once all that has been sent until now is in the file."""
        self._recording.wait_until(self._is_complete, 90, "tcpdump has written what the kernel has for it")
        self._recording.stop()

    def _is_complete(self) -> bool:
        self._recording.send(signal.SIGUSR1)  # makes tcpdump print its counters
        counts = re.findall(r"(\d+) packets? captured, (\d+) packets? received by filter", self._recording.output)
        return bool(counts) and counts[-1][0] == counts[-1][1]

    def fields(self, display_filter: str, *names: str) -> list[str]:
        """A line for each packet that the display filter *which* takes, with these fields of it, a tab between each."""
        options = [word for name in names for word in ("-e", name)]
        tshark = self._host.run(
            *(
                "tshark",
                "-o",
                "udp.check_checksum:TRUE",
                "-r",
                os.fspath(self._file),
                "-Y",
                display_filter,
                "-T",
                "fields",
            ),
            *options,
            seconds=60,
        )
        assert tshark.exit_code == 0, tshark.output
        return [line for line in tshark.output.splitlines() if not line.startswith("Running as user")]

    def faults(self, display_filter: str) -> list[str]:
        """Number and complaint for each packet that *display_filter* takes and that tshark finds malformed or odd."""
        faulty = '_ws.malformed || _ws.expert.severity >= "Warning" || udp.checksum.status == "Bad"'
        return self.fields(f"({display_filter}) && ({faulty})", "frame.number", "_ws.expert.message")
