"""iPXE scripts of resolvers; one of them boots the local disk."""

from urllib.parse import unquote, urlsplit

from bootfw.api import IPXE_LOCAL_BOOT, BootFile, BootRefused, BootRequest, ipxe_can_load, relative_path


def script(folder: str, text: str, request: BootRequest) -> BootFile:
    """*text* as a file for this machine alone.

    It is loaded by HTTP if the machine can, since files that the script names relative to itself are loaded by the same
    protocol.
    """
    path = script_path(folder, request.mac)
    name = f"{request.http_url}/{path}" if request.http_url and ipxe_can_load("http", request) else path
    return BootFile(name, content=text.encode("utf-8", "surrogateescape"))


def script_path(folder: str, mac: str) -> str:
    """The path of a machine's script in *folder*."""
    return f"{folder}/{mac.replace(':', '-')}.ipxe"


def local_boot(request: BootRequest, reason: str) -> BootFile:
    """The answer after which the machine boots its own disk.

    iPXE gets a script that leaves it; other firmware gets no boot file and so tries what comes next in its order.

    :param reason: for the operator and the machine's screen, one sentence.
    :raise BootRefused: it is no iPXE.
    """
    if not request.ipxe:
        raise BootRefused(f"it shall boot its own disk: {reason}")
    return script("local", f"#!ipxe\necho bootfw: {shown(reason)}\n{IPXE_LOCAL_BOOT}", request)


def shown(text: str) -> str:
    """*text* as an argument of ``echo``, on one line, without characters that iPXE would interpret."""
    words = text.replace("${", "$ {").split()
    return " ".join(word for word in words if word not in ("&&", "||"))


def is_url(name: str) -> bool:
    """Whether *name* is a URL, and no path."""
    return "://" in name


def requested_path(name: str) -> str:
    """The TransferRequest.path of a client whose boot file is *name*, a path or a URL."""
    return relative_path(unquote(urlsplit(name).path) if is_url(name) else name)
