"""Where files come from: the interfaces of python-tx-tftp, and its backend of a directory."""

import os
import tempfile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.filepath import FilePath, InsecurePath
from zope.interface import Attribute, Interface, implementer

from tftp.errors import AccessViolation, FileExists, FileNotFound, Unsupported
from tftp.util import deferred


class IBackend(Interface):
    """A source of files.

    While a method runs, ``twisted.python.context.get`` has the ``local`` and ``remote`` address of the transfer, each a
    tuple (host, port).
    """

    def get_reader(file_name: bytes) -> "Deferred[IReader]":
        """Return a Deferred of an IReader.

        :param file_name: as the client sent it.
        :raise Unsupported: files can't be read here.
        :raise AccessViolation: this one may not be read.
        :raise FileNotFound: there is no such file.
        :raise BackendError: anything else; the client gets its text.
        """

    def get_writer(file_name: bytes) -> "Deferred[IWriter]":
        """Return a Deferred of an IWriter.

        :param file_name: as the client sent it.
        :raise Unsupported: files can't be written here.
        :raise AccessViolation: this one may not be written.
        :raise FileExists: there is such a file already.
        :raise BackendError: anything else; the client gets its text.
        """


class IReader(Interface):
    """An open file."""

    size: int | None = Attribute("Bytes of the file; None: not known.")

    def read(size: int) -> "bytes | Deferred[bytes]":
        """Return the next *size* bytes, or a Deferred of them. Fewer mean the end of the file.

        :raise Exception: the transfer ends with ERROR 0.
        """

    def finish() -> None:
        """Release everything. Called once, when the transfer ends."""


class IWriter(Interface):
    """A file that is being written."""

    def write(data: bytes) -> "Deferred[None] | None":
        """Append *data*, at once or until the Deferred fires. Only then it is acknowledged to the client.

        :raise Exception: the transfer ends with ERROR 3, and cancel() is called.
        """

    def finish() -> None:
        """The file is complete. May return a Deferred: then the last block is acknowledged when it fires."""

    def cancel() -> None:
        """The transfer has failed: discard the file."""


@implementer(IReader)
class FilesystemReader:
    """Reads a file.

    :param file_path: a FilePath.
    :raise FileNotFound: it is no regular file, or can't be opened.
    """

    def __init__(self, file_path: Any) -> None:
        self.file_path = file_path
        # A named pipe would block the process until something writes to it.
        if not file_path.isfile():
            raise FileNotFound(file_path)
        try:
            self.file_obj = file_path.open("r")
        except OSError:
            raise FileNotFound(file_path) from None
        self.state = "active"

    @property
    def size(self) -> int | None:
        """See IReader. None after the end of the file."""
        return None if self.file_obj.closed else os.fstat(self.file_obj.fileno()).st_size

    def read(self, size: int) -> bytes:
        """See IReader."""
        if self.state != "active":
            return b""
        data: bytes = self.file_obj.read(size)
        if not data:
            self.state = "eof"
            self.file_obj.close()
        return data

    def finish(self) -> None:
        """See IReader."""
        self.file_obj.close()
        self.state = "finished"


@implementer(IWriter)
class FilesystemWriter:
    """Writes a file. It is empty until all of it has come, so that its name is taken and nothing half is read.

    :param file_path: a FilePath. Missing directories are created.
    :raise FileExists: there is such a file.
    """

    def __init__(self, file_path: Any) -> None:
        self.file_path = file_path
        directory = file_path.parent()
        os.makedirs(directory.path, exist_ok=True)
        try:
            self.destination_file = open(file_path.path, "xb")  # noqa: SIM115
        except FileExistsError:
            raise FileExists(file_path) from None
        try:
            # In the same directory, so that it can take the place of the other in one step.
            self.temp_destination = tempfile.NamedTemporaryFile(dir=directory.path, delete=False)  # noqa: SIM115
        except OSError:
            self.destination_file.close()
            file_path.remove()
            raise
        self.state = "active"

    def write(self, data: bytes) -> None:
        """See IWriter."""
        self.temp_destination.write(data)

    def finish(self) -> None:
        """See IWriter."""
        if self.state != "active":
            return
        self.temp_destination.flush()
        os.fsync(self.temp_destination.fileno())
        os.fchmod(self.temp_destination.fileno(), os.fstat(self.destination_file.fileno()).st_mode & 0o7777)
        os.replace(self.temp_destination.name, self.file_path.path)
        self._close("finished")

    def cancel(self) -> None:
        """See IWriter."""
        if self.state != "active":
            return
        os.unlink(self.temp_destination.name)
        self.file_path.remove()
        self._close("cancelled")

    def _close(self, state: str) -> None:
        self.state = state
        self.temp_destination.close()
        self.destination_file.close()


@implementer(IBackend)
class FilesystemSynchronousBackend:
    """The files of a directory. All calls block until the disk has answered.

    :param base_path: bytes, text or a FilePath. A name that leads out of it by ".." is refused. Symbolic links are
        followed wherever they lead, as in python-tx-tftp: who may write there decides what is served.
    """

    def __init__(self, base_path: Any, can_read: bool = True, can_write: bool = True) -> None:
        self.base: Any = FilePath(getattr(base_path, "path", base_path))
        self.can_read, self.can_write = can_read, can_write

    @deferred
    def get_reader(self, file_name: bytes) -> FilesystemReader:
        """See IBackend."""
        if not self.can_read:
            raise Unsupported("Reading not supported")
        return FilesystemReader(self._path_of(file_name))

    @deferred
    def get_writer(self, file_name: bytes) -> FilesystemWriter:
        """See IBackend."""
        if not self.can_write:
            raise Unsupported("Writing not supported")
        return FilesystemWriter(self._path_of(file_name))

    def _path_of(self, file_name: bytes) -> Any:
        if b"\0" in file_name:
            raise AccessViolation(f"{file_name!r} is no name of a file")
        try:
            return self.base.descendant(file_name.split(b"/"))
        except InsecurePath:
            raise AccessViolation(f"{file_name!r} lies outside of the directory that is served") from None
