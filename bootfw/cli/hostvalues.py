"""The values of machines: what their host files say."""

from collections.abc import Callable, Mapping
from typing import Any

from bootfw.backends.hosts import HostFileError, Hosts
from bootfw.backends.names import Identifiers
from bootfw.backends.template import TemplateBackend
from bootfw.build import assemble
from bootfw.cli.failure import CommandError
from bootfw.config.configuration import Configuration


def host_files(configuration: Configuration) -> Callable[[str, str], Mapping[str, Any]]:
    """Return a function that returns the values of a machine's host file; it is called with its MAC and its UUID.

    It raises CommandError for a file with a mistake.
    """
    backends = [backend for _, backend in assemble(configuration, None).backends]
    hosts = [each.hosts for each in backends if isinstance(each, TemplateBackend) and each.hosts is not None]
    hosts = hosts or [Hosts(None, machines=[machine.host for machine in configuration.settings.machine])]

    def host_of(mac: str, uuid: str) -> Mapping[str, Any]:
        for each in hosts:
            try:
                host = each.find([Identifiers(mac, uuid)])
            except HostFileError as error:
                raise CommandError(str(error)) from error
            if host.get("name"):
                return host
        return {}

    return host_of


def text_value(host: Mapping[str, Any], key: str) -> str:
    """Return a value of a host file; "": it is not there.

    :raise CommandError: it is no string.
    """
    value = host.get(key, "")
    if not isinstance(value, str):
        raise CommandError(f'the host file of {host["name"]}: "{key}" must be a string')
    return value
