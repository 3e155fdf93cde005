"""Writes docs/state-machines.md: every state machine, drawn from its table.

``python -m bootfw.cli.statemachines > docs/state-machines.md``
"""

import sys
from collections.abc import Sequence
from enum import Enum

from attrs import frozen

from bootfw import leadershipstates, servicestates
from bootfw.attempts import attemptstates
from bootfw.boot import resolutionstates
from bootfw.frisbee import reception, upload
from bootfw.frisbee import session as frisbee
from bootfw.net import bindingstates, controlstates
from bootfw.net.http import downloadstates
from bootfw.net.tftp import listenerstates, transferstates
from bootfw.net.udp import portstates
from bootfw.net.workers import workerstates
from bootfw.observe import deliverystates
from bootfw.storm import machine as simulated
from bootfw.table import Table, drawing
from bootfw.tftp import multicast, read, write


@frozen
class Drawn:
    """One machine."""

    title: str
    module: str
    table: Table
    initial: Sequence[Enum]


MACHINES = (
    Drawn("ReadSession: we send a file", "tftp/read", read.TABLE, (read.State.NEGOTIATING, read.State.FETCHING)),
    Drawn("WriteSession: we receive a file", "tftp/write", write.TABLE, (write.State.NEGOTIATING,)),
    Drawn("Session: an image is sent to many", "frisbee/session", frisbee.TABLE, (frisbee.State.WAITING,)),
    Drawn("Reception: an image is received", "frisbee/reception", reception.TABLE, (reception.State.JOINING,)),
    Drawn("UploadSession: an image is uploaded", "frisbee/upload", upload.TABLE, (upload.State.CONNECTING,)),
    Drawn(
        "MulticastSession: we send a file to a group",
        "tftp/multicast",
        multicast.TABLE,
        (multicast.State.IDLE,),
    ),
    Drawn(
        "TransferStates: the end of a TFTP transfer",
        "net/tftp/transferstates",
        transferstates.TABLE,
        (transferstates.State.RUNNING,),
    ),
    Drawn(
        "ListenerStates: a TFTP listener",
        "net/tftp/listenerstates",
        listenerstates.TABLE,
        (listenerstates.State.STOPPED,),
    ),
    Drawn(
        "DeliveryStates: the requests of a webhook",
        "observe/deliverystates",
        deliverystates.TABLE,
        (deliverystates.State.IDLE,),
    ),
    Drawn("PortStates: a UDP port", "net/udp/portstates", portstates.TABLE, (portstates.State.CLOSED,)),
    Drawn(
        "DownloadStates: an HTTP download",
        "net/http/downloadstates",
        downloadstates.TABLE,
        (downloadstates.State.OPENING,),
    ),
    Drawn(
        "ResolutionStates: a boot file that resolvers have not found at once",
        "boot/resolutionstates",
        resolutionstates.TABLE,
        (resolutionstates.State.CALLING,),
    ),
    Drawn(
        "WorkerStates: a process that serves files",
        "net/workers/workerstates",
        workerstates.TABLE,
        (workerstates.State.STOPPED,),
    ),
    Drawn(
        "ControlStates: a connection to the control socket",
        "net/controlstates",
        controlstates.TABLE,
        (controlstates.State.RECEIVING,),
    ),
    Drawn(
        "AttemptStates: a boot attempt",
        "attempts/attemptstates",
        attemptstates.TABLE,
        (attemptstates.State.PROVISIONAL,),
    ),
    Drawn(
        "BindingStates: a socket that a service wants",
        "net/bindingstates",
        bindingstates.TABLE,
        (bindingstates.State.WAITING,),
    ),
    Drawn("ServiceStates: a BootService", "servicestates", servicestates.TABLE, (servicestates.State.STOPPED,)),
    Drawn(
        "LeadershipStates: a node of several that share a store",
        "leadershipstates",
        leadershipstates.TABLE,
        (leadershipstates.State.STANDBY,),
    ),
    Drawn("SimulatedMachine: a client of bootfw storm", "storm/machine", simulated.TABLE, (simulated.State.OFF,)),
)


def machines() -> str:
    """docs/state-machines.md."""
    lines = [
        "# The state machines",
        "",
        "Drawn from their tables by `python -m bootfw.cli.statemachines > docs/state-machines.md`. A test fails when",
        "this file is not what that prints.",
        "",
    ]
    for machine in MACHINES:
        lines += [
            f"## {machine.title}",
            "",
            f"`bootfw/{machine.module}.py`",
            "",
            drawing(machine.table, machine.initial),
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(machines())
