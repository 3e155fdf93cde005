"""``bootfw receive``: receives an image by multicast, and writes it to a disk. Also the main module of the script that
receivescript.py makes: it imports nothing of the server."""

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bootfw.cli.failure import CommandError
from bootfw.cli.imagereceiver import Output, Transmission, find_transmission, receive
from bootfw.errors import BootfwError
from bootfw.frisbee.digests import Digests
from bootfw.frisbee.reception import Reception
from bootfw.terminal import StatusLine, escape_unencodable
from bootfw.wire.frisbee import CHUNK_SIZE
from bootfw.wire.frisbeemaster import PORT

_ABOUT = """
Receives an image that a server of frisbee's protocol sends, bootfw or Emulab's frisbeed, together with any number of
other machines, and writes it to a file or a block device while it arrives. With digests each chunk is verified before
it is written, and a reception that broke off goes on where it was.
"""

_EXAMPLES = """
Examples:
  bootfw receive debian.img --server 10.77.0.1 -o /dev/sda
  bootfw receive debian.img --server 10.77.0.1 -o /dev/sda --digests http://10.77.0.1/debian.img.chunks --resume
  bootfw receive debian.img --group 239.192.1.2:1283 -o debian.img      the server has no master server
  bootfw receive --write-script receive.pyz                             one file for an initramfs with Python
  bootfw receive --write-system /srv/boot/images/receiver               what bootfw install needs for disk images

Exit codes: 0 received, 1 not.
"""

_SHOW_INTERVAL = 10.0
"""Seconds between two lines where the standard error is no terminal."""


def add_receive(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "receive",
        help="receive an image by multicast and write it to a disk",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser)
    parser.add_argument(
        "--write-script", metavar="FILE", help="write this command as one file, which runs with nothing but Python 3.11"
    )
    parser.add_argument(
        "--write-system",
        metavar="DIRECTORY",
        help="write a kernel and an initial RAM disk, by which bootfw install writes disk images to machines",
    )
    parser.add_argument(
        "--kernel", default="", metavar="VERSION", help="the kernel of --write-system; default: the newest in /boot"
    )
    parser.set_defaults(run=_run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", default="", metavar="IMAGE", help="its name on the server")
    parser.add_argument("-o", "--output", metavar="FILE", help="the file or block device to write to")
    parser.add_argument("--server", metavar="HOST", help=f"the server; HOST:PORT if its port is not {PORT}")
    parser.add_argument("--group", metavar="ADDRESS:PORT", help="where the image is sent, without asking the server")
    parser.add_argument("--digests", metavar="FILE", help="a file or URL with the digests of the image")
    parser.add_argument("--resume", action="store_true", help="receive only what FILE does not have; needs --digests")
    parser.add_argument("--sha256", default="", metavar="HEX", help="verify all of it once more, as read from FILE")
    parser.add_argument(
        "--patience", type=float, default=60.0, metavar="SECONDS", help="give up when the server is silent so long: 60"
    )


def _run(arguments: argparse.Namespace) -> int:
    if arguments.write_script is not None:
        from bootfw.cli.receivescript import write_script

        write_script(arguments.write_script)
        return 0
    if arguments.write_system is not None:
        from bootfw.cli.receiversystem import write_system

        directory = Path(arguments.write_system)
        kernel, warnings = write_system(directory, arguments.kernel)
        for line in warnings:
            sys.stderr.write(f"mkinitramfs: {line}\n")
        sys.stdout.write(f"{directory}: a receiver of disk images with Linux {kernel}\n")
        return 0
    return _receive(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit code."""
    escape_unencodable()
    parser = argparse.ArgumentParser(
        "receive", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_arguments(parser)
    try:
        return _receive(parser.parse_args(argv))
    except (BootfwError, OSError) as error:
        sys.stderr.write(f"receive: {error}\n")
        return 1


def _receive(arguments: argparse.Namespace) -> int:
    if not arguments.image or not arguments.output:
        raise CommandError("name an image, and where to write it: IMAGE -o FILE")
    if (arguments.server is None) == (arguments.group is None):
        raise CommandError("say where the image comes from: --server or --group")
    if arguments.resume and arguments.digests is None:
        raise CommandError("--resume needs --digests, to find what FILE has")
    digests = None if arguments.digests is None else Digests.parse(_load(arguments.digests))
    with closing(Output(arguments.output)) as output:
        have: frozenset[int] = frozenset()
        if arguments.resume and digests is not None:
            have = frozenset(output.stored(digests))
            sys.stderr.write(f"{arguments.output} has {len(have)} of {len(digests.chunks)} chunks\n")
        progress = _Progress(arguments.image)
        reception = receive(_transmission(arguments), output, digests, have, arguments.patience, progress.show)
        output.flush()
        progress.end(reception)
        if arguments.sha256:
            _verify(output, reception.size, arguments.sha256)
    return 0


def _transmission(arguments: argparse.Namespace) -> Transmission:
    if arguments.server is not None:
        host, colon, port = arguments.server.partition(":")
        return find_transmission(host, _number(port) if colon else PORT, arguments.image, arguments.patience)
    address, _, port = arguments.group.rpartition(":")
    try:
        transmission = Transmission(address, _number(port))
        _ = transmission.is_group
    except ValueError:
        raise CommandError(
            f'--group is an address and a port, such as 239.192.1.2:1283, not "{arguments.group}"'
        ) from None
    return transmission


def _number(port: str) -> int:
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CommandError(f'"{port}" is no port: 1 to 65535')
    return int(port)


def _load(location: str) -> bytes:
    if not location.startswith(("http://", "https://")):
        with open(location, "rb") as file:
            return file.read()
    import urllib.request  # a third of a second, and not needed for files

    with urllib.request.urlopen(location, timeout=60) as answer:
        content: bytes = answer.read()
        return content


def _verify(output: Output, size: int, expected: str) -> None:
    """Verify the content of *output*.

    :raise CommandError: it has another digest.
    """
    digest = hashlib.sha256()
    for number in range(-(-size // CHUNK_SIZE)):
        digest.update(output.chunk(number, min(CHUNK_SIZE, size - number * CHUNK_SIZE)))
    if digest.hexdigest() != expected.lower():
        raise CommandError(f"{output.path} has the SHA-256 digest {digest.hexdigest()}, not {expected.lower()}")


class _Progress:
    """Shows how much has come: in one line of a terminal, or in a line now and then."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._line = StatusLine()
        self._began = self._shown_at = time.monotonic()

    def show(self, reception: Reception) -> None:
        """Show it, if it is time."""
        now = time.monotonic()
        text = self._text(reception, now)
        self._line.show(text)
        if now - self._shown_at >= _SHOW_INTERVAL and not sys.stderr.isatty():
            self._shown_at = now
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def end(self, reception: Reception) -> None:
        """Say how it went."""
        self._line.clear()
        seconds = time.monotonic() - self._began
        sys.stdout.write(
            f"{self._image}: {reception.size} bytes in {seconds:.1f} s, {reception.repeated} blocks twice\n"
        )

    def _text(self, reception: Reception, now: float) -> str:
        if not reception.chunks:
            return f"{self._image}: waiting for the server"
        rate = reception.received / 1024 / max(now - self._began, 0.1)
        share = 100 * reception.stored // reception.chunks
        return f"{self._image}: {share} % of {reception.size / 1e6:.0f} MB, {rate:.1f} MiB/s"
