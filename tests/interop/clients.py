"""The command lines of real TFTP clients."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

from bootfw.values import Address

ROLLS_OVER = "34MB"
"""The file of more than 65,535 blocks of 512 bytes: the block number rolls over."""

FILES = {"empty": 0, "one-block": 512, "1MB": 1_000_000, ROLLS_OVER: 34_000_000}
"""The files that they fetch: name -> size in bytes."""

TEXT = "text"
"""The file to fetch in netascii."""

_Command = Callable[[Address, str, Path], list[str]]
"""(server, remote name, local path) -> a command line."""


@frozen
class Client:
    """A client program with its options."""

    name: str
    program: str
    get: _Command
    put: _Command | None = None


def _hpa(verb: str, *options: str) -> _Command:
    def command(server: Address, remote: str, local: Path) -> list[str]:
        names = [remote, str(local)] if verb == "get" else [str(local), remote]
        return ["tftp", *options, server[0], str(server[1]), "-c", verb, *names]

    return command


def _atftp(verb: str, **options: object) -> _Command:
    option_words = [word for name, value in options.items() for word in ("--option", f"{name} {value}")]

    def command(server: Address, remote: str, local: Path) -> list[str]:
        files = ["--remote-file", remote, "--local-file", str(local)]
        return ["atftp", "--tftp-timeout", "1", f"--{verb}", *option_words, *files, server[0], str(server[1])]

    return command


def _busybox(flag: str, blksize: int) -> _Command:
    def command(server: Address, remote: str, local: Path) -> list[str]:
        return ["busybox", "tftp", flag, "-b", str(blksize), "-r", remote, "-l", str(local), *map(str, server)]

    return command


def _url(server: Address, remote: str) -> str:
    host = f"[{server[0]}]" if ":" in server[0] else server[0]
    return f"tftp://{host}:{server[1]}/{remote}"


def _curl_get(server: Address, remote: str, local: Path) -> list[str]:
    return ["curl", "--silent", "--show-error", "--tftp-blksize", "1428", "--output", str(local), _url(server, remote)]


def _curl_put(server: Address, remote: str, local: Path) -> list[str]:
    return ["curl", "--silent", "--show-error", "--upload-file", str(local), _url(server, remote)]


def _tftpy(server: Address, remote: str, local: Path) -> list[str]:
    client = f"tftpy.TftpClient({server[0]!r}, {server[1]}, {{'blksize': 1428, 'tsize': 0}})"
    return [sys.executable, "-c", f"import tftpy; {client}.download({remote!r}, {str(local)!r})"]


HPA = Client("tftp-hpa", "tftp", _hpa("get", "-m", "binary"), _hpa("put", "-m", "binary"))
"""No options at all: blocks of 512 bytes, one by one."""

HPA_NETASCII = Client("tftp-hpa-netascii", "tftp", _hpa("get", "-m", "ascii"), _hpa("put", "-m", "ascii"))

ATFTP = Client("atftp", "atftp", _atftp("get", tsize=0, blksize=1428), _atftp("put", tsize=0, blksize=1428))

ATFTP_GIVES_UP = "unexpected OACK"
"""atftp ends with this when it gets an OACK twice, whether the server or the network repeated it."""

ATFTP_WINDOW = Client(
    "atftp-windowsize", "atftp", _atftp("get", blksize=1428, windowsize=16), _atftp("put", blksize=1428, windowsize=16)
)

ATFTP_LOCK_STEP = Client("atftp-lock-step", "atftp", _atftp("get", blksize=1428))

ATFTP_65464 = Client("atftp-65464", "atftp", _atftp("get", blksize=65464))
"""A block size that no Ethernet frame has room for; the server agrees to a smaller one."""

BUSYBOX = Client("busybox", "busybox", _busybox("-g", 1400), _busybox("-p", 1400))

BUSYBOX_GIVES_UP = "tftp: timeout"
"""busybox ends with this after 14 seconds without an answer. If the ACK that it lacks is the last one of an upload, its
exit code is 0 all the same."""

BUSYBOX_JUMBO = Client("busybox-jumbo", "busybox", _busybox("-g", 8192), _busybox("-p", 8192))
"""For links with an MTU of 9000."""

CURL = Client("curl", "curl", _curl_get, _curl_put)

CURL_WITHOUT_OPTIONS = Client("curl-no-options", "curl", lambda *args: [*_curl_get(*args), "--tftp-no-options"])
"""curl takes an acknowledged ``tsize`` of 0 for an illegal one, so this is how it fetches a file of 0 bytes."""

CURL_NOT_FOUND = 68
"""The exit code of curl for ERROR 1; its message may be one of getpeername() instead."""

TFTPY = Client("tftpy", getattr(find_spec("tftpy"), "origin", "tftpy"), _tftpy)
"""The client of a Python library, as its documentation has it."""

CLIENTS = [HPA, ATFTP, ATFTP_WINDOW, BUSYBOX, CURL, CURL_WITHOUT_OPTIONS]
