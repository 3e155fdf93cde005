"""Checks of the server's record of a lease while a real client takes, renews and releases it."""

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
    """The only lease of a server, and the client that has it."""

    lab: Lab
    server: Host
    client: DHCPClient
    program: Program
    """The client, running."""
    new_lease: dict[str, Any] = field(factory=dict)
    """The record of the lease when it was new."""

    def assert_active(self, address: str) -> None:
        """The client has *address*, and the server lists the lease as an active one of a system."""
        self.new_lease = self._lease_by_command()
        assert (self.new_lease["address"], self.new_lease["state"], self.new_lease["kind"]) == (
            address,
            "active",
            "system",
        )

    def assert_renewed(self, seconds: float) -> None:
        """The client renews the lease within *seconds*."""
        if self.client.renew is not None:
            self.client.renew(self.program)
        renewed = wait_until(
            lambda: (lease := self._lease_by_control_socket())["expires"] > self.new_lease["expires"] and lease,
            seconds,
            "it renews",
        )
        assert renewed["address"] == self.new_lease["address"]
        assert self._lease_by_command()["expires"] >= renewed["expires"]

    def assert_released(self) -> None:
        """The client releases its address, if it is one that can."""
        if self.client.release is not None:
            self.client.release(self.program)
            wait_until(lambda: self._lease_by_control_socket()["state"] == "released", 30, "it gives the address back")
            assert self._lease_by_command()["state"] == "released"

    def _lease_by_control_socket(self) -> dict[str, Any]:
        """The lease, by the control socket. The command takes half a second of a core, too much for each poll."""
        [lease] = RunningServer(self.lab.directory / "state" / CONTROL_SOCKET).leases(Selection())
        return dict(lease)

    def _lease_by_command(self) -> dict[str, Any]:
        """The lease, by the command."""
        configuration = next(self.lab.directory.glob("bootfw-*.toml"))
        program = Path(sys.executable).with_name("bootfw")
        result = self.server.run(program, "leases", "list", "--json", "-c", configuration, seconds=60)
        assert result.exit_code == 0, result.output
        leases: list[dict[str, Any]] = json.loads(result.output)
        [lease] = leases
        return lease
