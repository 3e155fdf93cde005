"""Reads Cobbler's collections: a JSON file for each system, profile and distribution, in /var/lib/cobbler.

The machines are only there: their names, hardware addresses, reservations and management controllers. What they boot is
in the tree that ``cobbler sync`` writes, which tree.py reads. The keys are those of Cobbler 2.8 to 3.3
(cobbler/items/system.py, network_interface.py).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from attrs import frozen

from bootfw.importing.draft import Draft
from bootfw.importing.outcome import Fate, Line, UnreadableConfiguration
from bootfw.importing.toml import Table, Value
from bootfw.lease import mac_text

KINDS = ("systems", "profiles", "distros")
"""The directories that are read; Cobbler 2 adds ".d" to their names."""

_INHERITED = "<<inherit>>"

_IN_THE_TREE = "what the machine boots is in the tree of boot files that cobbler sync writes: import it, too"

_BOOKKEEPING = frozenset(
    (
        *("parent", "depth", "ctime", "mtime", "uid", "comment", "owners", "is_subobject", "mgmt_classes", "status"),
        *("mgmt_parameters", "repos_enabled", "template_files", "fetchable_files", "boot_files", "serial_device"),
        *("serial_baud_rate", "proxy", "redhat_management_key", "server", "virt_auto_boot", "virt_cpus", "virt_path"),
        *("virt_disk_driver", "virt_file_size", "virt_pxe_boot", "virt_ram", "virt_type", "ipv6_autoconfiguration"),
        *("image", "ipv6_default_device"),
    )
)
"""Keys of systems without an effect on DHCP or boot files, or without one here."""

_TREE = frozenset(
    ("netboot_enabled", "kernel_options", "kernel_options_post", "boot_loaders", "enable_ipxe", "enable_gpxe")
)


@frozen
class Item:
    """One file of a collection."""

    kind: str
    """One of KINDS."""
    file: str
    values: Mapping[str, Any]

    def line(self, key: str = "") -> Line:
        """Return a Line for a key. It has no number: some versions of Cobbler write a file as one line."""
        return Line(self.file, 0, f"{key} = {json.dumps(self.values[key])}" if key else "")

    def set_keys(self) -> Iterator[str]:
        """Yield the keys that are set, not empty or inherited."""
        yield from (key for key, value in self.values.items() if value not in ("", _INHERITED, [], {}, None))

    def text(self, key: str) -> str:
        """Return a value that is text; "": there is none."""
        value = self.values.get(key, "")
        return value if isinstance(value, str) and value != _INHERITED else ""


def item(kind: str, file: str, text: str) -> Item:
    """Parse a file of a collection.

    :raise UnreadableConfiguration: it is no JSON object.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableConfiguration(f"{file}: {error}") from error
    if not isinstance(values, dict):
        raise UnreadableConfiguration(f"{file}: it is no item of Cobbler")
    return Item(kind, file, values)


def read_collections(draft: Draft, items: Iterable[Item]) -> None:
    """Add the machines of Cobbler. The subnets have to be in the draft already, for their reservations."""
    every = list(items)
    profiles = {each.text("name"): each for each in every if each.kind == "profiles"}
    clients: list[Value] = []
    for each in every:
        if each.kind == "systems":
            clients += _System(draft, each, profiles.get(each.text("profile"))).read()
        else:
            for key in each.set_keys():
                if key != "filename":
                    draft.note(each.line(key), Fate.UNNEEDED, _IN_THE_TREE)
    if clients:
        draft.resolvers.insert(
            0, Table("[[resolver]]", {"use": "by-client", "clients": clients}, ["Cobbler: filename"])
        )


@frozen
class _System:
    draft: Draft
    item: Item
    profile: Item | None

    def read(self) -> Iterator[Value]:
        """Add the machine; yield its clients of by-client."""
        values: dict[str, Value] = {"name": self.item.text("name")}
        macs = list(self._interfaces())
        if macs:
            values["mac"] = macs[0] if len(macs) == 1 else macs
            self.draft.note(self.item.line("name"), Fate.EXPRESSED, "[[machine]]")
        else:
            self.draft.note(self.item.line("name"), Fate.LEFT_OUT, "it has no hardware address")
        for key in self.item.set_keys():
            self._key(key, values)
        if macs:
            table = Table("[[machine]]", values, [self.item.file])
            power = self._power()
            if power:
                table.below.append(Table("[machine.power]", dict(power)))
            self.draft.machines.append(table)
            yield from ({"mac": mac, "file": file} for mac in macs for file in self._filename())

    def _key(self, key: str, values: dict[str, Value]) -> None:
        item, note = self.item, self.draft.note
        if key in ("name", "interfaces", "filename", "hostname", "power_address"):
            return
        if key.startswith("power_"):  # not its value, which may be the password
            note(Line(item.file, 0, key), Fate.UNNEEDED, "it belongs to power_address")
            return
        if key in ("profile", "gateway"):
            values[key] = item.text(key)
            note(item.line(key), Fate.EXPRESSED, f"{key} in [[machine]], for templates")
        elif key in _TREE or key.startswith("next_server"):
            note(item.line(key), Fate.UNNEEDED, _IN_THE_TREE)
        elif key in _BOOKKEEPING:
            note(item.line(key), Fate.UNNEEDED, "it has no effect on DHCP or boot files")
        elif key in ("autoinstall", "kickstart", "autoinstall_meta", "ks_meta"):
            note(item.line(key), Fate.LEFT_OUT, "answers are templates of bootfw: docs/howto/install.md")
        else:
            note(item.line(key), Fate.LEFT_OUT, f"bootfw import does not know {key}")

    def _interfaces(self) -> Iterator[str]:
        """Add the reservations; yield the hardware addresses."""
        interfaces = self.item.values.get("interfaces")
        for name, each in interfaces.items() if isinstance(interfaces, dict) else ():
            configured = {
                key: value for key, value in each.items() if value not in ("", "na", [], False, None, _INHERITED)
            }
            line = Line(self.item.file, 0, f"interfaces.{name} = {json.dumps(configured)}")
            try:
                mac = mac_text(str(each.get("mac_address") or ""))
            except ValueError:
                self.draft.note(line, Fate.LEFT_OUT, "it has no hardware address")
                continue
            if each.get("interface_type") == "bmc":
                self.draft.note(line, Fate.UNNEEDED, "it is the management controller")
                continue
            self._reserve(line, mac, each)
            yield mac

    def _reserve(self, line: Line, mac: str, interface: Mapping[str, Any]) -> None:
        text = str(interface.get("ip_address") or "")
        if not text:
            self.draft.note(line, Fate.EXPRESSED, "mac in [[machine]]")
            return
        try:
            address = ip_address(text)
        except ValueError:
            self.draft.note(line, Fate.LEFT_OUT, f"{text} is not an address")
            return
        subnet = self.draft.subnet_of(address)
        if subnet is None:
            reason = f"no subnet has {text}: import the configuration of the DHCP server with it"
            self.draft.note(line, Fate.LEFT_OUT, reason)
            return
        if any(mac == host.values.get("mac") for host in subnet.below):
            self.draft.note(line, Fate.UNNEEDED, "the configuration of the DHCP server has it already")
            return
        values: dict[str, Value] = {"mac": mac, "address": str(address)}
        hostname = self.item.text("hostname") or str(interface.get("dns_name") or "")
        if hostname:
            values["hostname"] = hostname
        self.draft.host(subnet, values, line)
        self.draft.note(line, Fate.EXPRESSED, "a host of its subnet")

    def _power(self) -> Mapping[str, Value]:
        """Return the table of the management controller; empty: there is none, or bootfw does not support it."""
        kind, address = self.item.text("power_type"), self.item.text("power_address")
        if not address:
            return {}
        line = self.item.line("power_address")
        if kind != "redfish":
            reason = f"{kind or 'this type'}: bootfw switches machines by Redfish, or by a plugin: docs/howto/power.md"
            self.draft.note(line, Fate.LEFT_OUT, reason)
            return {}
        self.draft.note(line, Fate.ASSUMED, "write the password into a file, and name it: password-file")
        found = {"use": "redfish", "address": address, "user": self.item.text("power_user")}
        return {key: value for key, value in found.items() if value}

    def _filename(self) -> Iterator[str]:
        """Yield the boot file that Cobbler names to the machine, if there is one: its own, or that of its profile."""
        for each in (self.item, self.profile):
            if each is not None and each.text("filename"):
                self.draft.note(each.line("filename"), Fate.EXPRESSED, "by-client")
                yield each.text("filename")
                return
