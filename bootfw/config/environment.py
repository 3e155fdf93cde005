"""Reads the configuration from environment variables, such as ``BOOTFW_TFTP_MAX_BLKSIZE=1400``."""

import itertools
import re
import tomllib
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, get_origin

from bootfw.config.schema import RENAMED, KeyPath
from bootfw.config.sections import PLUGIN_LISTS, PLUGIN_TABLES, SECTIONS, keys_of, variable_of
from bootfw.config.tables import Key
from bootfw.errors import ConfigError, nearest

PREFIX = "BOOTFW_"
_LISTED = re.compile(rf"{PREFIX}({'|'.join(PLUGIN_LISTS)})_(\d{{1,9}})_(\w+)", re.IGNORECASE)
_SINGLE = re.compile(rf"{PREFIX}({'|'.join(PLUGIN_TABLES)})_(\w+)", re.IGNORECASE)

_URL = re.compile(r"(?:tcp|udp|sctp)://.+:\d+")
_LINK = re.compile(
    r"(?P<service>\w+?)_(?:(?P<host>SERVICE_HOST)|SERVICE_PORT(?:_\w+)?|(?P<url>PORT|PORT_\d+_(?:TCP|UDP|SCTP))"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)_(?:(?P<protocol>PROTO)|(?P<address>ADDR)|PORT)|(?P<name>NAME)|(?P<env>ENV_\w+))"
)
"""Names of variables that Kubernetes sets for each service of the namespace, and Docker for each link. A service called
"bootfw" has variables that begin with our prefix."""


def variables() -> dict[str, tuple[str, Key]]:
    """Return variable -> (section, key), for all settings. The variables of plugins are described in apply()."""
    return {variable_of(section, key): (section, key) for section in SECTIONS for key in keys_of(section)}


def apply(environ: Mapping[str, str], document: dict[str, Any]) -> tuple[dict[KeyPath, str], list[ConfigError]]:
    """Set the keys of *document* for which *environ* has a variable that begins with ``BOOTFW_``.

    ``BOOTFW_<KEY>`` is a key of ``[bootfw]``, ``BOOTFW_<SECTION>_<KEY>`` one of another section,
    ``BOOTFW_WATCHDOG_<KEY>`` and ``BOOTFW_RESOLVER_<n>_<KEY>`` an option of a plugin, numbered from 0. Dashes become
    underscores. A value is parsed as TOML; if it is not TOML, it is a string. A list may also be given with commas.
    Variables that an orchestrator sets because a service is called "bootfw" are skipped.

    :return: path -> variable that set it; and the errors, whose path is the name of the variable.
    """
    origins: dict[KeyPath, str] = {}
    errors: list[ConfigError] = []
    settings = variables()
    for name in sorted(environ, key=_natural_key):
        if not name.startswith(PREFIX) or _is_service_link(name, environ):
            continue
        try:
            if name in settings:
                section, key = settings[name]
                path: KeyPath = (section, *key.path)
                value = _decode(environ[name], key.annotation)
            else:
                path, value = _plugin_path(name, settings), _decode(environ[name], Any)
            _put(document, path, value)
        except ConfigError as error:
            errors.append(error.under(name))
        else:
            origins[path] = name
    return origins, errors


def _is_service_link(name: str, environ: Mapping[str, str]) -> bool:
    """Return whether an orchestrator has set *name* for a service.

    The value has to be of the right kind. If *name* could be an option of a plugin as well, the orchestrator's other
    variables of that service have to exist too.
    """
    found = _LINK.fullmatch(name)
    if found is None:
        return False
    value, service = environ[name], found["service"]
    complete = bool(_URL.fullmatch(environ.get(f"{service}_PORT", "")))
    if found["name"] or found["env"]:
        return complete and environ.get(f"{service}_NAME", "").startswith("/")
    if found["url"]:
        fits = bool(_URL.fullmatch(value))
    elif found["protocol"]:
        fits = value in ("tcp", "udp", "sctp")
    elif found["host"] or found["address"]:
        fits = _is_address(value)
    else:
        fits = value.isdecimal()
    return fits and (complete or not (_LISTED.fullmatch(name) or _SINGLE.fullmatch(name)))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _plugin_path(name: str, settings: Iterable[str]) -> KeyPath:
    """Return the path of the plugin's option that the variable *name* sets.

    :param settings: the variables of all settings, for the error.
    :raise ConfigError: there is no such variable.
    """
    if listed := _LISTED.fullmatch(name):
        kind, index, key = listed.groups()
        return kind.lower(), int(index), key.lower().replace("_", "-")
    if single := _SINGLE.fullmatch(name):
        kind, key = single.groups()
        return kind.lower(), key.lower().replace("_", "-")
    for old, new in RENAMED.items():
        renamed = name.replace(_part_of_variable(old), _part_of_variable(new))
        if renamed != name and renamed in settings:
            raise ConfigError(f'is called "{renamed}" now')
    old, _, key = name.removeprefix(PREFIX).partition("_")
    if RENAMED.get(old.lower()) in PLUGIN_TABLES:
        raise ConfigError(f'is called "{PREFIX}{RENAMED[old.lower()].upper()}_{key}" now')
    patterns = [f"{PREFIX}{kind.upper()}_0_USE" for kind in PLUGIN_LISTS] + [
        f"{PREFIX}{kind.upper()}_USE" for kind in PLUGIN_TABLES
    ]
    # Compare names without the prefix, which would make all of them similar.
    keys = [variable.removeprefix(PREFIX) for variable in (*settings, *patterns)]
    like = nearest(name.removeprefix(PREFIX), keys).replace('"', f'"{PREFIX}', 1)
    raise ConfigError(f"unknown variable{like}")


def _part_of_variable(key: str) -> str:
    return key.upper().replace("-", "_")


def _put(document: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set *path* in *document*. Do nothing if a value on the way is not a table: the later checks report it."""
    table: Any = document
    for part, following in itertools.pairwise(path):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(part, int):
            if not isinstance(table, list):
                return
            if part > len(table):
                raise ConfigError(f"number {len(table)} is missing before it; plugins are numbered from 0")
            if part == len(table):
                table.append(empty)
            table = table[part]
        else:
            if not isinstance(table, dict):
                return
            table = table.setdefault(part, empty)
    if isinstance(table, dict):
        table[path[-1]] = value


def _decode(text: str, annotation: Any) -> Any:
    """Return the value of a variable: parsed as TOML if it is TOML, else the text; see apply()."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # not TOML, a number with too many digits, arrays that are nested too deep
        value = text
    if get_origin(annotation) is list and not isinstance(value, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    if annotation is str and not isinstance(value, str):
        return text
    return value


def _natural_key(name: str) -> list[Any]:
    """Return a sort key that puts plugin 10 after plugin 9."""
    return [(len(part.lstrip("0")), part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
