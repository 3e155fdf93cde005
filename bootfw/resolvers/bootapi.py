"""Converts the answer of a boot API in the style of Pixiecore to an iPXE script.

The format of the answer is that of danderson/netboot, pixiecore/README.api.md.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from attrs import frozen

from bootfw.resolvers.scripts import shown

SCHEMES = ("http", "https", "tftp")
"""Schemes of the URLs that iPXE may load."""

_URL = re.compile(r'\{\{\s*URL\s+"([^"]*)"\s*\}\}')
"""The only template that Pixiecore supports in a command line."""


@frozen
class BootAnswer:
    """The answer of the API for one machine."""

    script: str
    """The iPXE script."""
    schemes: frozenset[str] = frozenset()
    """URL schemes that iPXE has to support to run it."""


def boot_answer(body: bytes, api: str) -> BootAnswer:
    """Parse the body of a response with status 200.

    :param api: the URL of the API, without ``/v1``; relative URLs in the answer are relative to it.
    :raise ValueError: the answer is invalid; the message names the key.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the answer is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("the answer must be a JSON object")
    script = document.get("ipxe-script")
    if script is not None:
        if not isinstance(script, str) or not script.startswith("#!ipxe"):
            raise ValueError('"ipxe-script" must be a string that begins with "#!ipxe"')
        return BootAnswer(script)
    base = f"{api}/v1"
    kernel = _url(document.get("kernel"), base, "kernel")
    initrds = document.get("initrd") or []
    if not isinstance(initrds, list):
        raise ValueError('"initrd" must be a list of strings')
    urls = [_url(each, base, f"initrd[{index}]") for index, each in enumerate(initrds)]
    message = document.get("message") or ""
    if not isinstance(message, str):
        raise ValueError('"message" must be a string')
    arguments = _command_line(document.get("cmdline"), base)
    schemes = frozenset(urlsplit(each).scheme for each in (kernel, *urls))
    return BootAnswer("\n".join(_lines(kernel, urls, arguments, message)) + "\n", schemes)


def _lines(kernel: str, initrds: Sequence[str], arguments: Sequence[str], message: str) -> Iterator[str]:
    yield "#!ipxe"
    for line in message.splitlines():
        yield f"echo {shown(line)}"
    yield f"kernel --name kernel {kernel}"
    for number, initrd in enumerate(initrds):
        yield f"initrd --name initrd{number} {initrd}"
    # On UEFI the kernel finds its initrds by these arguments.
    yield " ".join(("boot kernel", *(f"initrd=initrd{number}" for number in range(len(initrds))), *arguments))


def _url(value: Any, base: str, location: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f'"{location}" must be a URL')
    if not value.isprintable() or " " in value:
        raise ValueError(f'"{location}" must have no blanks in it')
    url = urljoin(base, value)
    scheme = urlsplit(url).scheme
    if scheme == "file":
        raise ValueError(
            f'"{location}": {value}: file:// URLs are not served; put the file into a [[backend]] and use its URL'
        )
    if scheme not in SCHEMES:
        raise ValueError(f'"{location}": {value}: must be a URL of {", ".join(SCHEMES)}')
    return url


def _command_line(value: Any, base: str) -> Sequence[str]:
    if value is None:
        return ()
    if isinstance(value, Mapping):
        return [_parameter(key, item, base) for key, item in value.items()]
    if not isinstance(value, str):
        raise ValueError('"cmdline" must be a string or an object')
    line = _URL.sub(lambda found: _url(found[1], base, "cmdline"), value)
    if "{{" in line:
        raise ValueError('"cmdline": the only template is {{ URL "..." }}')
    return _checked(line.split())


def _parameter(key: str, value: Any, base: str) -> str:
    if value is True:
        return _checked([key])[0]
    if isinstance(value, Mapping):
        value = _url(value.get("url"), base, f"cmdline.{key}.url")
    if not isinstance(value, str):
        raise ValueError(f'"cmdline.{key}" must be a string, true, or an object with "url"')
    # A blank ends an argument of the kernel, except in quotes.
    text = f'{key}="{value}"' if " " in value else f"{key}={value}"
    return " ".join(_checked(text.split()))


def _checked(arguments: Sequence[str]) -> Sequence[str]:
    for argument in arguments:
        if argument in ("&&", "||"):
            raise ValueError(f'"cmdline": {argument} would end the command in iPXE')
        if not argument.isprintable():
            raise ValueError('"cmdline" must be printable')
    return arguments
