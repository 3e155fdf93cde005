"""A thousand machines that are switched on in one second meet none of the limits for abuse."""

import random
import uuid
from pathlib import Path

from attrs import define, field
from storm.test_virtual_day import BOOTS, FILES, SERVER
from storm.virtualstorm import Tally, VirtualStorm
from zope.interface import implementer

from bootfw.backends.directory import DirectoryBackend
from bootfw.config.settings import BootsSettings, DHCPSettings, Settings
from bootfw.dhcp.subnet import Subnet
from bootfw.events import ClientsLimited, Event, EventsDropped, RequestsDropped
from bootfw.interfaces import IBootObserver
from bootfw.resolvers.static import StaticResolver
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.storm.messages import Identity
from bootfw.storm.scenario import read_scenario
from bootfw.testing import MemoryNetwork

MACHINES = 1000


@implementer(IBootObserver)
@define(eq=False)
class Limits:
    """Records the events that say that a limit was exceeded."""

    met: list[Event] = field(factory=list)

    def observe(self, event: Event) -> None:
        if isinstance(event, RequestsDropped | ClientsLimited | EventsDropped):
            self.met.append(event)


def test_a_storm_meets_no_limit(tmp_path: Path) -> None:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    network, limits, store, tally = MemoryNetwork(), Limits(), MemoryStore(), Tally()
    settings = Settings(
        boots=BootsSettings(keep=50),
        dhcp=DHCPSettings(
            mode="server",
            subnets=(Subnet(network="10.77.0.0/20", pool=["10.77.0.10-10.77.15.250"]),),
            probe_seconds=0.0,
        ),
    )
    service = BootService(
        network.host(SERVER, rich=True),
        settings=settings,
        backends=[DirectoryBackend(tmp_path)],
        resolvers=[StaticResolver("loader")],
        observers=[limits],
        store=store,
        attempts=store,
    )
    service.startService()
    network.advance(1)
    scenario, rng = read_scenario(), random.Random(1)
    machines = VirtualStorm(network, scenario.programs)
    for number in range(MACHINES):
        identity = Identity(b"\x02\x5b\0\0" + number.to_bytes(2, "big"), str(uuid.UUID(int=number)))
        boot = scenario.boots[BOOTS[number % len(BOOTS)]]
        machines.power_on(identity, boot, rng.getrandbits(32), tally)
        network.advance(1 / MACHINES)
    network.advance(300)
    network.result_of(service.stopService())
    assert (tally.booted, tally.failures) == (MACHINES, [])
    assert limits.met == []
