"""``bootfw images``: lists, adds and removes images of operating systems."""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bootfw.attempts.attempt import Verdict
from bootfw.attempts.record import attempt_of
from bootfw.backends.imagelibrary.backend import KEPT, ImagesBackend
from bootfw.backends.imagelibrary.library import Library, OSImage
from bootfw.backends.imagelibrary.plannedboot import PREFIX
from bootfw.backends.menucontents import amount
from bootfw.cli.addimage import add_image, remove_image, remove_old_directories
from bootfw.cli.assembly import Assembly
from bootfw.cli.failure import CommandError
from bootfw.cli.running import RunningServer, ServerEnded
from bootfw.cli.statedir import running, state_of
from bootfw.cli.tables import table
from bootfw.config import defaults
from bootfw.config.configuration import Configuration, load_config
from bootfw.images.recipe import LOADERS
from bootfw.terminal import printable
from bootfw.wire.frisbeemaster import PORT

_ABOUT = """
Lists the images in the directories of the "images" backends: what each is, the firmware and processors that it runs
on, how it is booted, and the memory that a machine needs for it.
"""

_ADD = """
Copies or downloads an image to the directory of the images. If there is a checksum beside it (FILE.sha256, SHA256SUMS
and the like), it has to be right. The image is there as a whole or not at all, and takes the place of one with the same
name: machines that have begun to boot that one get the rest of it. Beside a disk image (.img, .raw) there are the
digests of its chunks then (.img.chunks): machines verify what they receive by them.
"""

_REMOVE = """
Removes an image from the directory of the images, and waits for the machines that have begun to boot it: they get the
rest of it. Ctrl-C ends the wait; they get it all the same.
"""

_EXAMPLES = """
Examples:
  bootfw images                       the images in /srv/boot/images
  bootfw images --json                with the kernels, initial RAM disks and arguments
  bootfw images add debian.iso        copy one, and verify it by SHA256SUMS beside it
  bootfw images remove debian         remove it
"""

_BOOTS = 1000
"""Most boots in progress that are looked at."""

_POLL = 1.0
"""Seconds between two looks."""

_FIRMWARE = {"bios": "BIOS", "efi": "UEFI"}

_LOADERS = {"ipxe": "iPXE", "grub": "GRUB", "pxelinux": "PXELINUX"}


def add_images(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "images",
        help="list, add and remove images of operating systems",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration of the server")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_list)
    verbs = parser.add_subparsers(title="what to do (list)", metavar="VERB")

    def verb(name: str, run: Any, text: str, description: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=description)
        added.add_argument("-c", "--config", metavar="FILE", default=argparse.SUPPRESS, help="as above")
        added.set_defaults(run=run)
        return added

    adding = verb("add", _add, "copy or download an image", _ADD)
    adding.add_argument("source", metavar="FILE|URL", help="an ISO image, a disk image, a tar or zip archive")
    adding.add_argument("--name", default="", help="of the image; default: that of the file, without its suffix")
    adding.add_argument("--keyring", metavar="FILE", help="of OpenPGP keys; one has to have signed it or its checksums")
    removing = verb("remove", _remove, "remove an image", _REMOVE)
    removing.add_argument("name", help="as it is listed")


def _list(options: argparse.Namespace) -> None:
    configuration = load_config(options.config, os.environ)
    library = library_of(Assembly(configuration))
    images = library.scan()
    if options.json:
        sys.stdout.write(
            json.dumps([_record(image, lacking(image, configuration)) for image in images], indent=2) + "\n"
        )
    elif images:
        rows = [("NAME", "WHAT", "RUNS ON", "BOOTED BY", "MEMORY"), *(_row(image) for image in images)]
        sys.stdout.write(table(rows) + "\n")
    else:
        sys.stdout.write(f"no images in {', '.join(map(str, library.roots))}\n")
    for image in images:
        reason = lacking(image, configuration)
        if reason and not options.json:
            verb = "installed" if image.is_disk else "booted"
            sys.stdout.write(f"{image.name}: can't be {verb}: {printable(reason)}\n")
    for problem in library.problems:
        sys.stderr.write(f"bootfw: {printable(problem)}\n")


def _add(options: argparse.Namespace) -> None:
    configuration = load_config(options.config, os.environ)
    library = library_of(Assembly(configuration))
    root = library.roots[0]
    keyring = Path(options.keyring) if options.keyring else None
    path = add_image(options.source, root, options.name, keyring, lambda line: _say(line))
    remove_old_directories(root, KEPT)
    image = next(image for image in Library(library.roots, library.catalogue).scan() if image.path == path)
    if reason := lacking(image, configuration):
        _say(f"{path}: can't be {'installed' if image.is_disk else 'booted'}: {reason}")
    else:
        _say(f"{path}: {image.title}, for {', '.join(runs_on(image))}")


def _remove(options: argparse.Namespace) -> None:
    configuration = load_config(options.config, os.environ)
    server = running(state_of(configuration))
    roots = library_of(Assembly(configuration)).roots
    if not any(remove_image(options.name, root) for root in roots):
        raise CommandError(f"there is no image {options.name} in {', '.join(map(str, roots))}")
    for root in roots:
        remove_old_directories(root, KEPT)
    if server is not None:
        _wait(server, options.name)


def _wait(server: RunningServer, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until no machine boots the image, as far as the server knows."""
    previous: list[str] = []
    while machines := booting(server, name):
        if machines != previous:
            previous = machines
            _say(f"waiting for {', '.join(machines)}")
            sys.stdout.flush()
        sleep(_POLL)


def booting(server: RunningServer, name: str) -> list[str]:
    """Return the machines whose boots are in progress and have loaded a file of an image."""
    of_image = re.compile(rf"{PREFIX}/{re.escape(name)}(/|~[0-9a-f]{{8}}(/|\.[^/]*$))")
    try:
        records = list(server.call("boots", verdict=Verdict.IN_PROGRESS.value, limit=_BOOTS))
        clients = dict.fromkeys(attempt_of(record).client for record in records)
        found = [attempt_of(record) for client in clients for record in server.call("boot", machine=client, limit=1)]
    except ServerEnded:
        return []
    return [
        attempt.client
        for attempt in found
        if attempt.verdict is Verdict.IN_PROGRESS
        and any(of_image.match(stage.data.get("file", "")) for stage in attempt.stages)
    ]


def _say(line: str) -> None:
    sys.stdout.write(f"{printable(line)}\n")


def library_of(assembly: Assembly) -> Library:
    """Return the images of a configuration.

    :raise CommandError: it has no backend for them.
    """
    backends = [backend for _, backend in assembly.parts.backends if isinstance(backend, ImagesBackend)]
    if not backends:
        if assembly.configuration.plugins.get("backend") is None:
            raise CommandError(
                f"there is no {defaults.ROOTS[0]}, in which images are by default: create it, or give a configuration "
                'with [[backend]] use = "images"'
            )
        raise CommandError(
            f'no images are served by {assembly.source}: add [[backend]] use = "images", root = "/srv/boot/images"'
        )
    return Library([backend.root for backend in backends], backends[0].library.catalogue)


def lacking(image: OSImage, configuration: Configuration) -> str:
    """Return why an image can't be booted, or the image of a disk can't be installed; "": it can."""
    if not image.is_disk or image.reason:
        return image.reason
    settings, source = configuration.settings, configuration.source or "the configuration"
    multicast = settings.multicast
    if not any(port == PORT for _, port in multicast.listen) or "multicast" not in multicast.methods:
        return f'machines receive it by multicast: set [multicast] listen = ["0.0.0.0:{PORT}"] in {source}'
    if not settings.http.listen and configuration.source:
        return f"machines load their receiver by HTTP: set [http] listen in {source}"
    return "" if image.digests else f"it has no digests: bootfw images add {image.path} makes them"


def _row(image: OSImage) -> tuple[str, ...]:
    memory = max((way.plan.memory for way in image.ways), default=0)
    loaders = {loader for way in image.ways for loader in way.plan.recipe.loaders}
    booted = "-"
    if image.ways:
        booted = "any" if loaders == set(LOADERS) else ", ".join(_LOADERS[one] for one in LOADERS if one in loaders)
        if any(way.plan.needs_http for way in image.ways):
            booted += ", HTTP"
    title = f"{image.title}, {amount(image.size)}" if image.is_disk else image.title or "unknown"
    return image.name, title, ", ".join(runs_on(image)) or "-", booted, _amount(memory)


def runs_on(image: OSImage) -> Sequence[str]:
    """Return what an image runs on: ``BIOS x86_64``."""
    found = [
        f"{_FIRMWARE[firmware]} {cpu}"
        for way in image.ways
        for firmware, cpu in (("bios", way.runs.bios), ("efi", way.runs.efi))
        if cpu
    ]
    return list(dict.fromkeys(found))


def _amount(memory: int) -> str:
    if not memory:
        return "-"
    return f"{memory / (1 << 30):.1f} GiB" if memory >= 1 << 30 else f"{memory / (1 << 20):.0f} MiB"


def _record(image: OSImage, reason: str) -> dict[str, Any]:
    return {
        "name": image.name,
        "path": str(image.path),
        "version": image.version,
        "bytes": image.size,
        "title": image.title,
        "family": image.family,
        "release": image.release,
        "runs_on": runs_on(image),
        "reason": reason,
        "boots": [
            {
                "kind": way.plan.recipe.kind,
                "bios": way.runs.bios,
                "efi": way.runs.efi,
                "kernel": way.plan.kernel,
                "initrd": list(way.plan.initrds),
                "named": dict(way.plan.named),
                "arguments": way.plan.arguments("{content}", "{image}", "{root}"),
                "loaders": list(way.plan.recipe.loaders),
                "needs_http": way.plan.needs_http,
                "memory": way.plan.memory,
                "unattended": way.plan.takes_answers,
            }
            for way in image.ways
        ],
    }
