"""Messages to a service manager, received on real sockets."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import capturedLogs, formatEvent

from bootfw.net.linux.notifysocket import NotifySocket


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """(NOTIFY_SOCKET, the socket where the messages arrive)."""
    name = f"{tmp_path}/notify" if request.param == "path" else f"@bootfw-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0") if name.startswith("@") else name)
        receiver.settimeout(10)
        yield name, receiver


def test_messages_are_received_by_the_service_manager(manager: tuple[str, socket.socket]) -> None:
    name, receiver = manager
    notify_socket = NotifySocket(name)
    notify_socket.ready()
    assert receiver.recv(4096) == f"READY=1\nMAINPID={os.getpid()}".encode()
    notify_socket.notify(STATUS="serving tftp")
    assert receiver.recv(4096) == b"STATUS=serving tftp"
    notify_socket.stopping()
    assert receiver.recv(4096) == b"STOPPING=1\nSTATUS=stopping"


def test_reload_message_has_the_monotonic_time(manager: tuple[str, socket.socket]) -> None:
    """systemd compares it with the time of its own request (Type=notify-reload)."""
    name, receiver = manager
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    NotifySocket(name).reloading()
    first, _, microseconds = receiver.recv(4096).partition(b"\nMONOTONIC_USEC=")
    assert first == b"RELOADING=1"
    assert before <= int(microseconds) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_the_variables_are_read_and_removed() -> None:
    environ = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    notify_socket = NotifySocket.from_environ(environ)
    assert notify_socket is not None
    assert (notify_socket.address, notify_socket.watchdog) == ("/run/n", 30)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "5000", "WATCHDOG_PID": "1"},
    ],
)
def test_watchdog_of_another_process_or_none_is_ignored(variables: dict[str, str]) -> None:
    notify_socket = NotifySocket.from_environ({"NOTIFY_SOCKET": "@n", **variables})
    assert notify_socket is not None
    assert notify_socket.watchdog is None


@pytest.mark.parametrize("variables", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:9999"}])
def test_no_service_manager_without_notify_socket(variables: dict[str, str]) -> None:
    assert NotifySocket.from_environ({**variables, "WATCHDOG_USEC": "5"}) is None


def test_unreachable_service_manager_is_logged_once(tmp_path: Path) -> None:
    notify_socket = NotifySocket(f"{tmp_path}/nothing")
    with capturedLogs() as logs:
        notify_socket.ready()
        notify_socket.stopping()
    assert [formatEvent(event) for event in logs] == [
        f"the service manager can't be notified at {tmp_path}/nothing: [Errno 2] No such file or directory"
    ]


def test_service_manager_that_does_not_read_does_not_block_the_server(manager: tuple[str, socket.socket]) -> None:
    """The queue of a UNIX socket has net.unix.max_dgram_qlen messages, 10 to 512."""
    notify_socket = NotifySocket(manager[0])
    with capturedLogs() as logs:
        for _ in range(2000):
            notify_socket.notify(WATCHDOG="1")
    assert len(logs) == 1
