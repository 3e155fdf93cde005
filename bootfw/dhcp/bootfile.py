"""Adapt the boot file or menu that a resolver returned to what the client can load."""

from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_pton
from urllib.parse import quote

from attrs import evolve, frozen

from bootfw.dhcp.expand import expand, not_served
from bootfw.errors import BootRefused, WireError
from bootfw.values import BootFile, BootMenu, BootRequest, Option43, Persona, only_phase
from bootfw.wire.iana import architecture_codes
from bootfw.wire.options import IPXESuboption, Option, ipxe, text_bytes

NAME_MAX = 254
"""Longest name in bytes, without its NUL. EDK2 and iPXE don't join split options (RFC 3396), so one option holds it."""


_PLAIN = "/:@!$&'()*+,;=~"
"""Characters that are not percent-encoded in the path of a URL (RFC 3986 section 3.3), beside letters, digits, -._"""

_BACKSLASH = "\\"

# UEFI goes on with its next boot option only if iPXE fails; after success it shows its boot menu and waits (UEFI 2.10
# section 3.1.1).
IPXE_LOCAL_BOOT = """\
iseq ${platform} efi && exit 1 ||
exit 0
"""
"""The last lines of an iPXE script that leaves the machine to its local disk."""


@frozen
class Unsuitable:
    """The client can't use the boot file or menu."""

    reason: str
    """For the operator, one sentence."""


def adapt_menu(
    menu: BootMenu, request: BootRequest, persona: Persona, is_ipxe_program: Callable[[str], bool]
) -> BootMenu | BootFile | Unsuitable:
    """Return *menu* with the items that the client can use, or the file of the item that it requests on port 4011.

    :param is_ipxe_program: whether a file of that name is iPXE itself.
    """
    if request.http or persona.option_43 is not Option43.MENU:
        return Unsuitable(f'the menu is not shown: that takes a persona with option-43 = "menu", not {persona.name}')
    if request.phase != "boot-server":
        found = [(item, item.file and adapt(item.file, request, is_ipxe_program)) for item in menu.items]
        usable = [evolve(item, file=file) for item, file in found if not isinstance(file, Unsuitable)]
        if any(item.file is not None for item in usable):
            return evolve(menu, items=usable)
        return next(
            (file for _, file in found if isinstance(file, Unsuitable)), Unsuitable("nothing but the disk to boot")
        )
    for item in menu.items:
        if item.file is not None and item.type == request.boot_item:
            return adapt(item.file, request, is_ipxe_program)
    if request.boot_item is None:
        return Unsuitable("its request to the boot server names no item of the menu")
    return Unsuitable(f"it requests item {request.boot_item} of a menu, and our menu has no such item")


def adapt(file: BootFile, request: BootRequest, is_ipxe_program: Callable[[str], bool]) -> BootFile | Unsuitable:
    """Return *file* with its placeholders filled in and its name in the form that the client loads, or Unsuitable.

    :param is_ipxe_program: whether a file of that name is iPXE itself.
    """
    try:
        # Most names have no placeholder, and most files have no name but one: the others are for PXELINUX.
        name = expand(file.name, request) if "{" in file.name else file.name
        configfile = file.configfile and expand(file.configfile, request)
        pathprefix = file.pathprefix and expand(file.pathprefix, request)
    except BootRefused as refused:
        return Unsuitable(refused.reason)
    for attribute, value in (("configfile", configfile), ("pathprefix", pathprefix)):
        if value and (len(text_bytes(value)) > NAME_MAX or "\0" in value):
            return Unsuitable(f"its {attribute} has a NUL, or more than {NAME_MAX} bytes")
    phase = only_phase(name) if ":" in name else ""
    if phase:
        return Unsuitable(f'"{name}" is for a boot program that asks by {phase}')
    size = len(name) if name.isascii() else len(text_bytes(name))
    if not size or size > NAME_MAX or "\0" in name:
        return Unsuitable(f"the name of the boot file has {size} bytes or a NUL; there is room for 1 to {NAME_MAX}")
    if file.server is not None and not _is_address(file.server, request.family):
        return Unsuitable(f'"{file.server}", which should serve the boot file, is no IPv{request.family} address')
    is_url = "://" in name
    if request.http:
        if not is_url and file.server is None:
            # What is served by TFTP is served by HTTP too.
            server_url = request.http_url or request.https_url
            if not server_url:
                return Unsuitable(f'"{name}" is a path, this client boots by HTTP, and {not_served("http")}')
            name = f"{server_url}/{quote(name.replace(_BACKSLASH, '/').lstrip('/'), safe=_PLAIN)}"
            if len(name) > NAME_MAX:
                return Unsuitable(f'"{name}" has {len(name)} bytes; there is room for {NAME_MAX}')
        elif not name.lower().startswith(("http://", "https://")):
            key = http_architecture(request)
            return Unsuitable(
                f'"{name}" is no http:// or https:// URL, and this client boots by nothing else; '
                f'by-architecture takes one as [resolver.files] "{key}" = "{{http}}/..."'
            )
    elif request.ipxe:
        scheme = name.partition("://")[0].lower() if is_url else "tftp"
        if not ipxe_can_load(scheme, request):
            return Unsuitable(f'"{name}": this build of iPXE has no {scheme.upper()}, by its option 175')
        if is_ipxe_program(_last_part(name)):
            return Unsuitable(
                f'the client is iPXE already and would load iPXE ("{name}") for ever; give it a script, '
                'with by-architecture as [resolver.files] "ipxe" = "..."'
            )
    elif is_url and not (request.family == 6 and name.lower().startswith("tftp://")):
        return Unsuitable(f'"{name}" is a URL, and this client loads by TFTP only')
    if request.family == 6 and "://" not in name:
        # DHCPv6 knows URLs only (RFC 5970 section 3.1). EDK2 and iPXE take the host as a literal.
        name = f"tftp://[{file.server or request.server}]/{name.lstrip('/')}"
    return evolve(file, name=name, configfile=configfile, pathprefix=pathprefix)


def http_architecture(request: BootRequest) -> str:
    """Return the name of the client's architecture with "-http": some firmware sends the code without HTTP when it
    boots by HTTP."""
    name = request.architecture.removesuffix("-http") + "-http"
    return name if architecture_codes(name) else request.architecture


_SCHEMES = {"http": IPXESuboption.HTTP, "https": IPXESuboption.HTTPS, "tftp": IPXESuboption.TFTP}
_FEATURES = range(0x10, 0x50)  # iPXE, src/include/ipxe/features.h


def ipxe_can_load(scheme: str, request: BootRequest) -> bool:
    """Return whether this iPXE has a protocol built in, by its option 175; true if that option lists no features.

    :param scheme: "http", "https" or "tftp", in lower case.
    """
    try:
        features = ipxe(request.options.get(Option.IPXE_ENCAPSULATED, b""))
    except WireError:
        return True
    feature = _SCHEMES.get(scheme)
    return feature is None or feature in features or not any(code in _FEATURES for code in features)


def _is_address(text: str, family: int) -> bool:
    try:
        inet_pton(AF_INET6 if family == 6 else AF_INET, text)
    except OSError:
        return False
    return True


def _last_part(name: str) -> str:
    path = name.partition("?")[0].partition("#")[0]
    return path.replace("\\", "/").rpartition("/")[2]
