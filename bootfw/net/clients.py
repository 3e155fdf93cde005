"""Who is behind an address: what machines have told by DHCP, for those that serve them files."""

from collections.abc import Callable

from attrs import evolve

from bootfw.values import Address, BootRequest, Client

MACHINES = 65536
"""That are remembered; those that have asked longest ago are forgotten first."""

_NOWHERE = ("", "0.0.0.0", "::")


class Clients:
    """The machines that have asked for a boot file, and which of them has which address.

    A proxy does not learn the address that another server gives; then the kernel knows whose it is.

    :param hardware_address: that of a peer on our wires, lower-case with colons, "" when not known. None: nobody's is.
    """

    def __init__(self, hardware_address: Callable[[Address], str] | None = None) -> None:
        self._hardware_address = hardware_address
        self._machines: dict[str, Client] = {}
        """MAC -> without address; the latest last."""
        self._macs: dict[str, str] = {}
        """Address -> MAC; the latest last."""

    def asked(self, request: BootRequest, address: str = "") -> None:
        """A machine has asked for its boot file.

        :param address: that it gets with the answer; "": it has one already, or gets it elsewhere.
        """
        mac = request.mac
        before = self._machines.pop(mac, None)
        client = Client(
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
        self._machines[mac] = client
        _bound(self._machines)
        address = address or request.client_address
        if address not in _NOWHERE:
            self._macs.pop(address, None)
            self._macs[address] = mac
            _bound(self._macs)

    def of(self, peer: Address) -> Client:
        """Who *peer* is. Asks the kernel, so it is nothing to be done for every datagram."""
        address = peer[0]
        # What the wire says now is newer than any lease.
        mac = self._hardware_address(peer) if self._hardware_address is not None else ""
        mac = mac or self._macs.get(address, "")
        machine = self._machines.get(mac)
        return Client(address, mac) if machine is None else evolve(machine, address=address)


def _bound(table: dict[str, str] | dict[str, Client]) -> None:
    if len(table) > MACHINES:
        del table[next(iter(table))]
