"""Maps the address of a TFTP or HTTP client to the machine behind it, as DHCP has seen that machine."""

import time
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

from attrs import evolve

from bootfw.values import Address, BootRequest, Client

MACHINES = 65536
"""Most machines that are remembered; the one whose last DHCP request is the oldest is dropped first."""

FRESH = 1.0
"""Seconds for which a MAC that the kernel has is not looked up again. The kernel itself keeps it for longer."""

_NO_ADDRESS = ("", "0.0.0.0", "::")


class Clients:
    """Remembers the machines that have requested a boot file, and the address of each.

    A proxyDHCP server does not see the address that another DHCP server assigns. The MAC behind such an address is
    looked up in the kernel's neighbour table.

    :param hardware_address: returns the MAC of a peer on a directly connected network, lower-case with colons, or ""
        if it is not known. None: no MAC can be looked up.
    :param broadcast: sends a client to the on_message() of the other processes of this server; None: there are none.
    :param seconds: a monotonic clock.
    :param leased_to: returns the MAC of the machine to which this process leases an address now; "": to none. It is
        called at a lookup, so that the lease of a machine that requests no file costs nothing here.
    """

    def __init__(
        self,
        hardware_address: Callable[[Address], str] | None = None,
        broadcast: Callable[[Client], None] | None = None,
        seconds: Callable[[], float] = time.monotonic,
        leased_to: Callable[[str], str] = lambda address: "",
    ) -> None:
        self._hardware_address = hardware_address
        self._seconds = seconds
        self._kernel_macs: dict[tuple[Any, ...], tuple[float, str]] = {}
        """(address, scope) -> (when it was looked up, MAC in the kernel's neighbour table): a client that loads many
        files costs one lookup in FRESH seconds."""
        self._broadcast = broadcast
        self._leased_to = leased_to
        self.shares_leases = False
        """Whether other processes need the leases of systems: they serve files that differ for each."""
        self._machines: dict[str, Client] = {}
        """MAC -> machine; the most recent last."""
        self._macs: dict[str, tuple[str, bool]] = {}
        """Address -> (MAC, whether the address is leased to it by us); the most recent last."""

    def remember(self, request: BootRequest, address: str = "") -> None:
        """Store the machine behind a DHCP request for a boot file.

        :param address: assigned by our reply; "": the client has one already, or gets one from another server.
        """
        mac = request.mac
        before = self._machines.get(mac)
        leased = bool(address)
        address = address or request.client_address
        client = Client(
            "" if address in _NO_ADDRESS else address,
            mac=mac,
            uuid=request.uuid,
            architecture=request.architecture,
            persona=request.persona,
            vendor_class=request.vendor_class,
            ipxe=request.ipxe,
            http=request.http,
            leased=leased,
        )
        if before is not None:
            # A later boot stage may leave out options that the firmware sent; the machine is still the same.
            if client.uuid is None:
                client = evolve(client, uuid=before.uuid)
            if client.architecture == "unknown":
                client = evolve(client, architecture=before.architecture)
        self.on_message(client)
        if self._broadcast is not None:
            self._broadcast(client)

    def lease(self, mac: str, address: str) -> None:
        """Share that we have leased *address* to a machine that does not boot now: its system sends no boot request.

        :param mac: "": it is not known.
        """
        if not mac or not self.shares_leases or self._broadcast is None or self._macs.get(address) == (mac, True):
            return
        known = self._machines.get(mac)
        # Of most systems no request for a boot file has been seen. To make a Client costs a fifth of evolve().
        client = Client(address, mac, leased=True) if known is None else evolve(known, address=address, leased=True)
        self.on_message(client)
        self._broadcast(client)

    def on_message(self, client: Client) -> None:
        """Store a client that this process or another one has seen. Without an address it keeps its previous one."""
        mac = client.mac
        self._machines.pop(mac, None)
        self._machines[mac] = client
        if len(self._machines) > MACHINES:
            del self._machines[next(iter(self._machines))]
        # What a client says of its address does not take it away from the machine that we have leased it to.
        if client.address and (client.leased or not self._macs.get(client.address, ("", False))[1]):
            self._macs.pop(client.address, None)
            self._macs[client.address] = mac, client.leased
            if len(self._macs) > MACHINES:
                del self._macs[next(iter(self._macs))]

    def all(self) -> Iterator[Client]:
        """Yield everything that is stored, as arguments of on_message()."""
        yield from self._machines.values()
        for address, (mac, leased) in self._macs.items():
            if mac in self._machines:
                yield evolve(self._machines[mac], address=address, leased=leased)

    def lookup(self, peer: Address) -> Client:
        """Return the client at *peer*. May cost system calls, so don't call it for every datagram."""
        address = peer[0]
        # The kernel wins: the address may have moved to another machine since the last request that we have seen.
        mac, leased = self._mac_of_kernel(peer) or self._leased_to(address), True
        if not mac:
            mac, leased = self._macs.get(address, ("", False))
        machine = self._machines.get(mac)
        if machine is None:
            return Client(address, mac, leased=leased)
        if machine.address == address and machine.leased == leased:
            return machine
        return evolve(machine, address=address, leased=leased)

    def _mac_of_kernel(self, peer: Address) -> str:
        """Return the MAC of *peer* in the kernel's neighbour table; "": it is not there."""
        if self._hardware_address is None:
            return ""
        key = (peer[0], *peer[3:])
        now = self._seconds()
        at, mac = self._kernel_macs.get(key, (-inf, ""))
        if not 0 <= now - at < FRESH:
            mac = self._hardware_address(peer)
            if mac:
                if len(self._kernel_macs) >= MACHINES:
                    self._kernel_macs.clear()
                self._kernel_macs[key] = now, mac
        return mac
