"""iPXE scripts that resolvers generate, among them one that boots the local disk."""

from urllib.parse import unquote, urlsplit

from bootfw.api import IPXE_LOCAL_BOOT, BootFile, BootRefused, BootRequest, ipxe_can_load, relative_path


def script(folder: str, text: str, request: BootRequest) -> BootFile:
    """Return *text* as a boot file of its own for the machine of *request*.

    It is loaded by HTTP if the machine supports that, since files that the script names relative to itself are loaded
    by the same protocol.
    """
    path = script_path(folder, request.mac)
    name = f"{request.http_url}/{path}" if request.http_url and ipxe_can_load("http", request) else path
    return BootFile(name, content=text.encode("utf-8", "surrogateescape"))


def script_path(folder: str, mac: str) -> str:
    """Return the path of a machine's script in *folder*."""
    return f"{folder}/{mac.replace(':', '-')}.ipxe"


def local_boot(request: BootRequest, reason: str) -> BootFile:
    """Return a boot file that makes the machine boot its own disk.

    iPXE gets a script that exits iPXE. Other firmware gets no boot file, and continues with its next boot device.

    :param reason: a sentence for the operator and the screen of the machine.
    :raise BootRefused: the client is not iPXE.
    """
    if not request.ipxe:
        raise BootRefused(f"it shall boot its own disk: {reason}")
    return script("local", f"#!ipxe\necho bootfw: {shown(reason)}\n{IPXE_LOCAL_BOOT}", request)


def shown(text: str) -> str:
    """Convert *text* to an argument of ``echo``: one line, without characters that iPXE would interpret."""
    words = text.replace("${", "$ {").split()
    return " ".join(word for word in words if word not in ("&&", "||"))


def is_url(name: str) -> bool:
    """Return whether *name* is a URL and not a path."""
    return "://" in name


def requested_path(name: str) -> str:
    """Return the TransferRequest.path with which a client requests the boot file *name*, a path or a URL."""
    return relative_path(unquote(urlsplit(name).path) if is_url(name) else name)
