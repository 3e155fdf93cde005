"""The screen of a PC with a BIOS: its text, and pictures of it."""

import json
import socket
from pathlib import Path
from typing import Any

COLUMNS, ROWS = 80, 25
_TEXT_MEMORY = 0xB8000  # of the VGA: a character of code page 437 and its colour, in two bytes each


class Screen:
    """Text and pictures are read by QEMU's machine protocol (QMP).

    :param directory: an empty one, for the socket and the files that QEMU writes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection: Any = None
        self.options = ("-vga", "std", "-qmp", f"unix:{directory}/qmp,server=on,wait=off")
        """The options that add it to a QEMU machine."""

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def text(self) -> str:
        """The lines of the screen; "": the machine does not run yet."""
        file = self._directory / "text"
        try:
            self._execute("pmemsave", val=_TEXT_MEMORY, size=2 * COLUMNS * ROWS, filename=str(file))
        except OSError:
            return ""
        characters = file.read_bytes()[::2].decode("cp437")
        return "\n".join(characters[start : start + COLUMNS].rstrip() for start in range(0, len(characters), COLUMNS))

    def picture(self, path: Path) -> None:
        """Write a picture of the screen into a PNG file."""
        self._execute("screendump", filename=str(path), format="png")

    def _execute(self, command: str, **arguments: str | int) -> None:
        if self._connection is None:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(60)
                sock.connect(str(self._directory / "qmp"))
                self._connection = sock.makefile("rw", encoding="utf-8")
            self._read_response()
            self._execute("qmp_capabilities")
        self._connection.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._connection.flush()
        self._read_response()

    def _read_response(self) -> None:
        """Read the response to a command, and skip events before it."""
        while True:
            line = self._connection.readline()
            assert line, "QEMU has closed the connection"
            response = json.loads(line)
            assert "error" not in response, response
            if "return" in response or "QMP" in response:
                return
