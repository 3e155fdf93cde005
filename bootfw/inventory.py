"""The inventory: what the operator has set for each machine, joined with its boots and with what is configured for it.

The records are those of ``bootfw machines --json``, of the control socket and of the web API.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import asdict, evolve, field, frozen

from bootfw.attempts.attempttext import outcome_line
from bootfw.attempts.machine import Machine, machines_of
from bootfw.attempts.record import attempt_of
from bootfw.errors import StateError
from bootfw.lease import mac_text, uuid_text
from bootfw.records import Record

KIND = "machine"
"""The kind of orders in the store that have the entries."""

BOOTS = 10_000
"""Most boots that are looked at, the latest ones."""

MOST_TAGS = 32
"""Tags of one machine."""

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST_NAME = rf"{_LABEL}(\.{_LABEL})*"
"""Regular expression of a name, which has at most 253 characters. These three are for the description of the web API
too, so they have only what all kinds of regular expressions have."""
TAG = "[A-Za-z0-9][A-Za-z0-9._:=/-]{0,62}"
IMAGE = r"[!-\-0-~][!-.0-~]{0,127}"

KEYS = ("name", "tags", "add_tags", "remove_tags", "image")
"""What Entry.changed() takes."""


class NameTaken(StateError):
    """The name is that of another machine."""


class NoSuchImage(StateError):
    """There is no image with the name."""


def check_image(arguments: Mapping[str, Any], known: Iterable[str]) -> None:
    """Check that the image of a change exists.

    :param arguments: see change().
    :raise NoSuchImage: it does not.
    """
    image, names = arguments.get("image"), sorted(set(known), key=str.casefold)
    if image and image not in names:
        hint = f"known: {', '.join(names)}" if names else "this server has none"
        raise NoSuchImage(f"there is no image {image}; {hint}")


@frozen
class Entry:
    """What the operator has set for a machine; all of it may be empty."""

    name: str = ""
    """A host name (RFC 1123 section 2.1), in lower case."""
    tags: tuple[str, ...] = ()
    """Sorted, each once."""
    image: str = ""
    """The image that ``bootfw install`` takes if none is given."""

    def changed(self, arguments: Mapping[str, Any]) -> "Entry":
        """Return the entry with other values.

        :param arguments: those of KEYS that change: ``name`` and ``image`` ("" removes them), ``tags`` instead of all
            present ones, ``add_tags`` and ``remove_tags``.
        :raise StateError: a value is invalid.
        """
        name = _text(arguments, "name", self.name)
        if name and not (re.fullmatch(HOST_NAME, name) and len(name) <= 253):
            raise StateError(f'name must be a host name, such as "web1" or "web1.example.org", not "{name}"')
        image = _text(arguments, "image", self.image)
        if image and not re.fullmatch(IMAGE, image):
            raise StateError(f'image must be the name of an image, as bootfw images lists it, not "{image}"')
        tags = {*_tags(arguments, "tags", self.tags), *_tags(arguments, "add_tags")} - {
            *_tags(arguments, "remove_tags")
        }
        if len(tags) > MOST_TAGS:
            raise StateError(f"a machine has at most {MOST_TAGS} tags, not {len(tags)}")
        return evolve(self, name=name.lower(), tags=tuple(sorted(tags)), image=image)

    def stored(self) -> Mapping[str, object] | None:
        """Return the entry as the store keeps it; None: there is nothing to keep."""
        return {**asdict(self), "tags": list(self.tags)} if self != Entry() else None


def entry_of(mac: str, stored: Mapping[str, object]) -> Entry:
    """Return the entry that was stored for a machine.

    :raise StateError: it is invalid.
    """
    try:
        return Entry().changed({key: stored[key] for key in ("name", "tags", "image")})
    except (StateError, KeyError) as error:
        raise StateError(f"what is stored for the machine {mac} is invalid: {dict(stored)!r}") from error


def change(entries: Mapping[str, Entry], arguments: Mapping[str, Any]) -> tuple[str, Entry]:
    """Return (MAC, the new entry) for a change.

    :param entries: by MAC.
    :param arguments: ``mac``, and what changes: see Entry.changed().
    :raise StateError: a value is invalid, or the name is that of another machine.
    """
    unknown = sorted(arguments.keys() - {"mac", *KEYS})
    if unknown:
        raise StateError(f'unknown key "{unknown[0]}"; known: mac, {", ".join(KEYS)}')
    mac = mac_of(arguments)
    entry = entries.get(mac, Entry()).changed(arguments)
    if entry.name:
        for other, each in entries.items():
            if each.name == entry.name and other != mac:
                raise NameTaken(f"{entry.name} is the name of {other} already; give one of them another name")
    return mac, entry


def mac_of(arguments: Mapping[str, Any]) -> str:
    """Return the MAC of the machine that is to be changed, in its usual form.

    :raise StateError: there is none.
    """
    if "mac" not in arguments:
        raise StateError('"mac" is missing: give the MAC address of the machine')
    try:
        return mac_text(str(arguments["mac"]))
    except ValueError as error:
        raise StateError(f"mac {error}") from error


@frozen
class Selection:
    """Which machines are wanted; all of them by default."""

    machine: str = ""
    """Its MAC or name; its UUID or address where no MAC is known."""
    tag: str = ""
    verdict: str = ""
    """Of the latest boot."""

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Selection":
        """Return the selection of a request. Other keys are ignored."""
        machine = str(arguments.get("machine", "")).lower()
        for read in (mac_text, uuid_text):
            try:
                machine = read(machine)
            except ValueError:
                continue
            break
        return cls(machine, str(arguments.get("tag", "")), str(arguments.get("verdict", "")))

    @property
    def mac(self) -> str:
        """The MAC of the only machine that is wanted; "": it is not known, or there are several."""
        try:
            return mac_text(self.machine)
        except ValueError:
            return ""

    def has(self, record: Record) -> bool:
        """Return whether a record of inventory_records() is wanted."""
        named = self.machine in ("", record["machine"], record["name"].lower(), record["uuid"])
        verdict = record["last"]["verdict"] if record["last"] is not None else ""
        return named and self.tag in ("", *record["tags"]) and self.verdict in ("", verdict)


@frozen
class Sources:
    """What the inventory is joined from, as records of the control socket."""

    boots: Iterable[Record] = ()
    entries: Mapping[str, Entry] = field(factory=dict)
    """By MAC."""
    leases: Iterable[Record] = ()
    reservations: Iterable[Record] = ()
    next_boots: Iterable[Record] = ()
    host: Callable[[str, str], Mapping[str, object]] = lambda mac, uuid: {}
    """Returns the values of the host file of a machine, from its MAC and its UUID. It may read the disk."""


def inventory_records(sources: Sources, also: Iterable[str] = ()) -> Sequence[Record]:
    """Return a record of each machine that has booted or has an entry, the one that booted last first.

    ``name`` is that of the entry, or of the host file, the reservation or the lease, in this order; ``image`` is that
    of the entry or of the host file; ``host`` is the name of the host file, ``next`` the file that is booted once.

    :param also: MACs of machines that get a record in any case.
    """
    hostnames = _hostnames(sources)
    files = {each["mac"]: each["file"] for each in sources.next_boots}
    records = []
    seen = machines_of(map(attempt_of, sources.boots))
    for machine in seen:
        records.append(_record(machine.last.mac, machine, sources, hostnames, files))
    macs = {machine.last.mac for machine in seen}
    records += [_record(mac, None, sources, hostnames, files) for mac in sorted({*sources.entries, *also} - macs)]
    return records


def _record(
    mac: str, machine: Machine | None, sources: Sources, hostnames: Mapping[str, str], files: Mapping[str, str]
) -> Record:
    entry = sources.entries.get(mac, Entry())
    host = sources.host(mac, machine.uuid if machine is not None else "")
    last = machine.last if machine is not None else None
    return {
        "machine": machine.client if machine is not None else mac,
        "mac": mac,
        "uuid": machine.uuid if machine is not None else "",
        "name": entry.name or _host_text(host, "name") or hostnames.get(mac, ""),
        "tags": list(entry.tags),
        "image": entry.image or _host_text(host, "image"),
        "host": _host_text(host, "name"),
        "addresses": list(machine.addresses) if machine is not None else [],
        "persona": machine.persona if machine is not None else "",
        "architecture": machine.architecture if machine is not None else "",
        "boots": machine.boots if machine is not None else 0,
        "failed": machine.failed if machine is not None else 0,
        "last": None
        if last is None
        else {"id": last.id, "began": last.began, "verdict": last.verdict.value, "outcome": outcome_line(last)},
        "next": files.get(mac),
    }


def _hostnames(sources: Sources) -> Mapping[str, str]:
    """MAC -> host name: the reserved one, or that of the lease."""
    leased = {each["mac"]: each["hostname"] for each in sources.leases if each["hostname"]}
    reserved = {
        mac: each["hostname"]
        for each in sources.reservations
        if each["hostname"]
        for mac in (each["mac"], *each["other_macs"])
    }
    return {**leased, **reserved}


def _host_text(host: Mapping[str, object], key: str) -> str:
    value = host.get(key, "")
    return value if isinstance(value, str) else ""


def _text(arguments: Mapping[str, Any], key: str, default: str) -> str:
    value = arguments.get(key, default)
    if not isinstance(value, str):
        raise StateError(f"{key} must be a text, not {value!r}")
    return value


def _tags(arguments: Mapping[str, Any], key: str, default: Iterable[str] = ()) -> list[str]:
    values = arguments.get(key, default)
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(isinstance(each, str) for each in values):
        raise StateError(f'{key} must be a list of texts, such as ["rack1"], not {values!r}')
    if len(values) > MOST_TAGS:
        raise StateError(f"a machine has at most {MOST_TAGS} tags, not {len(values)}")
    for value in values:
        if not re.fullmatch(TAG, value):
            raise StateError(
                "a tag must be of at most 63 letters, digits and ._:=/-, and begin with a letter or digit, "
                f'not "{value}"'
            )
    return list(values)
