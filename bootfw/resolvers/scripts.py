"""iPXE scripts that resolvers make, the one that has a machine boot its own disk among them."""

from urllib.parse import unquote, urlsplit

from bootfw.api import BootFile, BootRefused, BootRequest, ipxe_can_load


def script(folder: str, text: str, request: BootRequest) -> BootFile:
    """*text* as a file for this machine alone.

    It comes by HTTP where the machine can, for what the script names relative to itself comes the same way.
    """
    path = script_path(folder, request.mac)
    name = f"{request.http_url}/{path}" if request.http_url and ipxe_can_load("http", request) else path
    return BootFile(name, content=text.encode("utf-8", "surrogateescape"))


def script_path(folder: str, mac: str) -> str:
    """Where it is served."""
    return f"{folder}/{mac.replace(':', '-')}.ipxe"


def local_boot(request: BootRequest, reason: str) -> BootFile:
    """What has the machine go on to its own disk.

    iPXE gets a script that leaves it; other firmware gets no boot file and so tries what comes next in its order.

    :param reason: for the operator and the machine's screen, one sentence.
    :raise BootRefused: it is no iPXE.
    """
    if not request.ipxe:
        raise BootRefused(f"it shall boot its own disk: {reason}")
    # An iPXE that was started by UEFI has to fail for the firmware to go on with its next boot option: after success
    # UEFI 2.10 section 3.1.1 shows the boot menu and waits.
    lines = ("#!ipxe", f"echo bootfw: {shown(reason)}", "iseq ${platform} efi && exit 1 ||", "exit 0", "")
    return script("local", "\n".join(lines), request)


def shown(text: str) -> str:
    """*text* as an argument of ``echo``, on one line, with nothing that iPXE takes for its own."""
    words = text.replace("${", "$ {").split()
    return " ".join(word for word in words if word not in ("&&", "||"))


def is_url(name: str) -> bool:
    """It is no path."""
    return "://" in name


def served_path(name: str) -> str:
    """What a client asks for that was told *name*: a path, or a URL; relative, without empty and ``.`` parts."""
    path = unquote(urlsplit(name).path) if is_url(name) else name
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
