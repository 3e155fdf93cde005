"""What strangers send leaves no more in memory than the bounds of the service's tables allow."""

import gc
import ipaddress
from collections import OrderedDict, deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import firmware
import firmware6
import pytest
from attrs import define, evolve, field
from tftpserver import numbered

from bootfw.attempts import fold
from bootfw.backends.memory import MemoryBackend
from bootfw.boot import clients, onceper, secondstage
from bootfw.config.settings import BootsSettings, DHCP6Settings, DHCPSettings, Settings, TFTPSettings
from bootfw.dhcp import hashedallocator
from bootfw.dhcp.subnet import Subnet
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.net import admission
from bootfw.net.dhcp import ratelimit
from bootfw.net.tftp import listener
from bootfw.net.udp import packetinfo
from bootfw.observe import boots, clientmacs, counts, log
from bootfw.observe.counts import Counts
from bootfw.observe.log import LogObserver
from bootfw.resolvers import loop_breaker
from bootfw.resolvers.loop_breaker import LoopBreaker
from bootfw.resolvers.next_boot import NextBoot
from bootfw.resolvers.static import StaticResolver
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.testing.port import BROADCAST
from bootfw.values import Via
from bootfw.web import activity
from bootfw.wire import dhcp6, tftp
from bootfw.wire.dhcp4 import pack
from bootfw.wire.options6 import Option as Option6

SERVER, SERVER6 = "10.77.0.1", "fd77::1"

BOUND = 70
"""The bound of each table in this test."""

STRANGERS = 4 * BOUND

BOUNDS = (
    *((fold, "ATTEMPTS"), (clients, "MACHINES"), (onceper, "_CAPACITY"), (admission, "REMEMBERED")),
    *((ratelimit, "_SOURCES"), (packetinfo, "_LIMIT"), (listener, "MOST_TRANSFERS"), (boots, "RECENT")),
    *((clientmacs, "CLIENTS"), (log, "REMEMBERED"), (loop_breaker, "MACHINES"), (hashedallocator, "MAX_BINDINGS")),
    *(
        (activity, "_MOST_RUNNING"),
        (counts, "_MAX_RUNNING"),
        (secondstage, "MAX_CLIENTS"),
        (hashedallocator, "REUSE_EXPIRED_ABOVE"),
    ),
)
"""The bounds of the tables that strangers can fill; each is larger by default."""

_ATOMS = (str, bytes, int, float, bool, type(None), type, ModuleType, FunctionType, BuiltinFunctionType)
_TABLES = (dict, list, set, tuple, deque, OrderedDict)


def tables_of(root: Any, without: Any) -> dict[int, tuple[str, int]]:
    """Every container that is reachable from *root*, but not through *without*: its id -> (name, number of entries)."""
    found: dict[int, tuple[str, int]] = {id(without): ("", 0)}
    pending = [(root, type(root).__name__)]
    while pending:
        obj, name = pending.pop()
        if id(obj) in found or isinstance(obj, _ATOMS):
            continue
        found[id(obj)] = name, len(obj) if isinstance(obj, _TABLES) else 0
        if isinstance(obj, dict):
            pending += [(value, f"{name}.{key}" if isinstance(key, str) else name) for key, value in obj.items()]
            pending += [(key, name) for key in obj]
        elif isinstance(obj, _TABLES):
            pending += [(each, name) for each in obj]
        else:
            for each in gc.get_referents(obj):
                pending.append((each, type(obj).__name__ if isinstance(each, dict) else _slot_name(obj, each, name)))
    return found


def _slot_name(obj: Any, part: Any, default: str) -> str:
    """The name of the slot of *obj* that holds *part*; *default* if there is none."""
    for kind in type(obj).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if getattr(obj, name, None) is part:
                return f"{type(obj).__name__}.{name}"
    return default


@define(eq=False)
class Site:
    """A service with all its features, and clients that it doesn't know."""

    network: MemoryNetwork = field(factory=MemoryNetwork)
    service: Any = None
    client: Any = None
    """The host of a client that is always the same."""

    def start(self) -> None:
        host = self.network.host(SERVER, SERVER6, name="server", rich=True)
        host.interface = 1
        store = MemoryStore()
        files = MemoryBackend({"loader": numbered(5000)}, writable=True)
        settings = Settings(
            boots=BootsSettings(keep=50),
            tftp=TFTPSettings(writable=True),
            dhcp=DHCPSettings(
                mode="server",
                subnets=(Subnet(network="10.77.0.0/16", pool=["10.77.1.0-10.77.1.99"], relays=("10.77.0.9",)),),
                probe_seconds=0.0,
            ),
            dhcp6=DHCP6Settings(mode="server", subnets=(Subnet6(network="fd77::/64", pool=["fd77::1:0/112"]),)),
        )
        resolvers = [
            ("next-boot", NextBoot(store=store)),
            ("loop-breaker", LoopBreaker(reactor=host, store=store)),
            ("static", StaticResolver("loader")),
        ]
        self.service = BootService(
            host,
            settings=settings,
            backends=[files],
            resolvers=resolvers,
            observers=[LogObserver(), Counts()],
            store=store,
            attempts=store,
        )
        self.service.startService()
        self.client = self.network.host("10.77.0.200")
        self.network.advance(1)

    def protocol(self, name: str) -> Any:
        """The protocol of that service's port."""
        return next(each.protocol for each in self.service._bindings if each.service == name)

    def stranger(self, number: int) -> None:
        """Send what one stranger can, with names, addresses and numbers that nobody else has."""
        mac = b"\x52\x54\0\0" + number.to_bytes(2, "big")
        address = f"10.77.{128 + (number >> 8)}.{number & 255}"
        self.network.advance(0.01)
        peer = FakePeer(self.network.host(address), 1024 + number)
        text = f"{number:x}".encode()
        for client in (firmware.IPXE_ROM, firmware.OVMF_HTTP, firmware.DHCLIENT):
            client = client.changed({12: text, 61: b"\0" + text, 77: text, 97: b"\0" + mac + bytes(10)})
            for kind, header in ((1, {}), (3, {}), (8, {"ciaddr": address}), (4, {}), (7, {"ciaddr": address})):
                message = client.changed({53: bytes((kind,)), 50: bytes((10, 77, 1, number & 127))})
                fields = {"chaddr": mac, "xid": number, **header}
                self.dhcp(pack(message.message(**fields), 1472), address)
                relayed = message.changed({82: b"\1" + bytes((len(text),)) + text})
                self.dhcp(pack(relayed.message(**fields, giaddr="10.77.0.9"), 1472), "10.77.0.9")
            # One client that is always the same, and sends something else each time.
            same_client = {"chaddr": firmware.MAC, "xid": number, "ciaddr": address}
            self.dhcp(pack(client.message(**same_client), 1472), address)
        request = firmware.boot_server_request(firmware.OVMF, chaddr=mac, xid=number, ciaddr=address)
        self.protocol("boot-server").datagrams_received([(pack(request, 1472), (address, 4011), None)])
        self.dhcp(text, address)
        self.solicit(number)
        for data in (
            tftp.request(False, "loader", "octet", (("blksize", str(512 + number)), (f"x{number}", "1"))),
            tftp.request(False, f"missing-{number}", "octet", ()),
            tftp.request(True, f"upload-{number}", "octet", ()),
            tftp.request(False, "loader", f"mode{number}", ()),
            tftp.ack(number),
            b"\0\1" + text,
        ):
            peer.send(data, (SERVER, 69))
        same_peer = FakePeer(self.client, 1024 + number)
        same_peer.send(tftp.request(False, f"missing-{number}", "octet", ()), (SERVER, 69))
        same_peer.send(tftp.request(False, "loader", "octet", ()), (SERVER, 69))
        self.network.advance(0.01)
        for port in (peer, same_peer):
            port.take()
            port.close()

    def dhcp(self, data: bytes, address: str) -> None:
        via = Via(SERVER, 1, BROADCAST)
        self.protocol("dhcp").datagrams_received([(data, (address, 68), via)])

    def solicit(self, number: int) -> None:
        duid = b"\0\4" + number.to_bytes(16, "big")
        peer = str(ipaddress.IPv6Address(0xFE80 << 112 | number + 2))
        server = self.protocol("dhcp6")
        via = Via(SERVER6, 1, "ff02::1:2")
        for client in (firmware6.IPXE, firmware6.LINUX):
            message = evolve(client, iaid=number).changed({Option6.CLIENT_ID: duid})
            port = (Option6.INTERFACE_ID, f"port{number}".encode())
            relay = dhcp6.Relay(0, "fd77::5", peer, (port,))
            for kind in (dhcp6.MessageType.SOLICIT, dhcp6.MessageType.REBIND, dhcp6.MessageType.INFORMATION_REQUEST):
                sent = evolve(message.message(kind), xid=number)
                server.datagrams_received([(dhcp6.pack(sent), (peer, 546, 0, 1), via)])
                server.datagrams_received(
                    [(dhcp6.pack(sent, (relay,), dhcp6.MessageType.RELAY_FORWARD), ("fd77::5", 547, 0, 0), via)]
                )


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for module, name in BOUNDS:
        assert getattr(module, name) > BOUND, f"{module.__name__}.{name}"
        monkeypatch.setattr(module, name, BOUND)
    site = Site()
    site.start()
    yield site
    site.network.result_of(site.service.stopService())


def test_tables_do_not_grow_beyond_their_bounds(site: Site) -> None:
    before = tables_of(site.service, site.network)
    for number in range(STRANGERS):
        site.stranger(number)
    gc.collect()
    large = {
        (name, size)
        for key, (name, size) in tables_of(site.service, site.network).items()
        if size > 3 * BOUND and size > before.get(key, ("", 0))[1]
    }
    assert large == set()
