"""Who is behind an address: what machines have told by DHCP, for those that serve them files."""

from collections.abc import Callable, Iterator

from attrs import evolve

from bootfw.values import Address, BootRequest, Client

MACHINES = 65536
"""That are remembered; those that have asked longest ago are forgotten first."""

_NOWHERE = ("", "0.0.0.0", "::")


class Clients:
    """The machines that have asked for a boot file, and which of them has which address.

    A proxy does not learn the address that another server gives; then the kernel knows whose it is.

    :param hardware_address: that of a peer on our wires, lower-case with colons, "" when not known. None: nobody's is.
    :param broadcast: is given what on_message() of another process's Clients takes, when a machine has asked.
    """

    def __init__(
        self,
        hardware_address: Callable[[Address], str] | None = None,
        broadcast: Callable[[Client], None] = lambda client: None,
    ) -> None:
        self._hardware_address = hardware_address
        self._broadcast = broadcast
        self._machines: dict[str, Client] = {}
        """By MAC; the latest last."""
        self._macs: dict[str, str] = {}
        """Address -> MAC; the latest last."""

    def remember(self, request: BootRequest, address: str = "") -> None:
        """A machine has asked for its boot file.

        :param address: that it gets with the answer; "": it has one already, or gets it elsewhere.
        """
        mac = request.mac
        before = self._machines.get(mac)
        address = address or request.client_address
        client = Client(
            "" if address in _NOWHERE else address,
            mac=mac,
            uuid=request.uuid,
            architecture=request.architecture,
            persona=request.persona,
            vendor_class=request.vendor_class,
            ipxe=request.ipxe,
            http=request.http,
        )
        if before is not None:
            # A later stage may leave out what the firmware has told: the machine is still the same.
            if client.uuid is None:
                client = evolve(client, uuid=before.uuid)
            if client.architecture == "unknown":
                client = evolve(client, architecture=before.architecture)
        self.on_message(client)
        self._broadcast(client)

    def on_message(self, client: Client) -> None:
        """A machine has told who it is. Without an address it keeps the one that it has."""
        mac = client.mac
        self._machines.pop(mac, None)
        self._machines[mac] = client
        _bound(self._machines)
        if client.address:
            self._macs.pop(client.address, None)
            self._macs[client.address] = mac
            _bound(self._macs)

    def all(self) -> Iterator[Client]:
        """Everything that is remembered, as on_message() takes it."""
        yield from self._machines.values()
        for address, mac in self._macs.items():
            if mac in self._machines:
                yield evolve(self._machines[mac], address=address)

    def lookup(self, peer: Address) -> Client:
        """Who *peer* is. Asks the kernel, so it is nothing to be done for every datagram."""
        address = peer[0]
        # What the wire says now is newer than any lease.
        mac = self._hardware_address(peer) if self._hardware_address is not None else ""
        mac = mac or self._macs.get(address, "")
        machine = self._machines.get(mac)
        if machine is None:
            return Client(address, mac)
        return machine if machine.address == address else evolve(machine, address=address)


def _bound(table: dict[str, str] | dict[str, Client]) -> None:
    if len(table) > MACHINES:
        del table[next(iter(table))]
