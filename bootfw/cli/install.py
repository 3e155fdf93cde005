"""``bootfw install``: makes a machine install an image, once."""

import argparse
import os
import sys
from pathlib import PurePosixPath
from typing import Any

from bootfw.ability import provides
from bootfw.backends.imagelibrary.library import OSImage
from bootfw.backends.menu import MenuBackend
from bootfw.backends.template import SUFFIX
from bootfw.cli.assembly import Assembly
from bootfw.cli.failure import CommandError
from bootfw.cli.hostvalues import text_value
from bootfw.cli.images import library_of
from bootfw.cli.installprogress import Installation
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
from bootfw.terminal import printable
from bootfw.tftp.path import relative
from bootfw.values import PowerAction

_ABOUT = """
Has a machine boot an image at its next boot, and not again: after that it boots as usual. With answers it installs
without questions. Without IMAGE, the image and the answers are those in the machine's host file.

While a server runs, it shows what the machine does: with answers until the system has requested /bootfw/up, else until
the installer has been loaded. Ctrl-C ends the display, not the installation.
"""

_EXAMPLES = """
Examples:
  bootfw install 52:54:00:12:34:56 debian-12                            boot the installer, once
  bootfw install 52:54:00:12:34:56 debian-12 --answers preseed.cfg      install without questions
  bootfw install 52:54:00:12:34:56                                      as its host file says
  bootfw install --power 52:54:00:12:34:56                              and start it now, from the network
  bootfw install --no-wait 52:54:00:12:34:56                            order it, and don't wait for it
  bootfw show 52:54:00:12:34:56                                         what has become of it
  bootfw next --clear 52:54:00:12:34:56                                 cancel it

Exit codes: 0 installed, or ordered, 1 it can't be ordered, or the boot has failed, 130 interrupted.
"""


def add_install(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "install",
        help="have a machine install an image, once",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("mac", metavar="MACHINE", help=HELP)
    parser.add_argument("image", nargs="?", default="", metavar="IMAGE", help="its name, as bootfw images lists it")
    parser.add_argument("--answers", default="", metavar="PATH", help="of the answers, as clients request it")
    parser.add_argument("--no-wait", action="store_true", help="only order it")
    parser.add_argument(
        "--power", action="store_true", help="start the machine from the network, by the power of its host file"
    )
    add_state_options(parser)
    parser.set_defaults(run=_install)


def _install(options: argparse.Namespace) -> int:
    configuration = load_config(options.config, os.environ)
    assembly = Assembly(configuration)
    mac = machine_mac(options.mac, assembly)
    name, answers = options.image, options.answers
    if not name:
        host = assembly.host_files.of(mac)
        known = machines_of(assembly, options).machines(Selection(mac))
        name = known[0]["image"] if known else text_value(host, "image")
        answers = answers or text_value(host, "answers")
        if not name:
            raise CommandError(
                f'{mac}: give IMAGE, set one with "bootfw machines image", or write image = "NAME" into its host file'
            )
    needs_resolver(configuration)
    _needs_dhcp(assembly)
    image = installable_image(assembly, name)
    path = relative(answers.removesuffix(SUFFIX))
    if path:
        _check_answers(assembly, image, path, mac)
    power = _reachable_power(assembly, mac) if options.power else None
    orders = orders_of(configuration, options, changes=True)
    order = orders.order(mac, f"install/{name}/{path}.ipxe" if path else f"install/{name}.ipxe")
    how = f" with the answers {path}" if path else ""
    sys.stdout.write(f"{mac} boots {printable(image.title)} ({name}) next, once{printable(how)}\n")
    if power is not None:
        _start(power, mac)
    switch = "it is being started" if power is not None else "switch it on"
    if options.no_wait or not isinstance(orders, RunningServer):
        sys.stdout.write(f'{switch}; "bootfw show {mac}" shows what has become of it\n')
        return 0
    sys.stdout.write(f"{switch}\n")
    sys.stdout.flush()
    return Installation(order, unattended=bool(path)).follow(orders)


def _needs_dhcp(assembly: Assembly) -> None:
    """:raise CommandError: no protocol of this server says what a machine boots."""
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


def _start(power: IPower, mac: str) -> None:
    try:
        power.boot_from_network()
        power.switch(PowerAction.RESET)
    except PowerError as error:
        left = f'the image is still ordered for its next boot; "bootfw next --clear {mac}" cancels it'
        raise CommandError(f"{mac}: {error}; {left}") from error


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
    if image.reason:
        raise CommandError(f"{name} can't be booted: {image.reason}")
    if not any("ipxe" in way.plan.recipe.loaders for way in image.ways):
        raise CommandError(f"{name} can't be booted by iPXE, which boots one-time images")
    menus = [backend for _, backend in assembly.parts.backends if isinstance(backend, MenuBackend)]
    if not any(root.resolve() == image.path.parent.resolve() for menu in menus for root in menu.library.roots):
        example = f'[[backend]] use = "menu", images = "{image.path.parent}"'
        raise CommandError(f"the menu boots it, and there is none with its directory: add {example}")
    return image


def _check_answers(assembly: Assembly, image: OSImage, path: str, mac: str) -> None:
    """:raise CommandError: the image takes no answers, or the answers could not be fetched."""
    if not any(way.plan.takes_answers for way in image.ways):
        raise CommandError(f"{image.name} ({image.title}) takes no answers that bootfw knows")
    configuration = assembly.configuration
    if not configuration.settings.http.listen and configuration.source:
        raise CommandError(f"installers fetch their answers by HTTP: set [http] listen in {configuration.source}")
    beside = {name for way in image.ways for name in way.plan.recipe.beside}
    for each in dict.fromkeys([path, *(str(PurePosixPath(path).with_name(name)) for name in sorted(beside))]):
        if is_missing(each, mac, assembly):
            has = "has the answers" if each == path else f"{image.name} loads with the answers"
            raise CommandError(f"no backend of {assembly.source} has {printable(each)}, which {has}")
