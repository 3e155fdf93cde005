"""kill -9 at any moment: what was reported durable is in the file, complete, and the next process goes on."""

import multiprocessing
import multiprocessing.forkserver
import os
import random
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import committing
import pytest

from bootfw.lease import Lease
from bootfw.stores.statefile import StateFile

LIFE = 0.1
"""The longest life of a process in seconds, from its start or, three times of four, from its first report."""


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["committing"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # without it nothing is preloaded (CPython gh-117378)
        multiprocessing.forkserver.ensure_running()
    process = context.Process(target=committing.leases_of, args=(0,))  # all the imports are done when it is
    process.start()
    process.join()
    return context


def run_and_kill(
    work: Callable[..., Any], processes: ForkServerContext, path: Path, number: int, argument: int, seconds: float
) -> list[Any]:
    """Let a process work and kill it; returns what it has sent."""
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=work, args=(path, argument, sender))
    process.start()
    sender.close()
    if number % 4:
        assert receiver.poll(60)  # however slow the machine is
    time.sleep(seconds)
    process.kill()
    process.join()
    sent = []
    try:
        while True:
            sent.append(receiver.recv())
    except EOFError:
        receiver.close()
    return sent


def leases_in(path: Path) -> dict[str, Lease]:
    """The leases in the file, by address."""
    if not path.exists():
        return {}
    file = StateFile.open(path)
    found = {lease.address: lease for lease in file.leases()}
    file.close()
    return found


def test_killed_server_loses_no_acknowledged_lease(processes: ForkServerContext, tmp_path: Path) -> None:
    rng = random.Random(8)
    path = tmp_path / "state" / "bootfw.sqlite"
    acknowledged: dict[int, str] = {}
    for kill in range(200):
        for client, address in run_and_kill(
            committing.serve_for_ever, processes, path, kill, kill, rng.uniform(0, LIFE)
        ):
            assert acknowledged.setdefault(client, address) == address
        leases = leases_in(path)
        for client, address in acknowledged.items():
            assert leases[address].mac == committing.mac_of(client).hex(":")
        assert len({lease.client for lease in leases.values()}) == len(leases)
    assert len(set(acknowledged.values())) == len(acknowledged) > committing.CLIENTS / 4


def test_committed_data_survives_a_kill_complete(processes: ForkServerContext, tmp_path: Path) -> None:
    rng = random.Random(7)
    next_number = 0
    durable: dict[str, int] = {}
    total = 0
    for kill in range(50):
        if kill % 10 == 0:
            path = tmp_path / str(kill) / "bootfw.sqlite"
            durable = {}
        reported: list[int] = run_and_kill(
            committing.commit_for_ever, processes, path, kill, next_number, rng.uniform(0, LIFE)
        )
        total += len(reported)
        for number in reported:
            durable.update((lease.address, number) for lease in committing.leases_of(number))
        leases = leases_in(path)
        for address, number in durable.items():
            assert leases[address].granted >= number
        for address, lease in leases.items():
            assert lease == committing.lease_of(int(lease.granted), address)
            assert lease in committing.leases_of(int(lease.granted))
        next_number = int(max([next_number, *reported, *(lease.granted for lease in leases.values())])) + 1
    assert total > 30
