"""The commands of tmcd."""

from collections.abc import Iterable, Sequence

from attrs import frozen


@frozen
class Command:
    """A command of tmcd."""

    name: str
    needs_experiment: bool = False
    """A free node gets no reply."""
    tcp_only: bool = False
    """A request by UDP gets no reply."""


def _commands(names: str, *, needs_experiment: bool = False, tcp_only: bool = False) -> list[Command]:
    return [Command(name, needs_experiment, tcp_only) for name in names.split()]


COMMANDS: Sequence[Command] = (
    *_commands("reboot nodeid status"),
    # A word is taken for the first command that it begins with: the longer one of two comes first.
    *_commands("ifconfig", needs_experiment=True),
    *_commands("accounts"),
    *_commands("delay linkdelay hostnames rpms tarballs startupcmd", needs_experiment=True),
    *_commands("startstatus startstat readycount ready mounts", needs_experiment=True),
    *_commands("loadinfo"),
    *_commands("routing trafgens", needs_experiment=True),
    *_commands("nseconfigs", needs_experiment=True, tcp_only=True),
    *_commands("creator", needs_experiment=True),
    *_commands("state"),
    *_commands("tunnels", needs_experiment=True),
    *_commands("vnodelist subnodelist isalive"),
    *_commands("ipodinfo ntpinfo", tcp_only=True),
    *_commands("ntpdrift sdparams"),
    *_commands("programs syncserver keyhash eventkey", needs_experiment=True),
    *_commands("fullconfig routelist", needs_experiment=True),
    *_commands("role rusage watchdoginfo hostkeys firewallinfo localization rootpswd battery userenv tiptunnels"),
    *_commands("traceinfo motelog", needs_experiment=True),
    *_commands("bootwhat bootlog bridges blobs manifest tpmblob tpmpubkey dhcpdconf"),
)
"""In the order in which Emulab's tmcd searches them."""

PHYSICAL = (
    *("nodeid", "manifest", "ifconfig", "accounts", "delay", "bridges", "linkdelay", "rpms", "tarballs", "blobs"),
    *("startupcmd", "mounts", "routing", "trafgens", "nseconfigs", "creator", "tunnels", "vnodelist", "subnodelist"),
    *("ipodinfo", "ntpinfo", "sdparams", "programs", "syncserver", "keyhash", "eventkey", "routelist", "role"),
    *("watchdoginfo", "firewallinfo", "localization", "userenv", "tiptunnels", "traceinfo", "motelog", "tpmblob"),
    *("tpmpubkey", "dhcpdconf"),
)
"""The commands in "fullconfig" of a physical node, in their order."""

_OF_THE_MACHINE = frozenset(
    ("vnodelist", "subnodelist", "ipodinfo", "ntpinfo", "sdparams", "routelist", "role", "firewallinfo", "tpmblob")
) | {"tpmpubkey", "localization", "manifest", "bridges"}

VIRTUAL = tuple(name for name in PHYSICAL if name not in _OF_THE_MACHINE)
"""The same of a virtual node, without those that are about the physical machine."""


def find(word: str, further_names: Iterable[str] = ()) -> Command | None:
    """Return the first command whose name *word* begins with, as in Emulab's tmcd; None: there is none.

    :param word: the first word of a request.
    :param further_names: names of further commands, which are searched after COMMANDS.
    """
    found = next((command for command in COMMANDS if word.startswith(command.name)), None)
    if found is not None:
        return found
    name = max((name for name in further_names if word.startswith(name)), key=len, default="")
    return Command(name) if name else None
