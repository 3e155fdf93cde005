"""The power of machines: the table ``power`` of their host files, which names a plugin and has its options."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bootfw.backends.hosts import Hosts
from bootfw.backends.template import TemplateBackend
from bootfw.build import Parts
from bootfw.config.configuration import Configuration
from bootfw.config.state import state_directory
from bootfw.errors import ConfigError
from bootfw.interfaces import IPower
from bootfw.plugins import PluginContext, configure, load

KEY = "power"


def power_of(host: Mapping[str, Any], configuration: Configuration) -> "IPower | None":
    """Return the power of a machine from the values of its host file; None: it has none.

    :raise ConfigError: it is wrong; the path begins with ``power``.
    """
    table = host.get(KEY)
    if table is None:
        return None
    if not isinstance(table, Mapping):
        raise ConfigError('must be a table, such as [power] use = "redfish"', (KEY,))
    use, options = table.get("use"), {key: value for key, value in table.items() if key != "use"}
    if not isinstance(use, str):
        raise ConfigError('must name the plugin, such as use = "redfish"', (KEY, "use"))
    context = PluginContext(None, configuration.directory, state_directory(configuration.settings.state_dir))
    try:
        power: IPower = configure(load(use, "bootfw.power"), options, context)
    except ConfigError as error:
        raise error.under(KEY) from error
    return power


def hosts_of(parts: Parts) -> Sequence[Hosts]:
    """Return the host files of a configuration; without any, its ``[[machine]]`` tables."""
    templates = [each for _, each in parts.backends if isinstance(each, TemplateBackend)]
    hosts = [each.hosts for each in templates if each.hosts is not None]
    return hosts or [Hosts(None, machines=[machine.host for machine in parts.settings.machine])]


def power_mistakes(parts: Parts) -> Iterator[tuple[str, str]]:
    """Yield (file or table of a machine, what is wrong with its power)."""
    for hosts in hosts_of(parts):
        for host in hosts.all():
            try:
                power_of(host, parts.configuration)
            except ConfigError as error:
                for each in error.each:
                    yield hosts.path_of(host["name"]), str(each)
