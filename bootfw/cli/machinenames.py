"""Finds the machine that the operator of a command has named: by its MAC address, or by its name."""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bootfw.cli.assembly import Assembly
from bootfw.cli.failure import CommandError
from bootfw.cli.statedir import running, state_of
from bootfw.interfaces import IOfflineStore
from bootfw.inventory import HOST_NAME, Selection
from bootfw.lease import mac_text, machine_text

if TYPE_CHECKING:
    from bootfw.cli.machines import StoredMachines

HELP = "name of the machine, or MAC address of the network card that it boots from"


def machine_mac(text: str, assembly: Assembly, option: str = "MAC") -> str:
    """Return the MAC address of a machine, lower-case with colons.

    A name is that of the running server's list of machines, or of its store if no server runs, else that of a host
    file, a ``[[machine]]`` or a reservation in the configuration.

    :param text: its MAC address or its name.
    :param option: what messages call *text*.
    :raise CommandError: it is neither, or several machines have the name.
    """
    try:
        return mac_text(text)
    except ValueError as error:
        if not re.fullmatch(HOST_NAME, text):
            raise CommandError(f"{option} {error}") from error
    macs = _listed_macs(text, assembly) or _configured_macs(text.lower(), assembly)
    if len(macs) == 1:
        return macs[0]
    if macs:
        raise CommandError(f'{option}: "{text}" is the name of {", ".join(macs)}: give one of these MAC addresses')
    raise CommandError(
        f'{option}: no machine has the name "{text}", which is no MAC address either; "bootfw machines" lists the names'
    )


def machine_client(text: str, assembly: Assembly) -> str:
    """Return what boot records call a machine: its MAC address; its UUID or IP address where no MAC is known.

    :raise CommandError: see machine_mac().
    """
    with suppress(ValueError):
        return machine_text(text)
    return machine_mac(text, assembly)


def stored_machines(assembly: Assembly) -> "StoredMachines | None":
    """Return the machines in the store of a server that does not run; None: it can't be read without one."""
    from bootfw.build import order_store
    from bootfw.cli.machines import StoredMachines
    from bootfw.cli.offline import OfflineEntries

    _, store = order_store(assembly.configuration)
    if not IOfflineStore.providedBy(store):
        return None
    orders: Any = store
    return StoredMachines(assembly, OfflineEntries(orders))


def _listed_macs(text: str, assembly: Assembly) -> list[str]:
    """Return the MACs of the machines in the list that have the name; nothing too where this user can't read it."""
    selection = Selection.of({"machine": text})
    try:
        server = running(state_of(assembly.configuration))
        if server is not None:
            return _sorted(each["mac"] for each in server.call("machines", machine=selection.machine))
        stored = stored_machines(assembly)
        return _sorted(each["mac"] for each in stored.machines(selection)) if stored is not None else []
    except PermissionError:
        return []


def _configured_macs(name: str, assembly: Assembly) -> list[str]:
    subnets = assembly.configuration.settings.dhcp.subnets
    reserved = [host for subnet in subnets for host in subnet.hosts if host.hostname.lower() == name]
    return _sorted(assembly.host_files.macs(name)) or _sorted(mac for host in reserved for mac in host.macs)


def _sorted(macs: Iterable[str]) -> list[str]:
    return sorted({mac for mac in macs if mac})
