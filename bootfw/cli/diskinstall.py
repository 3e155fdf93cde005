"""The program of the receiver system: writes a disk image to the disk of the machine that it runs on.

receiversystem.py puts it into an initial RAM disk, so it imports no part of the server.
"""

import os
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit

from attrs import define, field, frozen

from bootfw.cli.failure import CommandError
from bootfw.cli.imagereceiver import Output, find_transmission, receive
from bootfw.errors import BootfwError
from bootfw.frisbee.digests import SUFFIX, Digests
from bootfw.frisbee.reception import Reception
from bootfw.terminal import escape_unencodable
from bootfw.wire.frisbeemaster import PORT

PATIENCE = 60.0
"""Seconds without a packet of the server after which a reception has failed."""

PAUSE = 30.0
"""Seconds until the next try."""

_WAIT_FOR_DISK = 30.0
"""Seconds: controllers find their disks one after the other."""

_REPORT_INTERVAL = 10.0
"""Seconds between two reports of the progress."""

_TIMEOUT = 10.0
"""Seconds for a request by HTTP."""

_REPORT_TRIES = 5


@frozen
class Order:
    """The image to install, its disk, and the machine, from the arguments of the kernel."""

    url: str
    """Of the image, on the server that sends it: ``http://10.77.0.1:8069/images/win11~5ac0ed11.img``."""
    disk: str = ""
    """The block device; "": the first disk."""
    mac: str = ""
    """Of the network card that the machine has booted from; "": the server finds it by the address."""

    @classmethod
    def of(cls, arguments: str) -> "Order":
        """Return the order in *arguments*: ``bootfw.image``, ``bootfw.disk`` and ``BOOTIF``.

        :raise CommandError: they name no image.
        """
        values = dict(word.partition("=")[::2] for word in arguments.split())
        url = values.get("bootfw.image", "")
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise CommandError(f'the kernel needs the argument bootfw.image=URL, not "{url}"; bootfw install adds it')
        # PXELINUX's form, 01-52-54-00-12-34-56: the type of the hardware, and the address.
        mac = ":".join(values.get("BOOTIF", "").split("-")[1:])
        return cls(url, values.get("bootfw.disk", ""), mac)

    @property
    def server(self) -> str:
        """The host of the server."""
        return urlsplit(self.url).hostname or ""

    @property
    def image(self) -> str:
        """The name of the image on the server."""
        return unquote(urlsplit(self.url).path).lstrip("/")

    def report_url(self, path: str, report: str = "") -> str:
        """Return the URL that sends *report*, what has happened, to the server."""
        parts = urlsplit(self.url)
        query = "&".join(f"{key}={quote(value)}" for key, value in (("mac", self.mac), ("what", report)) if value)
        return f"{parts.scheme}://{parts.netloc}/bootfw/{path}?{query}"


def first_disk(block: Path = Path("/sys/block")) -> str:
    """Return the first disk in the order of the names, neither removable nor at USB; "": there is none.

    :param block: of sysfs; Documentation/ABI/stable/sysfs-block of Linux.
    """
    for disk in sorted(block.iterdir()):
        if not (disk / "device").exists() or "/usb" in os.path.realpath(disk):
            continue
        if any(_text(disk / name) == "1" for name in ("removable", "ro", "hidden")) or _text(disk / "size") == "0":
            continue
        return f"/dev/{disk.name.replace('!', '/')}"
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@define(eq=False)
class Installation:
    """The installation that an order asks for.

    :param find_disk: returns the first disk; "": there is none.
    :param say: takes lines for the console.
    """

    order: Order
    port: int = PORT
    patience: float = PATIENCE
    find_disk: Callable[[], str] = first_disk
    say: Callable[[str], None] = print
    sleep: Callable[[float], None] = time.sleep
    _resumes: bool = field(default=False, init=False)
    """Whether the disk may have chunks of the image, from an attempt that has failed. The first attempt does not look
    for them, which would read the whole disk."""
    _reported: float = field(default=0.0, init=False)
    """When the progress was reported last."""

    def attempt(self) -> str:
        """Write the image, and report to the server how it went.

        :return: why it has failed; "": the disk has the image.
        """
        try:
            disk = self.order.disk or self._first_disk()
            reception = self._write(disk)
        except (BootfwError, OSError) as error:
            self.say(f"{self.order.image}: {error}")
            self._report("failed", str(error))
            return str(error)
        self.say(f"{disk} has {self.order.image}: {reception.size} bytes, {reception.repeated} blocks twice")
        for _ in range(_REPORT_TRIES):
            if self._report("up"):
                break
            self.sleep(2.0)
        return ""

    def _first_disk(self) -> str:
        until = time.monotonic() + _WAIT_FOR_DISK
        while not (disk := self.find_disk()):
            if time.monotonic() >= until:
                raise CommandError("this machine has no disk; bootfw.disk=/dev/NAME names one")
            self.sleep(1.0)
        return disk

    def _write(self, disk: str) -> Reception:
        order = self.order
        digests = Digests.parse(_content(f"{order.url}{SUFFIX}"))
        with closing(Output(disk)) as output:
            output.fit(digests.size)
            have = frozenset(output.stored(digests)) if self._resumes else frozenset[int]()
            self._resumes = True
            self.say(f"{order.image} to {disk}: {len(digests.chunks) - len(have)} of {len(digests.chunks)} MiB")
            transmission = find_transmission(order.server, self.port, order.image, self.patience)

            def show(reception: Reception) -> None:
                self._show(disk, reception)

            reception = receive(transmission, output, digests, have, self.patience, show)
            output.flush()
        return reception

    def _show(self, disk: str, reception: Reception) -> None:
        now = time.monotonic()
        if now - self._reported < _REPORT_INTERVAL or not reception.chunks:
            return
        self._reported = now
        text = f"{100 * reception.stored // reception.chunks} % of {reception.size / 1e6:.0f} MB are on {disk}"
        self.say(text)
        # In a thread: blocks arrive while the server is slow to answer, and the socket's buffer would overflow.
        Thread(target=self._report, args=("installing", text), daemon=True).start()

    def _report(self, path: str, message: str = "") -> bool:
        try:
            with urllib.request.urlopen(self.order.report_url(path, message), timeout=_TIMEOUT):
                return True
        except OSError:
            return False


def _content(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            content: bytes = answer.read()
            return content
    except HTTPError as error:
        raise CommandError(f"{url}: {error.code} {error.reason}") from None
    except OSError as error:
        raise CommandError(f"{url}: {getattr(error, 'reason', error)}") from None


def main() -> int:
    """Install what the kernel's arguments say, or report why that is not possible. Returns the exit code."""
    escape_unencodable()
    try:
        installation = Installation(Order.of(Path("/proc/cmdline").read_text()))
    except (BootfwError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    while installation.attempt():
        time.sleep(PAUSE)
    return 0
