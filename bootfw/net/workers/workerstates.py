"""A worker as a table: its process is started, gets its sockets, serves, loads configurations, and is replaced when it
ends or hangs."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.net.draining import DRAIN_WITHIN
from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore, illegal

EARLY_EXIT = 10.0
"""Seconds. A process that ends sooner after its start is replaced after a wait, which grows with each one."""
MAX_WAIT = 30.0
"""Seconds between two starts, at most."""

PREPARE_WITHIN = 120.0
"""Seconds that a process has to load its configuration and its plugins, before it is killed and replaced. Its
reactor does not run meanwhile."""

DRAIN_AFTER = 5.0
"""Seconds from the start of a process. If the interim server still has transfers that it can't hand over, it accepts no
new ones from now on."""
HAND_OVER_AFTER = 60.0
"""Seconds from the start of a process. The interim server hands over now, and such transfers are lost."""
CHECK_INTERIM_EVERY = 0.02
"""Seconds between two looks at the transfers of the interim server."""

HEARTBEAT_EVERY = 1.0
"""Seconds between two heartbeats of a process that serves."""
SILENT_AFTER = 10.0
"""Seconds without a heartbeat, after which a process is silent."""
KILL_AFTER = 5.0
"""Seconds that a silent process has for a heartbeat, before it is killed and replaced.

When all processes were stopped for a while (SIGSTOP, a frozen virtual machine), the deadline has passed before the next
heartbeat can be sent and read.
"""

EXIT_WITHIN = 5.0
"""Seconds that a process has to tell the clients of its transfers and to end, before it is killed."""


class State(Key):
    """What a worker does."""

    STOPPED = "stopped"
    """There is no process, and none is wanted."""
    SCHEDULED = "scheduled"
    """There is no process; one is created at the deadline."""
    STARTING = "starting"
    """The process loads its configuration and its plugins."""
    READY = "ready"
    """The process can serve, but the interim server still has transfers that it can't hand over."""
    SERVING = "serving"
    """The process has its sockets."""
    LOADING = "loading"
    """The process has its sockets, and loads another configuration, which blocks its reactor."""
    SILENT = "silent"
    """The process has its sockets, and sends no heartbeat."""
    OVERDUE = "overdue"
    """The process did not become ready in time, or sent no heartbeat, and is killed."""
    DISCONNECTED = "disconnected"
    """The process has closed its end of the pipe, so it is about to end."""
    STOPPING = "stopping"
    """The pipe to the process is closed, so that it ends."""


_HAVE_SOCKETS = State.SERVING, State.LOADING, State.SILENT


class Input(Key):
    """What can happen to a worker."""

    START = "start"
    """The service starts."""
    SPAWN_FAILED = "spawn failed"
    """The process can't be created. The argument says why."""
    PREPARED = "prepared"
    """The process reports that it can serve."""
    BUSY = "busy"
    """After CHECK_INTERIM: the interim server has transfers that it can't hand over."""
    FREE = "free"
    """After CHECK_INTERIM: it has none, or there is no interim server."""
    LOAD = "load"
    """The process is sent another configuration, to load it."""
    LOADED = "loaded"
    """The process reports that it has loaded another configuration, can't load it, or has forgotten it."""
    HEARTBEAT = "heartbeat"
    """The process reports that its reactor runs."""
    DISCONNECTED = "disconnected"
    """The pipe to the process is closed."""
    EXITED = "exited"
    """The process has ended. The argument says why."""
    TICK = "tick"
    """The deadline has passed."""
    STOP = "stop"
    """The service stops."""


class Do(Enum):
    """The actions that the supervisor has to carry out."""

    SPAWN = "spawn"
    """Create the process; then SPAWN_FAILED if that fails."""
    CHECK_INTERIM = "check interim"
    """Look at the interim server's transfers; then BUSY or FREE."""
    DRAIN = "drain"
    """Make the interim server accept no new transfers."""
    BEGIN = "begin"
    """Stop the interim server, and send the process what it needs to serve and to continue transfers."""
    REPORT = "report"
    """Publish that the worker was lost, for ``reason``."""
    FINISH = "finish"
    """Tell the process to wait for its transfers before it ends, DRAIN_WITHIN seconds at most."""
    CLOSE = "close"
    """Close the pipe to the process, which tells it to end."""
    KILL = "kill"
    """Kill the process."""
    STOPPED = "stopped"
    """The stop is complete."""


@goes(State.SCHEDULED)
def schedule(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Create the process in a turn of the reactor, and not before its first one.

    Until the reactor handles SIGTERM, the signal would end this process alone, and its workers would hold their sockets
    while a server that is started next can't open them.
    """
    worker.deadline = now
    return State.SCHEDULED


@goes(State.STARTING)
def start(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Create the process."""
    worker.started, worker.deadline = now, now + PREPARE_WITHIN
    worker.out.append(Do.SPAWN)
    return State.STARTING


@goes(State.SCHEDULED)
def restart(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Report the loss. Start again at once, or after a wait if this has happened soon after several starts."""
    worker.failures = worker.failures + 1 if now - worker.started < EARLY_EXIT else 0
    # The first early exit may be an accident, so it costs no wait. The second one waits 1 s, the next 2 s, and so on.
    wait = min(2.0 ** (worker.failures - 2), MAX_WAIT) if worker.failures > 1 else 0.0
    worker.deadline = now + wait
    worker.reason = argument
    worker.out.append(Do.REPORT)
    return State.SCHEDULED


@goes(State.SCHEDULED)
def not_started(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Start again after a wait. Report a reason once: it may last, as a limit of the system does."""
    # Compared first: restart() sets the reason.
    is_repeated = worker.reason == argument
    restart(worker, argument, now)
    if is_repeated:
        worker.out.remove(Do.REPORT)
    return State.SCHEDULED


@goes(State.READY)
def prepared(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Look whether the interim server can hand over."""
    worker.deadline = None
    worker.out.append(Do.CHECK_INTERIM)
    return State.READY


@goes(State.READY, State.SERVING)
def wait_for_transfers(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Look again soon; drain the interim server after a while, and in the end hand over all the same."""
    waited = now - worker.started
    if waited >= HAND_OVER_AFTER:
        return begin(worker, argument, now)
    if waited > DRAIN_AFTER:
        worker.out.append(Do.DRAIN)
    worker.deadline = now + CHECK_INTERIM_EVERY
    return State.READY


@goes(State.SERVING)
def begin(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Give the process its sockets. It has the time of a start until its first heartbeat."""
    worker.heard, worker.deadline = now, now + PREPARE_WITHIN
    worker.out.append(Do.BEGIN)
    return State.SERVING


@goes(State.SERVING)
def alive(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Wait for the next heartbeat."""
    worker.heard, worker.deadline = now, now + SILENT_AFTER
    return State.SERVING


@goes(State.LOADING)
def load(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Give the process the time of a start."""
    worker.deadline = now + PREPARE_WITHIN
    return State.LOADING


@goes(State.SILENT)
def silent(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Give the process a little more time: perhaps all processes were stopped."""
    worker.deadline = now + KILL_AFTER
    return State.SILENT


@goes(State.DISCONNECTED)
def disconnected(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Send nothing more, and give the process time to end."""
    worker.deadline = now + EXIT_WITHIN
    return State.DISCONNECTED


@goes(State.OVERDUE)
def give_up(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Kill the process, which has not become ready in time: a plugin may wait for something that never comes."""
    worker.reason = f"it was not ready within {PREPARE_WITHIN:.0f} s"
    # No process survives SIGKILL, so EXITED follows without a deadline.
    worker.deadline = None
    worker.out.append(Do.KILL)
    return State.OVERDUE


@goes(State.OVERDUE)
def kill_silent(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Kill the process, which hangs: it may be stopped, or a plugin or the disk blocks its reactor."""
    worker.reason = f"it was killed, since it had sent no heartbeat for {now - worker.heard:.0f} s"
    worker.deadline = None
    worker.out.append(Do.KILL)
    return State.OVERDUE


@goes(State.SCHEDULED)
def restart_overdue(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Report the loss, and why the process was killed. Start again at once."""
    return restart(worker, worker.reason, now)


@goes(STAY)
def kill(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Kill the process, which has not ended in time."""
    worker.deadline = None
    worker.out.append(Do.KILL)
    return worker.state


@goes(State.STOPPING)
def stop_now(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Tell the process to end, and kill it in the next turn: it has no transfers, and while it loads plugins it reads
    nothing."""
    worker.deadline = now
    worker.out.append(Do.CLOSE)
    return State.STOPPING


@goes(State.STOPPING)
def stop(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Tell the process to end, which gives it time for its transfers."""
    worker.deadline = now + DRAIN_WITHIN + EXIT_WITHIN
    worker.out += [Do.FINISH, Do.CLOSE]
    return State.STOPPING


@goes(State.STOPPING)
def await_exit(worker: "WorkerStates", argument: Any, now: float) -> State:
    """Wait for the process, which is about to end already."""
    return State.STOPPING


@goes(State.STOPPED)
def stopped(worker: "WorkerStates", argument: Any, now: float) -> State:
    """The process has ended, so the stop is complete."""
    worker.deadline = None
    worker.out.append(Do.STOPPED)
    return State.STOPPED


# Twisted reports the exit of a process after everything that it has written and after its pipes, so nothing follows.
TABLE: Table = {
    State.STOPPED: {
        Input.START: schedule,
        Input.SPAWN_FAILED: illegal,
        Input.PREPARED: illegal,
        Input.BUSY: illegal,
        Input.FREE: illegal,
        Input.LOAD: illegal,
        Input.LOADED: illegal,
        Input.HEARTBEAT: illegal,
        Input.DISCONNECTED: illegal,
        Input.EXITED: illegal,
        Input.TICK: illegal,
        Input.STOP: ignore,
    },
    State.SCHEDULED: {
        Input.START: illegal,
        Input.SPAWN_FAILED: illegal,
        Input.PREPARED: illegal,
        Input.BUSY: illegal,
        Input.FREE: illegal,
        Input.LOAD: illegal,
        Input.LOADED: illegal,
        Input.HEARTBEAT: illegal,
        Input.DISCONNECTED: illegal,
        Input.EXITED: illegal,
        Input.TICK: start,
        Input.STOP: stopped,
    },
    State.STARTING: {
        Input.START: illegal,
        Input.SPAWN_FAILED: not_started,
        Input.PREPARED: prepared,
        Input.BUSY: illegal,
        Input.FREE: illegal,
        Input.LOAD: illegal,
        Input.LOADED: illegal,
        # A process sends its first heartbeat when it has its sockets.
        Input.HEARTBEAT: illegal,
        Input.DISCONNECTED: disconnected,
        Input.EXITED: restart,
        Input.TICK: give_up,
        Input.STOP: stop_now,
    },
    State.READY: {
        Input.START: illegal,
        Input.SPAWN_FAILED: illegal,
        Input.PREPARED: ignore,
        Input.BUSY: wait_for_transfers,
        Input.FREE: begin,
        Input.LOAD: illegal,
        Input.LOADED: illegal,
        Input.HEARTBEAT: illegal,
        Input.DISCONNECTED: disconnected,
        Input.EXITED: restart,
        # Every CHECK_INTERIM_EVERY seconds until the interim server can hand over.
        Input.TICK: prepared,
        Input.STOP: stop_now,
    },
    State.SERVING: {
        Input.START: illegal,
        Input.SPAWN_FAILED: illegal,
        Input.PREPARED: ignore,
        Input.BUSY: illegal,
        Input.FREE: illegal,
        Input.LOAD: load,
        # It was sent a configuration before its sockets, or has forgotten one.
        Input.LOADED: ignore,
        Input.HEARTBEAT: alive,
        Input.DISCONNECTED: disconnected,
        Input.EXITED: restart,
        Input.TICK: silent,
        Input.STOP: stop,
    },
    State.LOADING: {
        Input.START: illegal,
        Input.SPAWN_FAILED: illegal,
        Input.PREPARED: ignore,
        Input.BUSY: illegal,
        Input.FREE: illegal,
        Input.LOAD: load,
        Input.LOADED: alive,
        # The message was written before the process read of the configuration.
        Input.HEARTBEAT: ignore,
        Input.DISCONNECTED: disconnected,
        Input.EXITED: restart,
        Input.TICK: silent,
        Input.STOP: stop,
    },
    State.SILENT: {
        Input.START: illegal,
        Input.SPAWN_FAILED: illegal,
        Input.PREPARED: ignore,
        Input.BUSY: illegal,
        Input.FREE: illegal,
        Input.LOAD: load,
        Input.LOADED: alive,
        Input.HEARTBEAT: alive,
        Input.DISCONNECTED: disconnected,
        Input.EXITED: restart,
        Input.TICK: kill_silent,
        Input.STOP: stop,
    },
    State.OVERDUE: {
        Input.START: illegal,
        Input.SPAWN_FAILED: illegal,
        # Such messages were written before the process was killed.
        Input.PREPARED: ignore,
        Input.BUSY: illegal,
        Input.FREE: illegal,
        Input.LOAD: illegal,
        Input.LOADED: ignore,
        Input.HEARTBEAT: ignore,
        Input.DISCONNECTED: ignore,
        Input.EXITED: restart_overdue,
        Input.TICK: illegal,
        Input.STOP: await_exit,
    },
    State.DISCONNECTED: {
        Input.START: illegal,
        Input.SPAWN_FAILED: illegal,
        # The message was written to the other pipe before that pipe was closed.
        Input.PREPARED: ignore,
        Input.BUSY: illegal,
        Input.FREE: illegal,
        Input.LOAD: illegal,
        Input.LOADED: ignore,
        Input.HEARTBEAT: ignore,
        Input.DISCONNECTED: illegal,
        Input.EXITED: restart,
        Input.TICK: kill,
        Input.STOP: await_exit,
    },
    State.STOPPING: {
        Input.START: illegal,
        Input.SPAWN_FAILED: illegal,
        Input.PREPARED: ignore,
        Input.BUSY: illegal,
        Input.FREE: illegal,
        Input.LOAD: illegal,
        Input.LOADED: ignore,
        Input.HEARTBEAT: ignore,
        # CLOSE has closed the pipe.
        Input.DISCONNECTED: ignore,
        Input.EXITED: stopped,
        Input.TICK: kill,
        Input.STOP: ignore,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class WorkerStates(Machine):
    """The states of one worker, over all its processes."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.STOPPED)
    deadline: float | None = field(default=None, init=False)
    """When to give TICK, in seconds of the clock; None: never."""
    started: float = field(default=0.0, init=False)
    """When the latest process was created."""
    heard: float = field(default=0.0, init=False)
    """When the process began to serve, or when its latest heartbeat came."""
    failures: int = field(default=0, init=False)
    """How many processes in a row have ended soon after their start."""
    reason: str = field(default="", init=False)
    """Why the latest process was lost, or is killed."""

    @property
    def has_sockets(self) -> bool:
        """Whether the process has its sockets, and takes messages."""
        return self.state in _HAVE_SOCKETS
