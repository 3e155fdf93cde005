"""``bootfw install``: makes machines install an image, once."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import PurePosixPath
from typing import Any

from attrs import frozen

from bootfw.ability import provides
from bootfw.backends.imagelibrary.backend import ImagesBackend
from bootfw.backends.imagelibrary.library import OSImage
from bootfw.backends.imagelibrary.menuimages import WIMBOOT
from bootfw.backends.menu import MenuBackend
from bootfw.backends.template import SUFFIX
from bootfw.cli.assembly import Assembly
from bootfw.cli.failure import CommandError
from bootfw.cli.hostvalues import text_value
from bootfw.cli.images import lacking, library_of
from bootfw.cli.installprogress import Installation, follow
from bootfw.cli.machinenames import HELP, machine_mac
from bootfw.cli.machines import machines_of
from bootfw.cli.next import is_missing, needs_resolver, orders_of
from bootfw.cli.power import power_of
from bootfw.cli.running import RunningServer
from bootfw.cli.statedir import add_state_options
from bootfw.config.configuration import load_config
from bootfw.errors import PowerError
from bootfw.interfaces import IChainAware, IPower
from bootfw.inventory import Selection
from bootfw.lease import mac_text
from bootfw.terminal import printable
from bootfw.tftp.path import relative
from bootfw.values import PowerAction

_ABOUT = """
Has a machine boot an image at its next boot, and not again: after that it boots as usual. With answers it installs
without questions. Without IMAGE, the image and the answers are those in the machine's host file. A disk image is sent
to all machines at once, by multicast, and written to the first disk of each.

While a server runs, it shows what the machines do: with answers, and with a disk image, until the system has requested
/bootfw/up, else until the installer has been loaded. Ctrl-C ends the display, not the installation.
"""

_EXAMPLES = """
Examples:
  bootfw install 52:54:00:12:34:56 debian-12                            boot the installer, once
  bootfw install 52:54:00:12:34:56 debian-12 --answers preseed.cfg      install without questions
  bootfw install 52:54:00:12:34:56                                      as its host file says
  bootfw install web1 web2 web3 win11                                   write a disk image to three machines at once
  bootfw install --tag hall2 win11                                      to all machines with the tag hall2
  bootfw install --power 52:54:00:12:34:56                              and start it now, from the network
  bootfw install --no-wait 52:54:00:12:34:56                            order it, and don't wait for it
  bootfw show 52:54:00:12:34:56                                         what has become of it
  bootfw next --clear 52:54:00:12:34:56                                 cancel it

Exit codes: 0 installed, or ordered, 1 it can't be ordered, or a boot has failed, 130 interrupted.
"""


def add_install(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "install",
        help="have machines install an image, once",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("machines", nargs="*", metavar="MACHINE", help=f"{HELP}; several install the same image")
    # For the help: the machines take all words.
    parser.add_argument("image", nargs="?", default="", metavar="IMAGE", help="its name, as bootfw images lists it")
    parser.add_argument("--tag", default="", help="all machines with this tag, as bootfw machines lists them")
    parser.add_argument("--answers", default="", metavar="PATH", help="of the answers, as clients request it")
    parser.add_argument("--no-wait", action="store_true", help="only order it")
    parser.add_argument(
        "--power", action="store_true", help="start the machine from the network, by the power of its host file"
    )
    add_state_options(parser)
    parser.set_defaults(run=_install)


@frozen
class _Order:
    """The image that one machine installs, and how it is started."""

    mac: str
    image: OSImage
    answers: str
    """Their path; "": none."""
    power: "IPower | None"
    """By which it is started; None: it is not."""

    @property
    def file(self) -> str:
        """The script that the machine boots."""
        name = self.image.name
        return f"install/{name}/{self.answers}.ipxe" if self.answers else f"install/{name}.ipxe"

    @property
    def phones_home(self) -> bool:
        """Whether it reports the end of the installation."""
        return bool(self.answers) or self.image.is_disk


def _install(options: argparse.Namespace) -> int:
    configuration = load_config(options.config, os.environ)
    assembly = Assembly(configuration)
    needs_resolver(configuration)
    _needs_dhcp(assembly)
    # The images are examined once, however many machines there are.
    installable = cache(partial(installable_image, assembly))
    targets = [_order_for(mac, image, assembly, options, installable) for mac, image in _targets(assembly, options)]
    orders = orders_of(configuration, options, changes=True)
    ordered, failed = [], 0
    for each in targets:
        order = orders.order(each.mac, each.file)
        answers = f" with the answers {each.answers}" if each.answers else ""
        title = f"{printable(each.image.title)} ({each.image.name})"
        sys.stdout.write(f"{each.mac} boots {title} next, once{printable(answers)}\n")
        try:
            _start(each)
        except CommandError as error:
            sys.stderr.write(f"bootfw: {error}\n")
            failed += 1
        else:
            ordered.append(Installation(order, each.phones_home, each.image.is_disk, len(targets) > 1))
    if not ordered:
        return 1
    it, is_started = ("it", "it is being started") if len(ordered) == 1 else ("them", "they are being started")
    switch = is_started if options.power else f"switch {it} on"
    if options.no_wait or not isinstance(orders, RunningServer):
        hint = (
            f'"bootfw show {ordered[0].mac}" shows what has become of it'
            if len(ordered) == 1
            else "bootfw boots lists them"
        )
        sys.stdout.write(f"{switch}; {hint}\n")
        return 1 if failed else 0
    sys.stdout.write(f"{switch}\n")
    sys.stdout.flush()
    return follow(ordered, orders) or (1 if failed else 0)


def _targets(assembly: Assembly, options: argparse.Namespace) -> list[tuple[str, str]]:
    """Return each machine with the name of its image; "": the one that is set for it.

    :raise CommandError: there is no such machine.
    """
    names, image = list(options.machines), ""
    if (len(names) > 1 or options.tag) and names and _is_image(names[-1], assembly):
        image = names.pop()
    macs = [machine_mac(name, assembly) for name in names]
    if options.tag:
        tagged = machines_of(assembly, options).machines(Selection(tag=options.tag))
        macs += [record["mac"] for record in tagged if record["mac"]]
        if not tagged:
            raise CommandError(f'no machine has the tag "{options.tag}"')
    if not macs:
        raise CommandError("name a machine, or a tag of machines: bootfw install MACHINE IMAGE")
    return [(mac, image) for mac in dict.fromkeys(macs)]


def _is_image(name: str, assembly: Assembly) -> bool:
    """Return whether *name*, the last one, is that of an image: it is no machine, or there is an image of this name."""
    with suppress(ValueError):
        mac_text(name)
        return False
    backends = [backend for _, backend in assembly.parts.backends if isinstance(backend, ImagesBackend)]
    if any(name in backend.image_names() for backend in backends):
        return True
    try:
        machine_mac(name, assembly)
    except CommandError:
        return True
    return False


def _order_for(
    mac: str, name: str, assembly: Assembly, options: argparse.Namespace, installable: Callable[[str], OSImage]
) -> _Order:
    """Return the order for a machine.

    :raise CommandError: it can't be installed.
    """
    answers = options.answers
    if not name:
        host = assembly.host_files.of(mac)
        records = machines_of(assembly, options).machines(Selection(mac))
        name = records[0]["image"] if records else text_value(host, "image")
        answers = answers or text_value(host, "answers")
        if not name:
            raise CommandError(
                f'{mac}: give IMAGE, set one with "bootfw machines image", or write image = "NAME" into its host file'
            )
    image = installable(name)
    if any(way.plan.recipe.kind == "wimboot" for way in image.ways) and is_missing(WIMBOOT, mac, assembly):
        raise CommandError(
            f"{name} is booted by wimboot, which no backend of {assembly.source} has: download it from "
            "https://github.com/ipxe/wimboot/releases to the boot directory"
        )
    path = relative(answers.removesuffix(SUFFIX))
    if path:
        _check_answers(assembly, image, path, mac)
    return _Order(mac, image, path, _reachable_power(assembly, mac) if options.power else None)


def _needs_dhcp(assembly: Assembly) -> None:
    """Check that a protocol of this server names what machines boot.

    :raise CommandError: none does.
    """
    parts = assembly.parts
    if not parts.settings.answers_dhcp and not any(provides(resolver, IChainAware) for _, resolver in parts.resolvers):
        raise CommandError(
            f'{assembly.source} answers no DHCP requests, so no machine would boot it: set [dhcp] mode = "proxy", '
            'or "server" if there is no other DHCP server'
        )


def _reachable_power(assembly: Assembly, mac: str) -> IPower:
    """Return the power of the machine, whose controller answers.

    :raise CommandError: it does not, or the machine has none. Nothing has been ordered then.
    """
    power = power_of(assembly, mac)
    try:
        power.state()
    except PowerError as error:
        raise CommandError(f"{mac}: {error}; nothing was ordered") from error
    return power


def _start(order: _Order) -> None:
    if order.power is None:
        return
    try:
        order.power.boot_from_network()
        order.power.switch(PowerAction.RESET)
    except PowerError as error:
        hint = f'the image is still ordered for its next boot; "bootfw next --clear {order.mac}" cancels it'
        raise CommandError(f"{order.mac}: {error}; {hint}") from error


def installable_image(assembly: Assembly, name: str) -> OSImage:
    """Return an image that the menu can boot.

    :raise CommandError: there is none with this name, or it can't be booted.
    """
    library = library_of(assembly)
    images = {image.name: image for image in library.scan()}
    if name not in images:
        known = f"; known: {', '.join(images)}" if images else ""
        raise CommandError(f"there is no image {name} in {', '.join(map(str, library.roots))}{known}")
    image = images[name]
    if reason := lacking(image, assembly.configuration):
        raise CommandError(f"{name} can't be {'installed' if image.is_disk else 'booted'}: {reason}")
    if image.is_receiver:
        raise CommandError(f"{name} writes disk images: install one of these, and it is booted for that")
    if not any("ipxe" in way.plan.recipe.loaders for way in image.ways):
        raise CommandError(f"{name} can't be booted by iPXE, which boots one-time images")
    menus = [backend for _, backend in assembly.parts.backends if isinstance(backend, MenuBackend)]
    if not any(root.resolve() == image.path.parent.resolve() for menu in menus for root in menu.library.roots):
        example = f'[[backend]] use = "menu", images = "{image.path.parent}"'
        raise CommandError(f"the menu boots it, and there is none with its directory: add {example}")
    return image


def _check_answers(assembly: Assembly, image: OSImage, path: str, mac: str) -> None:
    """Check that the image takes answers, and that the installer could fetch them.

    :raise CommandError: it does not, or could not.
    """
    if not any(way.plan.takes_answers for way in image.ways):
        raise CommandError(f"{image.name} ({image.title}) takes no answers that bootfw knows")
    configuration = assembly.configuration
    if not configuration.settings.http.listen and configuration.source:
        raise CommandError(f"installers fetch their answers by HTTP: set [http] listen in {configuration.source}")
    beside = {name for way in image.ways for name in way.plan.recipe.beside}
    for each in dict.fromkeys([path, *(str(PurePosixPath(path).with_name(name)) for name in sorted(beside))]):
        if is_missing(each, mac, assembly):
            purpose = "has the answers" if each == path else f"{image.name} loads with the answers"
            raise CommandError(f"no backend of {assembly.source} has {printable(each)}, which {purpose}")
