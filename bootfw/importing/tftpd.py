"""Reads how tftpd-hpa, atftpd and xinetd's tftp are started: files of shell variables, and xinetd's services.

Sources: tftpd(8) of tftp-hpa 5.2, atftpd(8) of atftp 0.8, xinetd.conf(5).
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from bootfw.config.settings import group_range
from bootfw.importing.draft import Draft
from bootfw.importing.outcome import Fate, Line

_VARIABLE = re.compile(r"(?:export\s+)?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)")
_SETTING = re.compile(r"(?P<name>\w+)\s*\+?=\s*(?P<value>.*)")

_HPA_VALUES = frozenset("uaAmBRtrPbTVU")
"""Short options of in.tftpd with a value."""

# fmt: off
_SHORT: Mapping[str, str] = {
    "l": "listen", "L": "foreground", "4": "ipv4", "6": "ipv6", "c": "create", "s": "secure",
    "u": "user", "a": "address", "p": "permissive", "m": "map-file", "v": "verbose", "B": "blocksize",
    "r": "refuse", "R": "port-range", "t": "timeout", "T": "retransmit", "P": "pidfile", "U": "umask",
}
# fmt: on
"""Short option -> long option of in.tftpd."""

_UNNEEDED: Mapping[str, str] = {
    "listen": "bootfw runs by itself",
    "foreground": "bootfw run stays in the foreground",
    "daemon": "bootfw runs by itself",
    "no-fork": "bootfw run stays in the foreground",
    "verbose": "bootfw logs each transfer",
    "verbosity": "bootfw logs each transfer",
    "logfile": "bootfw logs to its standard output or the journal: [log]",
    "pidfile": "bootfw run has none",
    "secure": "bootfw never serves what is outside of the root",
    "permissive": "bootfw serves what its user can read",
    "user": "the unit of bootfw, or user in [bootfw], says so",
    "group": "the unit of bootfw, or user in [bootfw], says so",
    "timeout": "bootfw runs by itself, and does not end after a pause",
    "tftpd-timeout": "bootfw runs by itself, and does not end after a pause",
    "retransmit": "the watchdog of bootfw measures the round trip",
    "retry-timeout": "the watchdog of bootfw measures the round trip",
    "maxthread": "bootfw has no such limit",
    "no-multicast": "bootfw has no multicast without addresses for it",
    "mcast-switch-client": "bootfw passes on by itself from a client that is silent",
    "umask": "an upload gets the permissions of the umask of bootfw",
    "trace": "bootfw logs each transfer",
}

_LEFT_OUT: Mapping[str, str] = {
    "mtftp": "bootfw has no MTFTP, the multicast of PXE before RFC 2090: clients load one by one",
    "pcre": "bootfw has no patterns for paths in TFTP: write a template with files, or links in the directory",
    "prevent-sas": "bootfw answers every request once, without an option for it",
    "refuse": "bootfw leaves an option out for single kinds of clients: refuse-options of a [[persona]]",
}


def is_tftpd(text: str) -> bool:
    """Return whether *text* sets up a TFTP server: variables of Debian's packages, or a service of xinetd."""
    variables = re.search(r"^(export\s+)?TFTP_(DIRECTORY|ADDRESS|OPTIONS|USERNAME)=", text, re.M)
    atftpd = re.search(r"^OPTIONS=.*(--tftpd-timeout|--retry-timeout|--maxthread|--mcast)", text, re.M)
    return bool(variables or atftpd or re.search(r"^\s*service\s+tftp\b", text, re.M))


def read_tftpd(draft: Draft, files: Sequence[tuple[str, str]], load: Callable[[Path], str]) -> None:
    """Translate the configuration of a TFTP server into *draft*.

    :param files: (name, text) of each.
    :param load: reads a file that another one names; raises OSError.
    """
    for name, text in files:
        if re.search(r"^\s*service\s+\w+", text, re.M):
            _read_xinetd(draft, name, text, load)
        else:
            _read_variables(draft, name, text, load)


def _read_variables(draft: Draft, name: str, text: str, load: Callable[[Path], str]) -> None:
    hpa = "TFTP_" in text
    for line in _lines(name, text):
        found = _VARIABLE.fullmatch(line.text)
        if found is None:
            draft.note(line, Fate.LEFT_OUT, "this is not a variable: write what it does into the configuration")
            continue
        try:
            arguments = shlex.split(found["value"], comments=True)
            _variable(draft, found["name"], " ".join(arguments), line, load, hpa)
        except ValueError as error:
            draft.note(line, Fate.LEFT_OUT, f"it can't be read: {error}")


def _variable(draft: Draft, name: str, value: str, line: Line, load: Callable[[Path], str], hpa: bool) -> None:
    match name:
        case "TFTP_DIRECTORY":
            _root(draft, value, line)
        case "TFTP_ADDRESS":
            _listen(draft, value, line)
        case "TFTP_OPTIONS" | "OPTIONS":
            _options(draft, shlex.split(value), line, load, hpa)
        case "TFTP_USERNAME":
            draft.note(line, Fate.UNNEEDED, _UNNEEDED["user"])
        case "USE_INETD" if value == "true":
            draft.note(line, Fate.ASSUMED, "bootfw binds the port itself: inetd has to leave it")
        case "USE_INETD" | "RUN_DAEMON":
            draft.note(line, Fate.UNNEEDED, "bootfw runs by itself")
        case _:
            draft.note(line, Fate.LEFT_OUT, f"bootfw import does not know {name}")


def _read_xinetd(draft: Draft, name: str, text: str, load: Callable[[Path], str]) -> None:
    for line in _lines(name, text):
        if line.text in ("{", "}") or re.match(r"service\s|service$", line.text):
            draft.note(line, Fate.EXPRESSED, "[tftp]")
            continue
        found = _SETTING.fullmatch(line.text)
        if found is None:
            draft.note(line, Fate.LEFT_OUT, "this is not a setting of xinetd")
            continue
        value = found["value"].strip()
        match found["name"]:
            case "server_args":
                try:
                    _options(draft, shlex.split(value), line, load, "in.tftpd" in text or "atftpd" not in text)
                except ValueError as error:
                    draft.note(line, Fate.LEFT_OUT, f"it can't be read: {error}")
            case "bind" | "interface":
                _listen(draft, value, line)
            case "port":
                _listen(draft, f":{value}", line)
            case "disable" if value == "yes":
                draft.note(line, Fate.ASSUMED, "it is disabled in xinetd; here it serves")
            case "only_from":
                _clients(draft, "allow", value, line)
            case "no_access":
                _clients(draft, "deny", value, line)
            case "socket_type" | "protocol" | "wait" | "user" | "group" | "server" | "disable" | "flags" | "type":
                draft.note(line, Fate.UNNEEDED, "bootfw runs by itself")
            case "per_source" | "cps" | "instances" | "log_type" | "log_on_success" | "log_on_failure" | "id" | "nice":
                draft.note(line, Fate.UNNEEDED, "bootfw has its own limits and log: requests-per-second in [bootfw]")
            case other:
                draft.note(line, Fate.LEFT_OUT, f"bootfw import does not know {other}")


def _lines(name: str, text: str) -> Iterator[Line]:
    for number, raw in enumerate(text.splitlines(), 1):
        stripped = raw.strip()
        if stripped and not stripped.startswith("#"):
            yield Line(name, number, stripped)


def _root(draft: Draft, root: str, line: Line) -> None:
    if not root.startswith("/"):
        draft.note(line, Fate.LEFT_OUT, f'"{root}" is not the path of a directory: write a [[backend]]')
        return
    draft.backend(root, line)
    draft.note(line, Fate.EXPRESSED, "[[backend]]")


def _clients(draft: Draft, key: str, value: str, line: Line) -> None:
    for client in value.replace(",", " ").split():
        draft.append("bootfw", key, client, line)


def _listen(draft: Draft, value: str, line: Line) -> None:
    """Add an address with or without a port: ":69", "0.0.0.0:69", "[::]:69", "10.0.0.1"."""
    host, colon, port = value.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = value, "69"
    host = host.strip("[]")
    try:
        addresses = [str(ip_address(host))] if host else ["0.0.0.0", "::"]
        number = int(port or "69")
    except ValueError:
        draft.note(line, Fate.LEFT_OUT, f'"{value}" is not an address: write listen in [tftp]')
        return
    for address in addresses:
        draft.append("tftp", "listen", f"[{address}]:{number}" if ":" in address else f"{address}:{number}", line)


def _options(draft: Draft, arguments: Sequence[str], line: Line, load: Callable[[Path], str], hpa: bool) -> None:
    if not arguments:
        draft.note(line, Fate.UNNEEDED, "it is empty")
    for name, value in _parsed(arguments, hpa):
        match name:
            case "":
                _root(draft, value, line)
            case "create":
                draft.set("tftp", "writable", True, line)
                draft.note(line, Fate.ASSUMED, "--create: an upload of bootfw never replaces a file")
            case "blocksize":
                draft.set("tftp", "max-blksize", int(value), line)
            case "no-blksize":
                draft.set("tftp", "max-blksize", 512, line)
            case "address" | "bind-address":
                _listen(draft, value, line)
            case "port":
                _listen(draft, f":{value}", line)
            case "ipv4":
                draft.append("tftp", "listen", "0.0.0.0:69", line)
            case "ipv6":
                draft.append("tftp", "listen", "[::]:69", line)
            case "port-range":
                draft.set("tftp", "ports", value.replace(":", "-"), line)
            case "mcast-addr":
                _groups(draft, value, line)
            case "mcast-ttl":
                draft.set("tftp", "multicast-ttl", int(value), line)
            case "mcast-port":
                draft.note(
                    line, Fate.ASSUMED, f"{name}: the groups of bootfw have port 1758 each, and addresses of their own"
                )
            case "map-file":
                _remap(draft, value, line, load)
            case _ if name in _UNNEEDED:
                draft.note(line, Fate.UNNEEDED, f"{name}: {_UNNEEDED[name]}")
            case _ if name in _LEFT_OUT:
                draft.note(line, Fate.LEFT_OUT, f"{name}: {_LEFT_OUT[name]}")
            case _:
                draft.note(line, Fate.LEFT_OUT, f"bootfw import does not know the option {name}")


def _groups(draft: Draft, value: str, line: Line) -> None:
    """Addresses as atftpd has them: ``239.255.0.0-255,239.255.1.7``; a range is of the last byte."""
    parts = value.split(",")
    first, dash, last = parts[0].strip().partition("-")
    groups = f"{first}-{first.rpartition('.')[0]}.{last}" if dash else first
    group_range(groups)
    draft.set("tftp", "multicast-groups", groups, line)
    if len(parts) > 1:
        draft.note(
            line, Fate.LEFT_OUT, f"mcast-addr: bootfw takes one range, so these are left out: {', '.join(parts[1:])}"
        )


def _parsed(arguments: Sequence[str], hpa: bool) -> Iterator[tuple[str, str]]:
    """Yield (long name, value) of each option, and ("", path) of a directory."""
    remaining = list(arguments)
    with_value = {
        "address",
        "user",
        "map-file",
        "blocksize",
        "refuse",
        "port-range",
        "timeout",
        "retransmit",
        "pidfile",
    }
    with_value |= {"umask", "tftpd-timeout", "retry-timeout", "mcast-port", "mcast-addr", "mcast-ttl", "maxthread"}
    with_value |= {"mtftp", "port", "bind-address", "group", "logfile", "pcre", "verbosity"}
    while remaining:
        argument = remaining.pop(0)
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            if not equals and name in with_value and remaining:
                value = remaining.pop(0)
            yield name, value
        elif argument.startswith("-") and len(argument) > 1:
            letters = argument[1:]
            for at, letter in enumerate(letters):
                name = _SHORT.get(letter, letter)
                if letter in _HPA_VALUES and hpa:
                    yield name, letters[at + 1 :] or (remaining.pop(0) if remaining else "")
                    break
                yield name, ""
        else:
            yield "", argument


def _remap(draft: Draft, path: str, line: Line, load: Callable[[Path], str]) -> None:
    """Note the rules of a map file: OPERATION PATTERN REPLACEMENT (tftpd(8), "filename remapping")."""
    try:
        text = load(Path(path))
    except OSError as error:
        draft.note(
            line, Fate.LEFT_OUT, f"{path} can't be read: {error.strerror}; write its names as links in the directory"
        )
        return
    for rule in _lines(path, text):
        fields = rule.text.split()
        operation, pattern = fields[0], fields[1] if len(fields) > 1 else ""
        if re.fullmatch(r"r?g?r?", operation) and pattern in ("\\\\", r"\\") and fields[2:3] == ["/"]:
            draft.note(rule, Fate.UNNEEDED, "bootfw serves paths with backslashes")
        elif "i" in operation and "r" not in operation and not fields[2:]:
            draft.note(rule, Fate.LEFT_OUT, "set ignore-case = true in [[backend]] for names in other case")
        elif re.fullmatch(r"r?g?r?", operation) and pattern == "^/" and not fields[2:3]:
            draft.note(rule, Fate.UNNEEDED, "bootfw serves paths below the root, with a slash in front or without one")
        else:
            reason = (
                "bootfw maps no names of TFTP: make a link in the directory, or a template with files for the pattern"
            )
            draft.note(rule, Fate.LEFT_OUT, reason)
    draft.note(line, Fate.EXPRESSED, f"{path} is read")
