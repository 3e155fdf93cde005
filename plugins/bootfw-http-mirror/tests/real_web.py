"""The mirror and a real web server on the loopback interface, in a process of their own: python real_web.py DIRECTORY

Prints what was fetched and how the server answered, one line each.
"""

import sys
from pathlib import Path
from typing import Any

from bootfw_http_mirror.mirror import MirrorBackend
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import deferLater, react
from twisted.web.server import Site
from twisted.web.static import File

from bootfw.api import FileMissing


def print_line(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


class LoggingSite(Site):
    """Says the code of each answer."""

    def log(self, request: Any) -> None:
        print_line(request.path.decode(), request.code)


async def fetch(mirror: MirrorBackend, name: str) -> bytes:
    reader: Any = await maybeDeferred(mirror.open, name, None)
    data = bytearray()
    while True:
        chunk = reader.read(len(data), 1468)
        if not isinstance(chunk, bytes):
            chunk = await chunk
        if not chunk:
            break
        data += chunk
    reader.close()
    while mirror._downloads:
        await deferLater(mirror.reactor, 0.01)
    return bytes(data)


async def main(reactor: Any, directory: str) -> None:
    served, cache = Path(directory) / "served", Path(directory) / "cache"
    (served / "deep").mkdir(parents=True)
    kernel = bytes(range(256)) * 40_000
    (served / "deep" / "kernel").write_bytes(kernel)
    port = reactor.listenTCP(0, LoggingSite(File(str(served))), interface="127.0.0.1")
    mirror = MirrorBackend(reactor, f"http://127.0.0.1:{port.getHost().port}", cache, fresh_seconds=0)
    print_line(await fetch(mirror, "deep/kernel") == kernel)
    print_line(await fetch(mirror, "deep/kernel") == kernel)
    try:
        await fetch(mirror, "absent")
    except FileMissing:
        print_line("missing")
    await port.stopListening()
    print_line(await fetch(mirror, "deep/kernel") == kernel)


if __name__ == "__main__":
    react(main, sys.argv[1:])
