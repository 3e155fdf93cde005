"""The screen of a PC with a BIOS: its text, and pictures of it."""

import json
import socket
from pathlib import Path
from typing import Any

COLUMNS, ROWS = 80, 25
_TEXT_MEMORY = 0xB8000  # of the VGA: a character of code page 437 and its colour, in two bytes each


class Screen:
    """It is asked for by QEMU's protocol for machines (QMP).

    :param directory: an empty one, for the socket and the files that QEMU writes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection: Any = None
        self.options = ("-vga", "std", "-qmp", f"unix:{directory}/qmp,server=on,wait=off")
        """Of QEMU: they add it to a machine."""

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def text(self) -> str:
        """Its lines; "": the machine is not there yet."""
        file = self._directory / "text"
        try:
            self._ask("pmemsave", val=_TEXT_MEMORY, size=2 * COLUMNS * ROWS, filename=str(file))
        except OSError:
            return ""
        shown = file.read_bytes()[::2].decode("cp437")
        return "\n".join(shown[at : at + COLUMNS].rstrip() for at in range(0, len(shown), COLUMNS))

    def picture(self, path: Path) -> None:
        """Write it into a PNG file."""
        self._ask("screendump", filename=str(path), format="png")

    def _ask(self, command: str, **arguments: str | int) -> None:
        if self._connection is None:
            with socket.socket(socket.AF_UNIX) as connecting:
                connecting.settimeout(60)
                connecting.connect(str(self._directory / "qmp"))
                self._connection = connecting.makefile("rw", encoding="utf-8")
            self._answer()
            self._ask("qmp_capabilities")
        self._connection.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._connection.flush()
        self._answer()

    def _answer(self) -> None:
        """Read until the answer: events come between."""
        while True:
            line = self._connection.readline()
            assert line, "QEMU has closed the connection"
            answer = json.loads(line)
            assert "error" not in answer, answer
            if "return" in answer or "QMP" in answer:
                return
