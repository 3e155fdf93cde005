"""The life of a client's lease, as the client brings it about and as the server tells of it."""

import json
import sys
from pathlib import Path
from typing import Any

from attrs import define, field

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
        self.first = self._told()
        assert (self.first["address"], self.first["state"], self.first["kind"]) == (address, "active", "system")

    def is_renewed(self, seconds: float) -> None:
        """It lasts longer, within *seconds*."""
        if self.client.renew is not None:
            self.client.renew(self.program)
        renewed = wait_until(
            lambda: (now := self._told())["expires"] > self.first["expires"] and now, seconds, "it renews"
        )
        assert renewed["address"] == self.first["address"]

    def ends(self) -> None:
        """The client gives its address back, if it is one that does."""
        if self.client.release is not None:
            self.client.release(self.program)
            wait_until(lambda: self._told()["state"] == "released", 10, "it gives the address back")

    def _told(self) -> dict[str, Any]:
        configuration = next(self.lab.directory.glob("bootfw-*.toml"))
        program = Path(sys.executable).with_name("bootfw")
        done = self.server.run(program, "leases", "list", "--json", "-c", configuration, seconds=20)
        assert done.exit_code == 0, done.output
        leases: list[dict[str, Any]] = json.loads(done.output)
        [lease] = leases
        return lease
