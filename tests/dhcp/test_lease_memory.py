"""The memory that a DHCP server needs for leases depends on the number of addresses, not on time."""

import gc
import sys

from attrs import evolve
from leasing import LEASE, Machine, server


def test_leases_that_expire_and_come_back_leave_nothing_behind() -> None:
    machines = [Machine(1, server())]
    machines += [evolve(machines[0], number=number) for number in (2, 3)]
    now = machines[0].now

    def blocks_after(boots: int) -> int:
        nonlocal now
        for number in range(boots):
            now += LEASE
            machine = machines[number % 3]
            machine.now = now
            machine.get_lease()
        gc.collect()
        return sys.getallocatedblocks()

    blocks_before = blocks_after(500)
    assert blocks_after(2000) - blocks_before < 500
