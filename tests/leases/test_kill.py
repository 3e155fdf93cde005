"""kill -9 at any moment: what was reported durable is there, whole, and everything goes on."""

import multiprocessing
import multiprocessing.forkserver
import os
import random
import sys
import time

import committing
import pytest

from bootfw.leases.leasefile import LeaseFile

KILLS = 200
LIFE = 0.12
"""Seconds that a process has at the most; starting and making the file are a part of that."""


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["committing"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # without it nothing is preloaded (CPython gh-117378)
        multiprocessing.forkserver.ensure_running()
    return context


def killed(processes, path, first, life):
    """Let a process commit and kill it; the numbers of the commits that it was told to be durable."""
    ours, its = processes.Pipe(duplex=False)
    process = processes.Process(target=committing.commit_for_ever, args=(path, first, its))
    process.start()
    its.close()
    time.sleep(life)
    process.kill()
    process.join()
    reported = []
    try:
        while True:
            reported.append(ours.recv())
    except EOFError:
        ours.close()
    return reported


def test_nothing_reported_durable_is_lost_and_nothing_is_torn(processes, tmp_path):
    killed(processes, tmp_path / "first" / "leases.sqlite", 0, 1)  # the fork server imports
    chance = random.Random(7)
    turn, durable, total, files = 0, {}, 0, 0
    for kill in range(KILLS):
        if kill % 20 == 0:
            files, durable = files + 1, {}
        path = tmp_path / str(files) / "leases.sqlite"
        reported = killed(processes, path, turn, chance.uniform(0, LIFE))
        total += len(reported)
        for number in reported:
            durable.update((lease.address, number) for lease in committing.leases_of(number))
        if not path.exists():
            assert not durable
            continue
        file = LeaseFile.open(path)
        kept = {lease.address: lease for lease in file.leases()}
        file.close()
        for address, number in durable.items():
            assert kept[address].granted >= number
        for address, lease in kept.items():
            assert lease == committing.lease_of(int(lease.granted), address)
            assert lease in committing.leases_of(int(lease.granted))
        turn = int(max([turn, *reported, *(lease.granted for lease in kept.values())])) + 1
    assert total > 10 * KILLS
