"""A TFTP server whose replies are those of a test's function."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bootfw.wire import tftp

Answer = Callable[[tftp.Packet], list[bytes]]


@contextmanager
def scripted_server(answer: Answer) -> Iterator[int]:
    """Runs a TFTP server on the loopback address that sends the replies which *answer* returns; yields its port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(10)

    def serve() -> None:
        while True:
            data, peer = sock.recvfrom(2000)
            if not data:
                return
            for reply in answer(tftp.parse(data)):
                sock.sendto(reply, peer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"", sock.getsockname())
        thread.join()
        sock.close()
