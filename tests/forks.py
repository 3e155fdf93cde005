"""Servers and commands that are forks of a process which has imported bootfw: they start in a fifth of the CPU time.

So are the workers of these servers. From there on it is the same program. Tests that are about starting or installing
run the real one; workers that are real programs are in net/test_workers.py, test_systemd.py and test_supervision.py.
"""

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ONE_PROCESSOR = ("taskset", "--cpu-list", str(secrets.choice(sorted(os.sched_getaffinity(0)))))
"""Followed by a command: on one processor a server has no workers, unless its configuration says how many.

Tests of workers configure their number.
"""
WORKER_NAME = "bootfw.cli.work"
"""/proc/PID/comm of a worker that is a fork."""
SHOWING = Path(__file__).parent / "web" / "showing.py"
_PROGRAMS = {
    str(Path(sys.executable).parent / "twistd"): "twisted.scripts.twistd:run",
    str(Path(sys.executable).parent / "bootfw"): "bootfw.cli.main:main",
    str(SHOWING): "web.showing:main",
}
_WORKER = "bootfw.cli.worker"
_REACTOR = "twisted.internet.reactor"
_IMPORT_IT = ("bootfw.tap", _WORKER)
"""These modules import the reactor, and each process needs its own."""
_NAMESPACES = Path("/run/netns")
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36  # <sys/prctl.h>
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWNET = 0x20000, 0x4000000, 0x40000000  # <sched.h>
_MS_REC, _MS_SLAVE = 0x4000, 1 << 19  # <sys/mount.h>
_MESSAGE = 65536
_MOST_STREAMS = 16
_ABOVE_STREAMS = 64
"""A descriptor that no process starts with."""
_libc = ctypes.CDLL(None, use_errno=True)


def can_fork(command: Sequence[str]) -> bool:
    """Whether Fork can run this command: it is one of _PROGRAMS, maybe on ONE_PROCESSOR."""
    return any(word in _PROGRAMS for word in _split_processors(command)[1][:1])


def _split_processors(command: Sequence[str]) -> tuple[list[int], list[str]]:
    """The processors that a command runs on, and the command itself."""
    words = [os.fspath(word) for word in command]
    count = len(ONE_PROCESSOR)
    if tuple(words[:count]) == ONE_PROCESSOR:
        return [int(ONE_PROCESSOR[-1])], words[count:]
    return sorted(os.sched_getaffinity(0)), words


class Fork(subprocess.Popen[bytes]):
    """A process like that of Popen, forked instead of executed.

    :param command: one for which can_fork() is true.
    :param namespace: the name of the network namespace that it runs in, as by ``ip netns exec``.
    :param beside: a process whose mount namespace and directory it has, as by ``nsenter --mount --wd``.
    :param first: a shell command that runs before, in its namespaces.
    :param hostname: "": that of the machine.
    :param killed_with_parent: it is killed when the test process is.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        namespace: str = "",
        beside: int = 0,
        first: str = "",
        hostname: str = "",
        killed_with_parent: bool = False,
        **options: Any,
    ) -> None:
        self._request = {
            "namespace": namespace,
            "beside": beside,
            "first": first,
            "hostname": hostname,
            "killed_with_parent": killed_with_parent,
        }
        super().__init__(command, **options)

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        _close_fds, _pass_fds, cwd, env, _, _, _, *pipes = rest[:13]
        stdin_read, _, _, stdout_write, _, stderr_write = pipes
        streams = [
            stream if stream != -1 else number for number, stream in enumerate((stdin_read, stdout_write, stderr_write))
        ]
        processors, command = _split_processors(args)
        request = {
            **self._request,
            "command": command,
            "directory": os.fspath(cwd or os.getcwd()),
            "environment": dict(os.environ if env is None else env),
            "processors": processors,
        }
        self.pid = _server().fork(request, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class _Server:
    """The process that forks, seen from the test process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        atexit.register(self.stop)

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        """The number of the new process, a child of this one."""
        return _fork_by(self._socket, request, streams)

    def stop(self) -> None:
        self._socket.close()
        self._process.wait()


_servers: dict[int, _Server] = {}


def _server() -> _Server:
    """The server of this test process."""
    if os.getpid() not in _servers:
        _servers[os.getpid()] = _Server()
    return _servers[os.getpid()]


def _fork_by(server: socket.socket, request: dict[str, Any], streams: Sequence[int]) -> int:
    with _adopting():
        socket.send_fds(server, [json.dumps(request).encode()], streams)
        answer = server.recv(_MESSAGE)
    if not answer:
        raise OSError("the process that forks has ended")
    return int(answer)


@contextmanager
def _adopting() -> Iterator[None]:
    """While in this context, processes whose parent ends become children of this one."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _import_all() -> None:
    import twisted.internet.epollreactor
    import twisted.scripts.twistd  # noqa: F401

    import bootfw

    for module in pkgutil.walk_packages(bootfw.__path__, "bootfw."):
        if module.name not in _IMPORT_IT and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert _REACTOR not in sys.modules


def _serve(requests: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork a process for each request. Returns in each of them: (the request, its streams)."""
    tester = os.getppid()
    while True:
        message, streams, _, _ = socket.recv_fds(requests, _MESSAGE, _MOST_STREAMS)
        if not message:
            os._exit(0)
        reading, writing = os.pipe()
        intermediate = os.fork()
        if intermediate:
            # The intermediate process ends, so its child has another parent; then the test process goes on.
            os.waitpid(intermediate, 0)
            requests.send(os.read(reading, 100))
            for descriptor in (*streams, writing, reading):
                os.close(descriptor)
            continue
        intermediate_pid = os.getpid()
        child = os.fork()
        if child:
            os.write(writing, b"%d" % child)
            os._exit(0)
        os.close(writing)
        os.close(reading)
        requests.close()
        while os.getppid() == intermediate_pid:
            time.sleep(0.001)
        assert os.getppid() == tester
        return json.loads(message), list(streams)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Set the process up as Popen, ``setpriv`` and ``ip netns exec`` do for a program."""
    _use_streams(dict(enumerate(streams)))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    os.setsid()
    # nohup ignores SIGHUP, a shell ignores SIGINT for background jobs.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["killed_with_parent"]:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if request["namespace"]:
        _enter(_NAMESPACES / request["namespace"])
    if request["hostname"]:
        _check_result(_libc.unshare(_CLONE_NEWUTS), "unshare")
        socket.sethostname(request["hostname"])
    if request["first"]:
        subprocess.run(["sh", "-c", request["first"]], check=True)
    os.sched_setaffinity(0, request["processors"])
    os.chdir(request["directory"])
    if request["beside"]:
        _join(request["beside"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = request["command"]


def _use_streams(streams: dict[int, int]) -> None:
    """Keep these descriptors only: number -> the present descriptor."""
    moved = {number: fcntl.fcntl(stream, fcntl.F_DUPFD, _ABOVE_STREAMS) for number, stream in streams.items()}
    os.closerange(0, _ABOVE_STREAMS)
    for number, stream in moved.items():
        os.dup2(stream, number)
        os.close(stream)
    # The old objects remember whether they were terminals, and their position.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _fork_workers() -> None:
    """Fork a child of this process, a server, as it is now; from then on its workers are forks of that child."""
    from twisted.internet.process import Process

    server, (ours, theirs) = os.getpid(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # it ends after the server
            signal.signal(number, signal.SIG_IGN)
        _use_streams({**dict.fromkeys(range(3), os.open(os.devnull, os.O_RDWR)), 3: theirs.detach()})
        _become_worker(*_serve(socket.socket(fileno=3)))
        sys.exit(importlib.import_module(_WORKER).main())
    theirs.close()
    execute: Any = Process._fork

    def fork(
        self: Any, path: Any, uid: Any, gid: Any, program: Any, args: Any, environment: Any, **options: Any
    ) -> None:
        words = [os.fsdecode(word) for word in args]
        # twistd may have gone to the background as another process.
        if words[1:] != ["-m", _WORKER] or os.getpid() != server:
            execute(self, path, uid, gid, program, args, environment, **options)
            return
        streams = options["fdmap"]
        request = {
            "command": words,
            "numbers": list(streams),
            "environment": {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()},
            "directory": os.getcwd(),
            "user": [os.getuid(), os.getgid(), os.getgroups()],
            "open files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        }
        self.pid = _fork_by(ours, request, list(streams.values()))
        self.status = -1

    Process._fork = fork  # type: ignore[assignment,method-assign]


def _become_worker(request: dict[str, Any], streams: list[int]) -> None:
    """Set the process up as Twisted and ``python -m`` do for a worker."""
    _libc.prctl(_PR_SET_NAME, WORKER_NAME.encode(), 0, 0, 0)
    _use_streams(dict(zip(request["numbers"], streams, strict=True)))
    sys.stdin = None
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["open files"]))
    os.chdir(request["directory"])
    user, group, groups = request["user"]
    if os.getuid() != user:
        os.setgroups(groups)
        os.setgid(group)
        os.setuid(user)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = [os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.orig_argv = request["command"]
    sys.argv = request["command"][2:]


def _enter(namespace: Path) -> None:
    """Enter a network namespace, with its /sys, as ``ip netns exec`` does."""
    with open(namespace) as opened:
        _check_result(_libc.setns(opened.fileno(), _CLONE_NEWNET), "setns")
    _check_result(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check_result(_libc.mount(b"", b"/", b"none", _MS_SLAVE | _MS_REC, None), "mount /")
    _libc.umount2(b"/sys", 2)
    _check_result(_libc.mount(namespace.name.encode(), b"/sys", b"sysfs", 0, None), "mount /sys")


def _join(pid: int) -> None:
    """Enter the mount namespace of a process, and its directory there."""
    directory = os.open(f"/proc/{pid}/cwd", os.O_RDONLY | os.O_DIRECTORY)
    with open(f"/proc/{pid}/ns/mnt") as opened:
        _check_result(_libc.setns(opened.fileno(), _CLONE_NEWNS), "setns")
    os.fchdir(directory)
    os.close(directory)


def _check_result(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), call)


def main() -> None:
    _import_all()
    gc.freeze()  # so that the collector doesn't copy the pages that the forks share
    _become(*_serve(socket.socket(fileno=int(sys.argv[1]))))
    if Path(sys.argv[0]).name == "twistd" or sys.argv[1:2] == ["run"]:
        _fork_workers()
    module, _, function = _PROGRAMS[sys.argv[0]].partition(":")
    sys.exit(getattr(importlib.import_module(module), function)())


if __name__ == "__main__":
    main()
