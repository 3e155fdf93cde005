"""A server that runs, and its leases, by its control socket."""

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
    """A reload was refused since it needs a restart; the configuration is right."""


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
        """The records of the leases that match."""
        return self.call("leases", **attrs.asdict(selection))

    def release(self, address: str) -> None:
        """End the lease of an address.

        :raise CommandError: it has none.
        """
        list(self.call("release", address=address))

    def reservations(self) -> Sequence[Record]:
        """All of them."""
        return list(self.call("reservations"))

    def reserve(self, reservation: Reservation) -> None:
        """Add one.

        :raise CommandError: it does not go with those that are there.
        """
        list(self.call("reserve", **reservation_record(reservation)))

    def unreserve(self, who: str) -> Record:
        """Remove one.

        :return: the removed reservation.
        :raise CommandError: there is none, or the configuration file has it.
        """
        (record,) = self.call("unreserve", who=who)
        return record

    def next_boots(self) -> Sequence[Record]:
        """What machines boot next, once."""
        return list(self.call("next"))

    def order(self, mac: str, file: str) -> Record:
        """Set the file that a machine boots next, replacing an earlier one."""
        (record,) = self.call("order", mac=mac, file=file)
        return record

    def cancel(self, mac: str) -> Record | None:
        """Cancel a one-time boot.

        :return: the one that it was; None: there is none.
        """
        return next(iter(list(self.call("cancel", mac=mac))), None)

    def take_over(self, leases: Iterable[Lease], reservations: Iterable[Reservation], now: float) -> TakenOver:
        """See OfflineLeases.

        :raise CommandError: always.
        """
        raise CommandError("bootfw is running: stop it, take the leases over, and start it again")

    def reload(self) -> None:
        """Have it load its configuration, which takes its workers longer than other answers.

        :raise RestartNeeded: the configuration is right, and nothing has changed; a line for each key.
        :raise CommandError: nothing has changed, a line for each error; or it does not answer.
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

    def call(self, name: str, **given: Any) -> Iterator[Record]:
        """The records that the server answers with.

        :raise CommandError: it refuses, or does not answer to the end.
        """
        return self._call(name, given, _ANSWER_TIMEOUT)

    def _call(self, name: str, given: Mapping[str, Any], timeout: float) -> Iterator[Record]:
        try:
            with self._connect(timeout) as connection, connection.makefile("rwb") as lines:
                lines.write(json.dumps({"do": name, "with": given}).encode() + b"\n")
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
