"""The life of a client's lease, as the client brings it about and as the server tells of it."""

import json
import sys
from pathlib import Path
from typing import Any

from attrs import define, field

from bootfw.cli.running import RunningServer
from bootfw.config.state import CONTROL_SOCKET
from bootfw.records import Selection

from .dhcpclients import DHCPClient
from .lab import Host, Lab, Program, wait_until


@define
class LeaseLife:
    """That of the only lease that the server has."""

    lab: Lab
    server: Host
    client: DHCPClient
    program: Program
    """The client, running."""
    first: dict[str, Any] = field(factory=dict)
    """What the server said of the lease when it was new."""

    def begins(self, address: str) -> None:
        """A system has got *address*."""
        self.first = self._listed()
        assert (self.first["address"], self.first["state"], self.first["kind"]) == (address, "active", "system")

    def is_renewed(self, seconds: float) -> None:
        """It lasts longer, within *seconds*."""
        if self.client.renew is not None:
            self.client.renew(self.program)
        renewed = wait_until(
            lambda: (now := self._queried())["expires"] > self.first["expires"] and now, seconds, "it renews"
        )
        assert renewed["address"] == self.first["address"]
        assert self._listed()["expires"] >= renewed["expires"]

    def ends(self) -> None:
        """The client gives its address back, if it is one that does."""
        if self.client.release is not None:
            self.client.release(self.program)
            wait_until(lambda: self._queried()["state"] == "released", 30, "it gives the address back")
            assert self._listed()["state"] == "released"

    def _queried(self) -> dict[str, Any]:
        """The lease, by the control socket. The command takes half a second of a core, too much for each poll."""
        [lease] = RunningServer(self.lab.directory / "state" / CONTROL_SOCKET).leases(Selection())
        return dict(lease)

    def _listed(self) -> dict[str, Any]:
        """The lease, by the command."""
        configuration = next(self.lab.directory.glob("bootfw-*.toml"))
        program = Path(sys.executable).with_name("bootfw")
        done = self.server.run(program, "leases", "list", "--json", "-c", configuration, seconds=60)
        assert done.exit_code == 0, done.output
        leases: list[dict[str, Any]] = json.loads(done.output)
        [lease] = leases
        return lease
