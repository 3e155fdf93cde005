"""``bootfw leases``: shows and changes leases and reservations of the running server, or in its store."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootfw.cli.dnsmasq import is_dnsmasq, read_dnsmasq
from bootfw.cli.failure import CommandError
from bootfw.cli.isc import is_isc, read_isc
from bootfw.cli.leaseimport import ImportedLeases, exported, identity
from bootfw.cli.running import RunningServer
from bootfw.cli.statedir import add_state_options, check_offline, running, state_of
from bootfw.cli.tables import table
from bootfw.cli.takenover import shown_reservation
from bootfw.config.configuration import Configuration, load_config
from bootfw.interfaces import IOfflineStore
from bootfw.lease import Reservation, duid
from bootfw.records import STATES, Record, Selection, number, reservation_record
from bootfw.terminal import aligned, moment, printable

if TYPE_CHECKING:
    from bootfw.cli.offline import OfflineLeases

LEFT_OUT = 3
"""Exit code of an import that has left something out."""

_CLIENT_HELP = "an address, a MAC, a UUID, a host name, or a client identifier (0x and hexadecimal digits)"


_EPILOG = """
Examples:
  bootfw leases                                            the leases, one per line
  bootfw leases show 52:54:00:12:34:56                     everything about a client
  bootfw leases reserve 10.77.0.7 --mac 52:54:00:12:34:56  the same address from now on
  bootfw leases import /var/lib/dhcp/dhcpd.leases          take over from ISC dhcpd or dnsmasq
"""


def add_leases(commands: Any) -> None:
    """Add the command to those of the parser."""
    about = "Shows and changes leases and reservations: of the running server, or in its store when none runs."
    leases = commands.add_parser(
        "leases",
        help="list, release, reserve, export and import leases",
        description=about,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_options(leases)
    leases.set_defaults(run=_list, json=False, who="", state="", network="")
    verbs = leases.add_subparsers(title="what to do (list)", metavar="VERB")

    def verb(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_state_options(added, argparse.SUPPRESS)
        added.set_defaults(run=run)
        return added

    listing = verb("list", _list, "show the leases, one per line")
    listing.add_argument("who", nargs="?", default="", help=_CLIENT_HELP)
    listing.add_argument("--state", default="", choices=STATES, help="only those in this state")
    listing.add_argument("--network", default="", metavar="NETWORK", help='only those in it, such as "10.77.0.0/24"')
    showing = verb("show", _show, "show everything about a client or an address")
    showing.add_argument("who", help=_CLIENT_HELP)
    releasing = verb("release", _release, "end the lease, or the quarantine, of addresses")
    releasing.add_argument("addresses", nargs="+", metavar="ADDRESS", help="IPv4 or IPv6 addresses")
    exporting = verb("export", _export, "write all leases and reservations as JSON, for import")
    importing = verb("import", _import, "import the leases of another server; bootfw must not run")
    importing.add_argument(
        "file", help="lease file of ISC dhcpd or dnsmasq, or an export of bootfw; - is the standard input"
    )
    reserved = verb("reservations", _reservations, "show the reservations")
    reserving = verb("reserve", _reserve, "reserve an address, or a host name, for a client")
    reserving.add_argument(
        "address", nargs="?", default="", help="IPv4 or IPv6; without it the client gets any free address"
    )
    reserving.add_argument(
        "--mac", action="append", default=[], help="may be repeated, for other network cards of the same machine"
    )
    reserving.add_argument("--uuid", default="", help="UUID of the machine, as dmidecode shows it")
    reserving.add_argument("--client-id", default="", help="option 61, as text or as 0x and hexadecimal digits")
    reserving.add_argument(
        "--duid", default="", help="option 1 of DHCPv6, as hexadecimal digits; only with an IPv6 address"
    )
    reserving.add_argument("--circuit-id", default="", help="circuit id of the relay (option 82), in the same form")
    reserving.add_argument("--hostname", default="", help="the host name that the client is given")
    reserving.add_argument(
        "--lease-seconds",
        type=int,
        default=0,
        metavar="N",
        help="how long the address is given for (as its subnet says)",
    )
    unreserving = verb("unreserve", _unreserve, "remove a reservation; a lease goes on until it expires")
    unreserving.add_argument("who", help=_CLIENT_HELP)
    for each in (listing, showing, reserved):
        each.add_argument("--json", action="store_true", help="as JSON")
    for each in (exporting,):
        each.set_defaults(json=True)


def _list(options: argparse.Namespace) -> None:
    records = _sorted(leases_of(options).leases(_selection(options.who, options.state, options.network)))
    if options.json:
        _print_json(records)
        return
    rows = [("ADDRESS", "STATE", "CLIENT", "NAME", "UNTIL", "KIND")]
    for record in records:
        client = record["mac"] or (f"0x{record['client_id']}" if record["client_id"] else "")
        rows.append(
            (record["address"], record["state"], client, record["hostname"], moment(record["expires"]), record["kind"])
        )
    _print(table(rows))


def _show(options: argparse.Namespace) -> None:
    source = leases_of(options)
    records = _sorted(source.leases(_selection(options.who)))
    if not records:
        raise CommandError(f"{options.who} has no lease")
    if options.json:
        _print_json(records)
        return
    for count, record in enumerate(records):
        if count:
            _print("")
        formatted = {**record, "granted": moment(record["granted"]), "expires": moment(record["expires"])}
        del formatted["client"]  # the key by which clients are distinguished repeats the others
        _print(aligned([(name.replace("_", "-"), value) for name, value in formatted.items() if value]))


def _release(options: argparse.Namespace) -> None:
    source = leases_of(options, True)
    for address in options.addresses:
        source.release(address)
        _print(f"{address} is released")


def _export(options: argparse.Namespace) -> None:
    source = leases_of(options)
    leases = _sorted(source.leases(Selection()))
    _print_json({"leases": leases, "reservations": source.reservations()})


def _import(options: argparse.Namespace) -> int:
    configuration = _configuration(options)
    dhcp, dhcp6 = configuration.settings.dhcp, configuration.settings.dhcp6
    now = time.time()
    # A lease file may contain bytes that are not UTF-8.
    data = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    imported = _imported(data.decode("utf-8-sig", "surrogateescape"), now, dhcp.identify_by == "client-id")
    outcome = leases_of(options, True, True).take_over(imported.leases.values(), imported.reservations, now)
    hosts = [host for subnet in dhcp.subnets for host in subnet.hosts]
    ours = [*hosts, *(host.reservation() for subnet in dhcp6.subnets for host in subnet.hosts)]
    elsewhere = [
        f"the reservation of {shown_reservation(each)}: it is in the configuration file of the other server"
        for each in imported.configured
        if reservation_record(each) not in map(reservation_record, ours)
    ]
    left_out = [*imported.left_out, *outcome.left_out, *elsewhere]
    for line in left_out:
        sys.stderr.write(f"left out: {printable(line)}\n")
    existing = f", {outcome.ours} leased here already" if outcome.ours else ""
    _print(f"{len(outcome.leases)} leases and {len(outcome.reservations)} reservations imported{existing}")
    return LEFT_OUT if left_out else 0


def _imported(text: str, now: float, by_client_id: bool) -> ImportedLeases:
    if text.lstrip().startswith("{"):
        return exported(text)
    if not text.strip():  # dnsmasq's file while there is no lease
        return ImportedLeases()
    if is_dnsmasq(text):
        return read_dnsmasq(text, now, identity(by_client_id))
    if is_isc(text):
        return read_isc(text, now, identity(by_client_id))
    raise CommandError("this is neither a lease file of ISC dhcpd or dnsmasq nor an export of bootfw")


def _reservations(options: argparse.Namespace) -> None:
    records = leases_of(options).reservations()
    if options.json:
        _print_json(records)
        return
    rows = [("ADDRESS", "CLIENT", "NAME", "FROM")]
    rows += [(r["address"] or "any", _known_by(r), r["hostname"], r["origin"]) for r in records]
    _print(table(rows))


def _reserve(options: argparse.Namespace) -> None:
    six = ":" in options.address
    if options.duid and not six:
        raise CommandError("--duid goes with an IPv6 address")
    if options.client_id and six:
        raise CommandError("--client-id goes with an IPv4 address; by DHCPv6 it is --duid")
    try:
        reservation = Reservation(
            options.address,
            mac=options.mac[0] if options.mac else "",
            other_macs=tuple(options.mac[1:]),
            client_id=duid(options.duid) or options.client_id,
            uuid=options.uuid,
            circuit_id=options.circuit_id,
            hostname=options.hostname,
            lease_seconds=options.lease_seconds,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    leases_of(options, True).reserve(reservation)
    _print(f"{reservation.address or 'an address of the pool'} is reserved")


def _unreserve(options: argparse.Namespace) -> None:
    _selection(options.who)
    record = leases_of(options, True).unreserve(options.who)
    _print(f"{record['address'] or _known_by(record)} is no longer reserved")


def _known_by(record: Mapping[str, Any]) -> str:
    labels = {"client_id": "duid" if ":" in record["address"] else "client-id", "circuit_id": "circuit-id"}
    labelled = [f"{label} 0x{record[name]}" for name, label in labels.items() if record[name]]
    unlabelled = [record["mac"], *record["other_macs"], record["uuid"]]
    return ", ".join([name for name in unlabelled if name] + labelled)


def _selection(who: str, state: str = "", network: str = "") -> Selection:
    try:
        return Selection(who, state, network)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _configuration(options: argparse.Namespace) -> Configuration:
    return load_config(options.config, os.environ)


def leases_of(
    options: argparse.Namespace, changes: bool = False, stopped: bool = False
) -> "RunningServer | OfflineLeases":
    """Return the running server, or its store if none runs.

    :param changes: the command does not only read.
    :param stopped: the command needs a server that does not run.
    """
    configuration = _configuration(options)
    state = state_of(configuration)
    server = running(state)
    if server is not None:
        return server
    from bootfw.build import lease_store  # with all that a server needs, which takes a while to import
    from bootfw.cli.offline import OfflineLeases

    name, store = lease_store(configuration)
    if not IOfflineStore.providedBy(store):
        raise CommandError(
            f'no server runs with the state directory {state}, and without one the leases in "{name}" can\'t be reached'
        )
    check_offline(state, options, changes, stopped)
    return OfflineLeases(store, configuration.settings)


def _sorted(records: Iterable[Record]) -> Sequence[Record]:
    return sorted(records, key=lambda record: number(record["address"]))


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2))
