"""kill -9 at any moment: what was reported durable is there, whole, and everything goes on."""

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
"""Seconds that a process has at the most, from its start or, three times of four, from its first report."""


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


def killed(
    work: Callable[..., Any], processes: ForkServerContext, path: Path, number: int, turn: int, life: float
) -> list[Any]:
    """Let a process work and kill it; what it has sent."""
    ours, its = processes.Pipe(duplex=False)
    process = processes.Process(target=work, args=(path, turn, its))
    process.start()
    its.close()
    if number % 4:
        assert ours.poll(60)  # however slow the machine is
    time.sleep(life)
    process.kill()
    process.join()
    sent = []
    try:
        while True:
            sent.append(ours.recv())
    except EOFError:
        ours.close()
    return sent


def kept(path: Path) -> dict[str, Lease]:
    """What is in the file, by address."""
    if not path.exists():
        return {}
    file = StateFile.open(path)
    found = {lease.address: lease for lease in file.leases()}
    file.close()
    return found


def test_killed_server_loses_no_acknowledged_lease(processes: ForkServerContext, tmp_path: Path) -> None:
    chance = random.Random(8)
    path = tmp_path / "state" / "bootfw.sqlite"
    told: dict[int, str] = {}
    for kill in range(200):
        for client, address in killed(committing.serve_for_ever, processes, path, kill, kill, chance.uniform(0, LIFE)):
            assert told.setdefault(client, address) == address
        leases = kept(path)
        for client, address in told.items():
            assert leases[address].mac == committing.mac_of(client).hex(":")
        assert len({lease.client for lease in leases.values()}) == len(leases)
    assert len(set(told.values())) == len(told) > committing.CLIENTS / 4


def test_committed_data_survives_a_kill_complete(processes: ForkServerContext, tmp_path: Path) -> None:
    chance = random.Random(7)
    turn = 0
    durable: dict[str, int] = {}
    total = 0
    for kill in range(50):
        if kill % 10 == 0:
            path = tmp_path / str(kill) / "bootfw.sqlite"
            durable = {}
        reported: list[int] = killed(committing.commit_for_ever, processes, path, kill, turn, chance.uniform(0, LIFE))
        total += len(reported)
        for number in reported:
            durable.update((lease.address, number) for lease in committing.leases_of(number))
        leases = kept(path)
        for address, number in durable.items():
            assert leases[address].granted >= number
        for address, lease in leases.items():
            assert lease == committing.lease_of(int(lease.granted), address)
            assert lease in committing.leases_of(int(lease.granted))
        turn = int(max([turn, *reported, *(lease.granted for lease in leases.values())])) + 1
    assert total > 30
