"""Runs a storm: spreads its machines over processes, one for each core, and collects their results."""

import multiprocessing
import os
import random
import uuid
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, ip_address
from multiprocessing.connection import Connection, wait

from attrs import frozen

from bootfw.storm.driver import Driver, Effort, Outcome, Progress
from bootfw.storm.lab import Lab, die_with_parent
from bootfw.storm.machine import SimulatedMachine
from bootfw.storm.messages import Identity
from bootfw.storm.scenario import Scenario
from bootfw.storm.sockets import StormError

_LOOPBACK = IPv4Network("127.0.0.0/8")


@frozen
class Target:
    """The servers of a storm, and where its packets may go."""

    interface: str = ""
    """Where DHCP messages are broadcast; "": there is no DHCP."""
    server: str = ""
    """The TFTP server of boots without DHCP."""
    file: str = ""
    """The boot file of boots without DHCP: a path, or a URL."""
    lab: Lab | None = None
    """The namespaces to be in; None: that of this process."""
    allowed: tuple[IPv4Network, ...] = ()
    """Networks that packets may go to, beside loopback and that of *lab*."""

    def check_allowed(self, address: str) -> None:
        """Check that packets may go to *address*.

        :raise StormError: they may not.
        """
        networks = (_LOOPBACK, *self.allowed, *((self.lab.network,) if self.lab is not None else ()))
        try:
            found = ip_address(address)
        except ValueError:
            raise StormError(f"the server {address!r} is no IPv4 address") from None
        if not isinstance(found, IPv4Address) or not any(found in network for network in networks):
            raise StormError(f"nothing is sent to {address}: it is not on loopback; allow it with --allow {address}")


def machines_of(scenario: Scenario, target: Target) -> list[tuple[int, SimulatedMachine, float]]:
    """Return (number, machine, when it is switched on in seconds from the start) of every machine, by time."""
    storm = scenario.storm
    chance = random.Random(storm.seed)
    found = []
    for number, arrival in enumerate(storm.arrivals.times(storm.machines, storm.seed)):
        # The bit 0x02 marks a locally administered MAC: no real machine has it from its manufacturer.
        mac = bytes((0x02, 0x5B, storm.seed & 0xFF, number >> 16 & 0xFF, number >> 8 & 0xFF, number & 0xFF))
        identity = Identity(mac, str(uuid.UUID(int=chance.getrandbits(128), version=4)))
        address = ""
        if not target.interface:
            address = str(_LOOPBACK[0x10000 + number])
        machine = SimulatedMachine(
            identity, scenario.boot_of(number), scenario.programs, target.server, address, target.file, number
        )
        found.append((number, machine, arrival))
    return found


def run(
    scenario: Scenario, target: Target, processes: int = 0, progress: Callable[[Progress], None] = lambda progress: None
) -> tuple[list[Outcome], list[Effort]]:
    """Run the storm; return the results of its machines, and the load of each process.

    :param processes: 0: one for each core.
    :param progress: called a few times a second with the sum of all processes.
    :raise StormError: it can't begin, or packets may not go to a server that a reply has named.
    """
    needs_dhcp = any(step.do == "dhcp" for share in scenario.shares for step in scenario.boots[share.boot].steps)
    if needs_dhcp and not target.interface:
        raise StormError("these boots begin with DHCP, which needs an interface: see --interface and --lab")
    if not needs_dhcp and not target.file:
        raise StormError("these boots need the name of a file: see --file")
    machines = machines_of(scenario, target)
    count = min(processes or len(os.sched_getaffinity(0)), len(machines))
    context = multiprocessing.get_context("fork")
    pipes: list[Connection] = []
    workers = []
    for at in range(count):
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(
            target=_run_process, args=(machines[at::count], scenario, target, theirs, os.getpid()), daemon=True
        )
        worker.start()
        theirs.close()
        workers.append(worker)
        pipes.append(ours)
    try:
        return _gather(pipes, progress)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _run_process(
    machines: Sequence[tuple[int, SimulatedMachine, float]],
    scenario: Scenario,
    target: Target,
    pipe: Connection,
    parent: int,
) -> None:
    """Boot *machines* in this process. Send to *pipe*: Progress, and at last (outcomes, effort), or the text of an
    error."""
    die_with_parent(parent)
    try:
        if target.lab is not None:
            target.lab.machines.enter()
        storm = scenario.storm
        driver = Driver(machines, target.interface, target.check_allowed, storm.link, storm.seed)
        try:
            pipe.send(driver.run(storm.seconds, pipe.send))
        finally:
            driver.close()
    except StormError as error:
        pipe.send(str(error))
    except OSError as error:
        pipe.send(f"{error.strerror or error}; a storm with DHCP needs root")


def _gather(pipes: Sequence[Connection], progress: Callable[[Progress], None]) -> tuple[list[Outcome], list[Effort]]:
    outcomes: list[Outcome] = []
    efforts: list[Effort] = []
    latest: dict[Connection, Progress] = {}
    waiting = list(pipes)
    while waiting:
        for pipe in wait(waiting):
            assert isinstance(pipe, Connection)
            try:
                received = pipe.recv()
            except EOFError:
                raise StormError("a process of the simulator has ended early") from None
            if isinstance(received, str):
                raise StormError(received)
            if isinstance(received, Progress):
                latest[pipe] = received
                progress(_sum(list(latest.values())))
            else:
                outcomes += received[0]
                efforts.append(received[1])
                waiting.remove(pipe)
    return sorted(outcomes, key=lambda outcome: outcome.number), efforts


def _sum(parts: Sequence[Progress]) -> Progress:
    stages: dict[str, int] = {}
    for part in parts:
        for name, count in part.stages:
            stages[name] = stages.get(name, 0) + count
    return Progress(
        sum(part.waiting for part in parts),
        tuple(stages.items()),
        sum(part.booted for part in parts),
        sum(part.failed for part in parts),
    )
