"""Sends requests to a running server by its control socket."""

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bootfw.cli.failure import CommandError
from bootfw.cli.takenover import TakenOver
from bootfw.lease import Lease, Reservation
from bootfw.records import Record, Selection, reservation_record

_ANSWER_TIMEOUT = 30.0
"""Seconds between two lines of an answer."""

_RELOAD_TIMEOUT = 240.0
"""Seconds for a reload, in which workers may have to start and then to load the configuration."""


class RestartNeeded(CommandError):
    """A reload was refused, because the configuration, which is right, needs a restart."""


class ServerEnded(CommandError):
    """The server has ended, or its control socket is gone."""


class RunningServer:
    """Sends requests to the server behind a control socket.

    :raise OSError: there is no such socket (FileNotFoundError), or no process listens on it (ConnectionRefusedError).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connect(_ANSWER_TIMEOUT).close()

    def leases(self, selection: Selection) -> Iterable[Record]:
        """Return the records of the leases that match."""
        return self.call("leases", **attrs.asdict(selection))

    def release(self, address: str) -> None:
        """End the lease of an address.

        :raise CommandError: the address is not leased.
        """
        list(self.call("release", address=address))

    def reservations(self) -> Sequence[Record]:
        """Return the records of all reservations."""
        return list(self.call("reservations"))

    def reserve(self, reservation: Reservation) -> None:
        """Add a reservation.

        :raise CommandError: it is invalid, or conflicts with another reservation.
        """
        list(self.call("reserve", **reservation_record(reservation)))

    def unreserve(self, who: str) -> Record:
        """Remove a reservation.

        :return: the record of the removed reservation.
        :raise CommandError: there is none, or it is in the configuration file.
        """
        (record,) = self.call("unreserve", who=who)
        return record

    def next_boots(self) -> Sequence[Record]:
        """Return the records of all one-time boots."""
        return list(self.call("next"))

    def order(self, mac: str, file: str) -> Record:
        """Set the file that a machine boots next, replacing an earlier one."""
        (record,) = self.call("order", mac=mac, file=file)
        return record

    def cancel(self, mac: str) -> Record | None:
        """Cancel a one-time boot.

        :return: the record of the cancelled one; None: there was none.
        """
        return next(iter(list(self.call("cancel", mac=mac))), None)

    def take_over(self, leases: Iterable[Lease], reservations: Iterable[Reservation], now: float) -> TakenOver:
        """See OfflineLeases. It needs a server that is stopped.

        :raise CommandError: always.
        """
        raise CommandError("bootfw is running: stop it, import the leases, and start it again")

    def reload(self) -> None:
        """Have the server load its configuration. Its workers load it too, so the answer may take minutes.

        :raise RestartNeeded: the configuration is right, and nothing has changed; a line for each key.
        :raise CommandError: nothing has changed, a line for each error; or the server does not answer.
        """
        list(self._call("reload", {}, _RELOAD_TIMEOUT))

    def _connect(self, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(os.fspath(self._path))
        except OSError as error:
            connection.close()
            raise type(error)(error.errno, error.strerror, os.fspath(self._path)) from error
        return connection

    def call(self, name: str, /, **arguments: Any) -> Iterator[Record]:
        """Yield the records of the answer to a request.

        :raise CommandError: the server refuses the request, or its answer is incomplete.
        """
        return self._call(name, arguments, _ANSWER_TIMEOUT)

    def _call(self, name: str, arguments: Mapping[str, Any], timeout: float) -> Iterator[Record]:
        try:
            with self._connect(timeout) as connection, connection.makefile("rwb") as lines:
                lines.write(json.dumps({"do": name, "with": arguments}).encode() + b"\n")
                lines.flush()
                for line in lines:
                    answer = json.loads(line)
                    if "error" in answer:
                        raise (RestartNeeded if answer.get("restart") else CommandError)(answer["error"])
                    if "done" in answer:
                        return
                    yield answer["record"]
        except TimeoutError:
            raise CommandError(f"bootfw has not answered for {timeout:.0f} seconds") from None
        except (ConnectionError, FileNotFoundError):
            pass
        raise ServerEnded("bootfw ended in the middle of its answer")
