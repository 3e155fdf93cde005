"""``bootfw machines``: lists the machines, and sets their names, tags and images."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bootfw.attempts.attempt import Verdict
from bootfw.attempts.record import attempt_record
from bootfw.cli.assembly import Assembly
from bootfw.cli.boots import coloured, stored_attempts
from bootfw.cli.failure import CommandError
from bootfw.cli.machinenames import HELP, machine_mac, stored_machines
from bootfw.cli.running import RunningServer
from bootfw.cli.statedir import add_state_options, check_offline, configuration_in_use, running, state_of
from bootfw.interfaces import IOfflineStore
from bootfw.inventory import BOOTS, Selection, Sources, inventory_records
from bootfw.records import Record
from bootfw.records import Selection as LeaseSelection
from bootfw.terminal import aligned, moment, printable

if TYPE_CHECKING:
    from bootfw.cli.offline import OfflineEntries

NONE_FOUND = 1
"""Exit code: no machine was found."""

_EPILOG = """
Examples:
  bootfw machines                                every machine, the one that booted last first
  bootfw machines --verdict failed               those whose latest boot failed
  bootfw machines --tag rack1                    those with this tag
  bootfw machines show 52:54:00:12:34:56         everything about one; bootfw show has its boots, stage by stage
  bootfw machines name 52:54:00:12:34:56 web1    name it
  bootfw machines tag 52:54:00:12:34:56 rack1    tag it
  bootfw machines image 52:54:00:12:34:56 debian-12
                                                 what bootfw install 52:54:00:12:34:56 installs

Exit codes: 0 found or changed, 1 there is no such machine, or the change was refused.
"""

_COLUMNS = ("MACHINE", "NAME", "TAGS", "IMAGE", "ADDRESS", "CLIENT", "BOOTS", "LAST BOOT", "VERDICT", "NEXT BOOT")
_IF_USED = ("TAGS", "IMAGE")
"""Columns that are shown if a machine has a value there."""

_MACHINE = "MAC address or name; its UUID or IP address where no MAC is known"


def add_machines(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = commands.add_parser(
        "machines",
        help="list the machines; name and tag them, and set their images",
        description="Lists the machines that have booted or were named, with their latest boot and what is configured "
        "for them; sets names, tags and images: of the running server, or in its store when none runs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_options(parser)
    parser.set_defaults(run=_list)
    _add_filters(parser, "")
    parser.add_argument("--json", action="store_true", help="as JSON")
    verbs = parser.add_subparsers(title="what to do (list)", metavar="VERB")

    def verb(name: str, run: Any, text: str, *, reads: bool = False) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_state_options(added, argparse.SUPPRESS)
        added.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
        if not reads:
            added.add_argument("mac", metavar="MACHINE", help=HELP)
        added.set_defaults(run=run)
        return added

    _add_filters(verb("list", _list, "show the machines, one per line", reads=True), argparse.SUPPRESS)
    showing = verb("show", _show, "show everything about a machine", reads=True)
    showing.add_argument("machine", metavar="MACHINE", help=_MACHINE)
    naming = verb("name", _name, "name a machine")
    naming.add_argument(
        "name", nargs="?", default="", metavar="NAME", help="a host name; without it the name is removed"
    )
    tagging = verb("tag", _tag, "add tags to a machine")
    tagging.add_argument("tags", nargs="+", metavar="TAG", help="such as rack1 or role=web")
    untagging = verb("untag", _untag, "remove tags from a machine")
    untagging.add_argument("tags", nargs="*", metavar="TAG", help="without any, all of them are removed")
    imaging = verb("image", _image, "set the image that bootfw install takes for a machine")
    imaging.add_argument(
        "image", nargs="?", default="", metavar="IMAGE", help="its name, as bootfw images lists it; without it, none"
    )
    verb("forget", _forget, "remove the name, the tags and the image of a machine; its boots stay")


def _add_filters(parser: argparse.ArgumentParser, default: str) -> None:
    verdicts = [verdict.value for verdict in Verdict]
    of_boot = f"of the latest boot: {', '.join(verdicts)}"
    parser.add_argument("--tag", default=default, metavar="TAG", help="only those with this tag")
    parser.add_argument("--verdict", choices=verdicts, default=default, metavar="VERDICT", help=of_boot)


def _list(options: argparse.Namespace) -> int:
    selection = Selection(tag=options.tag, verdict=options.verdict)
    machines = machines_of(_assembly(options), options).machines(selection)
    if options.json:
        _print_json(machines)
    elif machines:
        columns = zip(_COLUMNS, *map(_row, machines), strict=True)
        # Few sites use all that can be set for a machine.
        used = [column for column in columns if column[0] not in _IF_USED or set(column[1:]) != {"-"}]
        head, *lines = aligned(list(zip(*used, strict=True))).splitlines()
        coloured_lines = [coloured(line, _verdict(each)) for line, each in zip(lines, machines, strict=True)]
        _print("\n".join([head, *coloured_lines]))
    else:
        sys.stderr.write(f"bootfw: no machine {'has booted yet' if selection == Selection() else 'matches'}\n")
    return 0 if machines else NONE_FOUND


def _show(options: argparse.Namespace) -> int:
    selection = Selection.of({"machine": options.machine})
    found = machines_of(_assembly(options), options).machines(selection)
    if not found:
        sys.stderr.write(f"bootfw: there is no machine {printable(options.machine)}\n")
        return NONE_FOUND
    if options.json:
        _print_json(found)
        return 0
    for count, record in enumerate(found):
        if count:
            _print("")
        last = record["last"]
        formatted = {
            **record,
            "tags": ", ".join(record["tags"]),
            "addresses": ", ".join(record["addresses"]),
            "boots": str(record["boots"]),
            "failed": str(record["failed"] or ""),
            "last": f"{moment(last['began'])}  {last['outcome']}" if last is not None else "",
        }
        rows = [
            (name, value) for name, value in formatted.items() if value and (name, value) != ("mac", record["machine"])
        ]
        _print(aligned(rows))
    return 0


def _name(options: argparse.Namespace) -> None:
    record = _set(options, name=options.name)
    _report(options, record, f"is named {options.name.lower()}" if options.name else "has no name of its own")


def _tag(options: argparse.Namespace) -> None:
    _report_tags(options, _set(options, add_tags=options.tags))


def _untag(options: argparse.Namespace) -> None:
    _report_tags(options, _set(options, **({"remove_tags": options.tags} if options.tags else {"tags": []})))


def _image(options: argparse.Namespace) -> None:
    assembly = _assembly(options)
    if options.image:
        from bootfw.cli.install import installable_image  # with all that a server needs, which takes a while to import

        installable_image(assembly, options.image)
    record = _set(options, assembly, image=options.image)
    mac = record["mac"]
    text = f"is for {options.image}: bootfw install {mac} installs it" if options.image else "has no image of its own"
    _report(options, record, text)


def _forget(options: argparse.Namespace) -> None:
    assembly = _assembly(options)
    mac = machine_mac(options.mac, assembly)
    found = machines_of(assembly, options, changes=True).forget(mac)
    if not found:
        raise CommandError(f"{mac} has no name, tag or image that bootfw machines has set")
    _report(options, found[0], "has no name, tags and image of its own any more")


def _report_tags(options: argparse.Namespace, record: Record) -> None:
    _report(options, record, f"has the tags {', '.join(record['tags'])}" if record["tags"] else "has no tags")


def _report(options: argparse.Namespace, record: Record, text: str) -> None:
    if options.json:
        _print_json(record)
    else:
        _print(f"{record['mac']} {text}")


def _set(options: argparse.Namespace, assembly: Assembly | None = None, **values: Any) -> Record:
    assembly = assembly or _assembly(options)
    mac = machine_mac(options.mac, assembly)
    return machines_of(assembly, options, changes=True).set({"mac": mac, **values})


def _assembly(options: argparse.Namespace) -> Assembly:
    return Assembly(configuration_in_use(options.config))


class RunningMachines:
    """The machines of a server that runs."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server

    def machines(self, selection: Selection) -> Sequence[Record]:
        """Return the records of the machines that are selected."""
        filters = {"machine": selection.machine, "tag": selection.tag, "verdict": selection.verdict}
        return list(self._server.call("machines", **filters))

    def set(self, arguments: Mapping[str, Any]) -> Record:
        """Change what is set for a machine, see bootfw.inventory.change(). Returns its record."""
        (record,) = self._server.call("set-machine", **arguments)
        return record

    def forget(self, mac: str) -> Sequence[Record]:
        """Remove what is set for a machine. Returns its record, as it was; nothing: nothing was set."""
        return list(self._server.call("forget-machine", mac=mac))


class StoredMachines:
    """The machines in the store of a server that does not run."""

    def __init__(self, assembly: Assembly, entries: "OfflineEntries") -> None:
        self._assembly = assembly
        self._entries = entries

    def machines(self, selection: Selection, also: Sequence[str] = ()) -> Sequence[Record]:
        """See RunningMachines. Those in *also* get a record in any case."""
        from bootfw.build import lease_store
        from bootfw.cli.offline import OfflineLeases, OfflineOrders

        configuration = self._assembly.configuration
        boots = [attempt_record(each, stages=False) for each in stored_attempts(configuration, {"limit": BOOTS})]
        leases: Iterable[Record] = ()
        reservations: Iterable[Record] = ()
        _, store = lease_store(configuration)
        if IOfflineStore.providedBy(store):
            offline = OfflineLeases(store, configuration.settings)
            with suppress(CommandError):  # none are stored
                leases, reservations = list(offline.leases(LeaseSelection())), offline.reservations()
        orders = OfflineOrders(self._entries.store).next_boots()
        hosts = self._assembly.host_files.of
        sources = Sources(boots, self._entries.all(), leases, reservations, orders, hosts)
        return [record for record in inventory_records(sources, also) if selection.has(record)]

    def set(self, arguments: Mapping[str, Any]) -> Record:
        """Change what is set for a machine, see bootfw.inventory.change(). Returns its record."""
        mac = self._entries.set(arguments)
        (record,) = self.machines(Selection(mac), [mac])
        return record

    def forget(self, mac: str) -> Sequence[Record]:
        """Remove what is set for a machine. Returns its record, as it was; nothing: nothing was set."""
        found = self.machines(Selection(machine=mac))
        return found if self._entries.forget(mac) else ()


def machines_of(
    assembly: Assembly, options: argparse.Namespace, *, changes: bool = False
) -> "RunningMachines | StoredMachines":
    """Return the machines of the running server, or those in its store."""
    state = state_of(assembly.configuration)
    server = running(state)
    if server is not None:
        return RunningMachines(server)
    stored = stored_machines(assembly)
    if stored is None:
        raise CommandError(f"no server runs with the state directory {state}, and its store can't be read without one")
    check_offline(state, options, changes)
    return stored


def _verdict(record: Record) -> Verdict | None:
    return Verdict(record["last"]["verdict"]) if record["last"] is not None else None


def _row(record: Record) -> tuple[str, ...]:
    last = record["last"]
    return (
        record["machine"],
        record["name"] or "-",
        ",".join(record["tags"]) or "-",
        record["image"] or "-",
        ", ".join(record["addresses"][-1:]) or "-",
        ", ".join(filter(None, (record["persona"], record["architecture"]))) or "-",
        str(record["boots"]),
        moment(last["began"] if last is not None else None),
        last["outcome"] if last is not None else "-",
        record["next"] or "-",
    )


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2))
