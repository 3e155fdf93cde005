"""One try of a boot, in a lab of its own, with packet loss or without."""

import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from bootfw.attempts.attempt import BootAttempt, Verdict
from bootfw.attempts.record import attempt_of
from bootfw.cli.boots import timeline
from bootfw.cli.running import RunningServer
from bootfw.config.state import CONTROL_SOCKET

from ..lab import Host, Lab, wait_until
from .boots import Boot
from .files import SERVER, SERVER6, Served
from .servers import Task, bootfw, start_address_server, start_address_server6, start_router

_TIME_FACTORS = {0: 1.0, 2: 2.0, 5: 3.0}
"""Percent of loss -> how many times as long a boot may take: timeouts of firmware are seconds."""

_ALARM = re.compile(r"boot \S+ .*: failed after .*")
"""A line of bootfw's log."""


class Failed(Exception):
    """The machine did not boot; says how far it came."""


def try_boot(boot: Boot, start_server: Callable[[Lab, Host, Task], None], lab: Lab, scratch: Path, loss: int) -> float:
    """Seconds from power-on to the proof.

    :param scratch: takes what is served.
    :param loss: percent of the frames, in either direction.
    :raises Failed: when there is no proof within the boot's time.
    """
    served = Served(scratch / "served", f"marker-{secrets.token_hex(8)}")
    served.root.mkdir()
    task = Task(served.root, boot.prepare(served), boot.proxy, boot.ipv6)
    if boot.proxy:
        start_address_server(lab)
    if boot.ipv6:
        if start_server is bootfw:
            start_address_server6(lab)
        start_server(lab, lab.host("server", f"{SERVER6}/64"), task)
    else:
        start_server(lab, lab.host("server", f"{SERVER}/24"), task)
        start_router(lab)
    if loss:
        lab.lose(loss)
    began = time.monotonic()
    consoles = [boot.start(lab) for _ in range(boot.machines)]
    limit = boot.seconds * _TIME_FACTORS[loss]

    def proofs() -> int:
        return sum(served.marker in console.output for console in consoles)

    def is_over() -> bool:
        return proofs() == len(consoles) or all(console.exit_code is not None for console in consoles)

    try:
        wait_until(is_over, limit, "the markers on the consoles")
    except TimeoutError:
        raise Failed(f"{proofs()} of {len(consoles)} booted within {limit:.0f} s") from None
    seconds = time.monotonic() - began
    if proofs() < len(consoles):
        raise Failed(f"switched itself off after {seconds:.0f} s")
    if not loss:
        # Firmware that gets no system in the end goes on, and keeps a core busy until there is a verdict. On a link
        # that loses packets the last ACK may be sent again.
        for console in consoles:
            console.stop()
    if start_server is bootfw:
        for attempt in verdicts(lab, boot.machines):
            if attempt.verdict is not Verdict.BOOTED:
                raise Failed(f"a false alarm:\n{timeline(attempt)}")
        if alarms := [line for program in lab.programs for line in _ALARM.findall(program.output)]:
            raise Failed(f"a false alarm that was corrected later: {alarms[0]}")
    return seconds


def verdicts(lab: Lab, machines: int = 1, seconds: float = 150) -> list[BootAttempt]:
    """bootfw's records of the boots in *lab*, once each has a verdict.

    :param seconds: when the last ACK of the last file is lost, the transfer runs for a minute.
    """
    server = RunningServer(lab.directory / "state" / CONTROL_SOCKET)

    def finished_attempts() -> list[BootAttempt]:
        attempts = [attempt_of(record) for record in server.call("boots")]
        detailed = [
            attempt_of(record) for attempt in attempts for record in server.call("boot", machine=attempt.client)
        ]
        is_over = len(detailed) >= machines and all(each.verdict is not Verdict.IN_PROGRESS for each in detailed)
        return detailed if is_over else []

    try:
        return wait_until(finished_attempts, seconds, "the verdicts")
    except TimeoutError:
        raise Failed("there is no verdict") from None
