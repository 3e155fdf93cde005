"""A machine that boots on a MemoryNetwork: it sends the DHCP messages of a firmware, and fetches files by TFTP."""

from itertools import count
from typing import Any
from urllib.parse import urlsplit

import firmware
from attrs import define, field
from observers import EventList

from bootfw.events import Event
from bootfw.service import BootService
from bootfw.testing import FakePeer, MemoryNetwork, TFTPClient, TransferFailed
from bootfw.wire import tftp
from bootfw.wire.dhcp4 import Message, pack, parse

SERVER = "10.0.0.1"
_xids = count(1)


@define(eq=False)
class Site:
    """A proxy with resolvers and files, and the machines on its link.

    :param knows_macs: whether it finds the MAC of an address, as in the kernel's neighbour table.
    """

    resolvers: list[Any]
    backends: list[Any] = field(factory=list)
    knows_macs: bool = True
    network: MemoryNetwork = field(factory=MemoryNetwork)
    events: list[Event] = field(factory=list)
    service: Any = None
    machines: dict[str, str] = field(factory=dict)
    """Address -> MAC."""

    def start(self) -> None:
        """Start the service, with the plugins as they are now."""
        host = next((h for h in self.network.hosts if h.name == "server"), None)
        if host is None:
            host = self.network.host(SERVER, name="server", rich=True)
        recorder = EventList(self.events)
        self.service = BootService(host, resolvers=self.resolvers, backends=self.backends, observers=[recorder])
        # The kernel's neighbour table knows nothing about this network.
        self.service._clients._hardware_address = lambda peer: self.machines.get(peer[0], "") if self.knows_macs else ""
        self.service.startService()

    def stop(self) -> None:
        self.network.result_of(self.service.stopService())

    def events_of(self, kind: type) -> list[Any]:
        """The events of that type so far."""
        self.network.advance(0)
        return [event for event in self.events if isinstance(event, kind)]


@define(eq=False)
class Machine:
    """A machine on the link of *site*; its firmware is an argument of the methods."""

    site: Site
    mac: str = firmware.MAC_TEXT
    address: str = "10.0.0.9"
    host: Any = None

    def __attrs_post_init__(self) -> None:
        self.host = self.site.network.host(self.address, name=self.address)
        self.site.machines[self.address] = self.mac

    def offered_file(self, client: firmware.Client, **header: Any) -> str | None:
        """Send the DISCOVER of *client*: the name of the boot file in the reply; None: there is no reply."""
        chaddr = bytes.fromhex(self.mac.replace(":", ""))
        return self._boot_file_of_reply(
            68, client.message(**({"xid": next(_xids), "chaddr": chaddr} | header)), "255.255.255.255", 67
        )

    def boot_server_file(self, client: firmware.Client) -> str | None:
        """The same for a request to port 4011."""
        chaddr = bytes.fromhex(self.mac.replace(":", ""))
        message = firmware.boot_server_request(client, xid=next(_xids), chaddr=chaddr, ciaddr=self.address)
        return self._boot_file_of_reply(4011, message, SERVER, 4011)

    def _boot_file_of_reply(self, source: int, message: Message, server: str, port: int) -> str | None:
        peer = FakePeer(self.host, source)
        peer.send(pack(message, 1472), (server, port))
        self.site.network.advance(0.01)
        replies = [parse(received.data) for received in peer.take() if received.data[0] == 2]
        peer.close()
        self.site.network.advance(0)
        return _name(replies[0]) if replies else None

    def fetch(self, name: str) -> bytes | None:
        """The content of a file, by its name or URL; None: there is none."""
        path = urlsplit(name).path if "://" in name else name
        client = TFTPClient(self.host, (SERVER, 69))
        try:
            data: bytes = self.site.network.result_of(client.download(path)).data
        except TransferFailed:
            return None
        self.site.network.advance(0.01)
        return data

    def probe(self, name: str) -> None:
        """Ask for the size of the file, as UEFI does before it fetches it."""
        port = FakePeer(self.host)
        port.send(tftp.request(False, name, "octet", (("tsize", "0"),)), (SERVER, 69))
        self.site.network.advance(0.01)
        [oack] = port.take()
        port.send(tftp.error(8, "User aborted the transfer"), oack.peer)
        port.close()
        self.site.network.advance(0.01)

    def boot(self, client: firmware.Client) -> bytes | None:
        """The content of the boot file that it is offered; None: it is offered none, and boots its own disk."""
        name = self.offered_file(client)
        return None if name is None else self.fetch(name)


def _name(message: Message) -> str:
    return (message.options.get(67) or message.file).rstrip(b"\0").decode()
