"""A machine that boots on a MemoryNetwork: it asks by DHCP, as the firmware does that it is, and fetches by TFTP."""

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
    """A proxy with resolvers and files, and the machines on its wire. It knows whose address an address is, or not."""

    resolvers: list[Any]
    backends: list[Any] = field(factory=list)
    known: bool = True
    network: MemoryNetwork = field(factory=MemoryNetwork)
    events: list[Event] = field(factory=list)
    service: Any = None
    machines: dict[str, str] = field(factory=dict)
    """Address -> MAC."""

    def start(self) -> None:
        """Begin as the process does."""
        host = next((h for h in self.network.hosts if h.name == "server"), None)
        if host is None:
            host = self.network.host(SERVER, name="server", rich=True)
        recorder = EventList(self.events)
        self.service = BootService(host, resolvers=self.resolvers, backends=self.backends, observers=[recorder])
        # The kernel's table of neighbours is not of this network.
        self.service._clients._hardware_address = lambda peer: self.machines.get(peer[0], "") if self.known else ""
        self.service.startService()

    def stop(self) -> None:
        self.network.result_of(self.service.stopService())

    def said(self, kind: type) -> list[Any]:
        self.network.advance(0)
        return [event for event in self.events if isinstance(event, kind)]


@define(eq=False)
class Machine:
    """Its firmware, and its place on the wire of *site*."""

    site: Site
    mac: str = firmware.MAC_TEXT
    address: str = "10.0.0.9"
    host: Any = None

    def __attrs_post_init__(self) -> None:
        self.host = self.site.network.host(self.address, name=self.address)
        self.site.machines[self.address] = self.mac

    def asks(self, client: firmware.Client, **header: Any) -> str | None:
        """The name of the boot file that it is told; None: it gets no answer."""
        chaddr = bytes.fromhex(self.mac.replace(":", ""))
        return self._told(
            68, client.message(**({"xid": next(_xids), "chaddr": chaddr} | header)), "255.255.255.255", 67
        )

    def asks_boot_server(self, client: firmware.Client) -> str | None:
        """The same, of port 4011."""
        chaddr = bytes.fromhex(self.mac.replace(":", ""))
        message = firmware.asks_boot_server(client, xid=next(_xids), chaddr=chaddr, ciaddr=self.address)
        return self._told(4011, message, SERVER, 4011)

    def _told(self, source: int, message: Message, server: str, port: int) -> str | None:
        own = FakePeer(self.host, source)
        own.send(pack(message, 1472), (server, port))
        self.site.network.advance(0.01)
        told = [parse(received.data) for received in own.take() if received.data[0] == 2]
        own.close()
        self.site.network.advance(0)
        return _name(told[0]) if told else None

    def gets(self, name: str) -> bytes | None:
        """The file; None: there is none."""
        path = urlsplit(name).path if "://" in name else name
        client = TFTPClient(self.host, (SERVER, 69))
        try:
            data: bytes = self.site.network.result_of(client.download(path)).data
        except TransferFailed:
            return None
        self.site.network.advance(0.01)
        return data

    def probes(self, name: str) -> None:
        """Ask for the size of the file, as UEFI does before it fetches it."""
        port = FakePeer(self.host)
        port.send(tftp.request(False, name, "octet", (("tsize", "0"),)), (SERVER, 69))
        self.site.network.advance(0.01)
        [oack] = port.take()
        port.send(tftp.error(8, "User aborted the transfer"), oack.peer)
        port.close()
        self.site.network.advance(0.01)

    def boots(self, client: firmware.Client) -> bytes | None:
        """What it has loaded at the end; None: it boots its own disk."""
        name = self.asks(client)
        return None if name is None else self.gets(name)


def _name(message: Message) -> str:
    return (message.options.get(67) or message.file).rstrip(b"\0").decode()
