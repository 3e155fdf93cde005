"""A bootfw with recorded boots, as a process, for a browser: a fork (tests/forks.py) with a state as its argument.

It prints the port of its pages. Each line of its standard input is a command: ``begin NUMBER COUNT`` begins boots,
``finish NUMBER COUNT`` ends them, ``fail NUMBER`` fails one, ``flood COUNT`` changes boots as fast as events go.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any

from attrs import define, evolve, field
from twistd import free_port
from twisted.internet import reactor as installed_reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from bootfw.api import (
    DHCPSettings,
    IBootFileResolver,
    IImageBackend,
    IOperable,
    IStartable,
    Settings,
    Subnet,
    TFTPSettings,
    WebSettings,
)
from bootfw.attempts.attempt import BootAttempt
from bootfw.attempts.record import attempt_record
from bootfw.backends.memory import MemoryBackend
from bootfw.events import BootAttemptChanged, BootAttemptEnded, Event, ReadinessChanged, TransferBegun, TransferEnded
from bootfw.lease import Lease, LeaseState
from bootfw.resolvers.next_boot import NextBoot
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.values import Agreed, Outcome, SocketStatus, TransferReport, TransferRequest
from bootfw.web import WebSite, add_web

from . import recorded

reactor: Any = installed_reactor


@implementer(IBootFileResolver, IStartable, IOperable)
@define(eq=False)
class RecordedBoots:
    """Recorded boots, in place of the BootRecorder of a service: it has the same operations."""

    boots: dict[str, BootAttempt] = field(factory=dict)
    publish: Callable[[Event], None] = field(default=lambda event: None)

    def resolve(self, request: object) -> None:
        return None

    def start(self, publish: Callable[[Event], None]) -> None:
        self.publish = publish

    def close(self) -> None:
        pass

    def operations(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        return {"boots": self._list, "boot": self._of_machine}

    def _list(self, arguments: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        mac, verdict, before = arguments.get("machine", ""), arguments.get("verdict", ""), arguments.get("before", inf)
        for boot in reversed(list(self.boots.values())):
            if boot.began < before and mac in ("", boot.mac) and verdict in ("", boot.verdict.value):
                yield attempt_record(boot, stages=False)

    def _of_machine(self, arguments: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        found = [boot for boot in self.boots.values() if arguments["machine"] in (boot.mac, boot.uuid, *boot.addresses)]
        return (attempt_record(boot) for boot in reversed(found))

    def add(self, boot: BootAttempt) -> None:
        """Add a boot, or replace it, and publish that."""
        self.boots[boot.id] = boot
        kind = BootAttemptChanged if boot.ended is None else BootAttemptEnded
        self.publish(kind(reactor.seconds(), boot))


@implementer(IImageBackend)
class WithImages(MemoryBackend):
    """It has two images by their names."""

    def image_names(self) -> list[str]:
        return ["debian-12", "rescue"]


def leases(count: int, now: float) -> Iterator[Lease]:
    for number in range(1, count + 1):
        state = LeaseState.RELEASED if number % 9 == 0 else LeaseState.ACTIVE
        address, mac = f"127.77.{number >> 8}.{number & 255}", recorded.mac_of(number)
        client = b"\0\1" + bytes.fromhex(mac.replace(":", ""))
        ends = now + 3600 * (1 + number % 7) if number % 6 else now - 60
        yield Lease(address, client, mac, state, now - 60 * number, ends, hostname=f"node-{number}", kind="system")


def store_with_leases(count: int) -> MemoryStore:
    store = MemoryStore()
    store.commit(tuple(leases(count, time.time())))
    return store


class Commands(LineOnlyReceiver):
    """Standard input."""

    delimiter = b"\n"

    def __init__(self, boots: RecordedBoots, site: WebSite, service: "WaitingService") -> None:
        self._boots = boots
        self._site = site
        self._service = service
        self._begun: dict[int, BootAttempt] = {}

    def lineReceived(self, line: bytes) -> None:
        name, *numbers = line.decode().split()
        getattr(self, name)(*map(int, numbers))

    def connectionLost(self, reason: Any = None) -> None:
        """The test has ended."""
        if reactor.running:
            reactor.stop()

    def begin(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self._begun[number] = recorded.in_progress(number, time.time() - 2.5)
            self._boots.add(self._begun[number])

    def finish(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            begun = self._begun.pop(number)
            self._boots.add(evolve(recorded.booted(number, begun.began), id=begun.id))

    def fail(self, number: int) -> None:
        self._boots.add(recorded.missing_kernel(number, time.time() - 9))

    def flood(self, count: int) -> None:
        for number in range(count):
            self._boots.add(recorded.in_progress(20_000 + number % 500, time.time() - 2.5))

    def appear(self) -> None:
        """The interface that is waited for: its sockets are bound."""
        self._service.appeared = True
        self._site.activity.observe(ReadinessChanged(reactor.seconds(), True))

    def multicast(self) -> None:
        """An image that is sent to many machines, and one that is uploaded."""
        image = {"image": "win11.img", "method": "multicast", "address": "239.192.1.2", "port": 21700}
        counts = {"size": 22_000_000, "receivers": 10, "joined": 12, "completed": 2, "sent": 11_000_000, "wanted": 0}
        self._service.images = ({**image, **counts, "loss": 0.0213, "rate": 62_500_000.0},)
        upload = {"image": "rescue.ndz", "client": "10.77.0.9", "state": "receiving"}
        self._service.uploads = ({**upload, "received": 3_000_000, "size": 5_000_000},)
        self._site.activity.observe(ReadinessChanged(reactor.seconds(), True))

    def transfers(self, rate: int) -> None:
        """Transfers of the last minutes, in bytes per second, and some that run."""
        now = reactor.seconds()
        for ago in range(280, 0, -1):
            height = rate * (0.35 + 0.65 * abs(((ago * 7) % 97) / 97 - 0.4)) * (1 if ago % 90 > 22 else 0.05)
            request = TransferRequest("initrd.img", "initrd.img", ("10.77.0.9", ago), protocol="http")
            report = TransferReport(
                request, Agreed(), Outcome.COMPLETE, "", round(height), 1, 0, now - ago, now - ago + 1
            )
            self._boots.publish(TransferEnded(now, report))
        for port in range(7):
            request = TransferRequest("initrd.img", "initrd.img", ("10.77.0.9", port), protocol="http")
            self._boots.publish(TransferBegun(now, request, Agreed()))


class WaitingService(BootService):
    """A service whose interface appears when the test says so, as this process may create none; and the same for images
    that are sent and uploaded."""

    appeared = False
    images: tuple[dict[str, Any], ...] = ()
    uploads: tuple[dict[str, Any], ...] = ()

    def images_sent(self) -> list[dict[str, Any]]:
        return list(self.images)

    def images_uploaded(self) -> list[dict[str, Any]]:
        return list(self.uploads)

    @property
    def ready(self) -> bool:
        return self.appeared or super().ready

    def sockets(self) -> tuple[SocketStatus, ...]:
        statuses = super().sockets()
        return tuple(evolve(each, state="bound", reason="") for each in statuses) if self.appeared else statuses


def main() -> None:
    state = sys.argv[1]
    now = time.time()
    recordings: Mapping[str, Iterable[BootAttempt]] = {
        "empty": (),
        "waiting": (),
        "busy": recorded.busy(now),
        "failing": recorded.failing(now),
        "many": recorded.ten_thousand(now),
    }
    boots = RecordedBoots({boot.id: boot for boot in recordings[state]})
    subnets: Any = [Subnet(network="127.0.0.0/8", pool=["127.77.0.1 - 127.77.255.254"])]
    settings = Settings(
        interfaces=["eth99"] if state == "waiting" else (),
        tftp=TFTPSettings(listen=["0.0.0.0:0" if state == "waiting" else "127.0.0.1:0"]),
        dhcp=DHCPSettings(
            mode="off" if state == "waiting" else "server",
            server_port=free_port(),
            boot_server_port=free_port(),
            client_port=free_port(),
            probe_seconds=0,
            subnets=() if state == "waiting" else subnets,
        ),
    )
    store = store_with_leases({"empty": 0, "many": 2000}.get(state, 40))
    files = WithImages({"install.ipxe": b"#!ipxe\n"})
    resolvers = [boots, NextBoot()]
    service = WaitingService(reactor, settings=settings, backend=files, resolvers=resolvers, store=store, orders=store)
    site = add_web(reactor, service, WebSettings(listen=["127.0.0.1:0"], token=recorded.TOKEN))
    service.startService()
    commands = Commands(boots, site, service)
    StandardIO(commands)
    if state == "busy":
        commands.transfers(60_000_000)
    (port,) = [row.address[1] for row in service.summary() if row.service == "web"]
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
