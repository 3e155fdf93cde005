"""netascii (RFC 764), for programs that translate a file themselves. The server translates by itself."""

import io
from typing import Any

_STEP = 4096


class NetasciiReader:
    """The content of *reader*, a ResponseData, as netascii: LF becomes CR LF, and CR becomes CR NUL."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._buffer = bytearray()
        self._whole: io.BytesIO | None = None
        self._size = 0

    def read(self, size: int) -> bytes:
        """Return the next *size* bytes; fewer at the end."""
        if self._whole is not None:
            return self._whole.read(size)
        while len(self._buffer) < size:
            data = bytes(self._reader.read(size - len(self._buffer)))
            if not data:
                break
            self._buffer += data.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
        part = bytes(self._buffer[:size])
        del self._buffer[:size]
        return part

    def size(self) -> int:
        """Return the bytes of all of it, which is read into memory for that."""
        if self._whole is None:
            whole = io.BytesIO()
            while data := self.read(_STEP):
                whole.write(data)
            self._size = whole.tell()
            whole.seek(0)
            self._whole = whole
        return self._size

    def close(self) -> None:
        """Close what is read."""
        self._reader.close()
