"""TFTP requests that are not quite right: what tftpd-hpa and atftpd both serve, bootfw serves as well.

Each server is started once and gets every request of the table, all of them before the first answer is read. Where
bootfw does not serve what both others do, the reason stands in the table.
"""

import select
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from attrs import frozen

from .lab import Host, Lab
from .service import start_bootfw
from .tftpservers import atftpd, tftpd_hpa

pytestmark = [pytest.mark.interop, pytest.mark.together]

BOOTFW, HPA, ATFTPD = "10.77.0.1", "10.77.0.2", "10.77.0.3"
FILES = {
    "file": b"".join(b"%07d\n" % line for line in range(500)),
    "dir/file": b"in a directory\n" * 100,
    "d" * 200: b"a long name\n" * 100,
    "f\xc3\xa4hre": b"a name in UTF-8\n" * 100,
    "f\xe4hre": b"a name in Latin-1\n" * 100,
    "with space": b"a space\n" * 200,
    "100%": b"a percent sign\n" * 100,
}
SECONDS = 3.0
"""A server that has sent nothing for so long has answered all that it answers: it gets the whole table at once."""

FILE, UPLOAD, SILENCE = "file", "upload", "silence"


def rrq(name: bytes = b"file", mode: bytes = b"octet", *with_options: bytes, tail: bytes = b"\0") -> bytes:
    return b"\0\1" + b"\0".join((name, mode, *with_options)) + tail


def wrq(name: bytes, mode: bytes = b"octet", *with_options: bytes, tail: bytes = b"\0") -> bytes:
    return b"\0\2" + b"\0".join((name, mode, *with_options)) + tail


@frozen
class Case:
    """One request; ROOT in it stands for the path of the root, TOOR for the same without its first slash."""

    name: str
    request: bytes
    content: str = "file"
    """Which of FILES is the right answer."""
    reason: str = ""
    """Why bootfw does not serve it although both others do."""
    port: int = 0
    """The client's."""


def with_options(name: str, *pairs: bytes, mode: bytes = b"octet", reason: str = "") -> Case:
    return Case(name, rrq(b"file", mode, *pairs), reason=reason)


def with_name(label: str, name: bytes, content: str = "file", reason: str = "") -> Case:
    return Case(label, rrq(name), content, reason)


def upload(label: str, *pairs: bytes, mode: bytes = b"octet", tail: bytes = b"\0", reason: str = "") -> Case:
    name = label.replace(" ", "-").encode()
    return Case(f"upload, {label}", wrq(name, mode, *pairs, tail=tail), "", reason)


CASES = [
    Case("plain", rrq()),
    # The form of the datagram.
    Case("no NUL at the end", rrq(tail=b"")),
    Case("no mode", b"\0\1file\0"),
    Case("no mode and no NUL", b"\0\1file"),
    Case("an empty name", rrq(b"")),
    Case("an empty mode", rrq(b"file", b"")),
    Case("three NULs at the end", rrq(tail=b"\0\0\0")),
    Case("trailing bytes without a NUL", rrq(tail=b"\0junk")),
    Case("trailing bytes with a NUL", rrq(tail=b"\0junk\0")),
    Case("100 NULs at the end", rrq(tail=b"\0" * 100)),
    Case("an option without a value", rrq(b"file", b"octet", b"blksize")),
    Case("an option without a value and without NUL", rrq(b"file", b"octet", b"blksize", tail=b"")),
    Case("the last value without NUL", rrq(b"file", b"octet", b"blksize", b"1024", tail=b"")),
    Case("an opcode of 257", b"\1\1file\0octet\0"),
    # Modes.
    Case("OCTET", rrq(mode=b"OCTET")),
    Case("OcTeT", rrq(mode=b"OcTeT")),
    Case("netascii", rrq(mode=b"netascii")),
    Case("NetASCII", rrq(mode=b"NetASCII")),
    Case("mail", rrq(mode=b"mail")),
    Case("binary", rrq(mode=b"binary")),
    Case("octet with a space", rrq(mode=b"octet ")),
    Case("octets", rrq(mode=b"octets")),
    # Options.
    with_options("blksize", b"blksize", b"1024"),
    with_options("BLKSIZE", b"BLKSIZE", b"1024"),
    with_options("blksize twice", b"blksize", b"1024", b"blksize", b"512"),
    with_options("blksize twice in two spellings", b"blksize", b"1024", b"BlkSize", b"512"),
    *(with_options(f"blksize {size}", b"blksize", str(size).encode()) for size in (0, 7, 8, 512, 65464, 65465, 10**12)),
    *(
        with_options(f"blksize {size}", b"blksize", size.encode())
        for size in ("-1", "+512", " 512", "512x", "x", "", "0x200")
    ),
    *(with_options(f"windowsize {size}", b"windowsize", str(size).encode()) for size in (0, 1, 4, 65535, 65536, -4)),
    *(with_options(f"timeout {size}", b"timeout", str(size).encode()) for size in (0, 1, 255, 256, -1)),
    *(
        with_options(f"tsize {size}", b"tsize", size.encode())
        for size in ("0", "1", "x", "", "-1", str(2**40), str(2**64))
    ),
    with_options("an unknown option", b"rollover", b"0"),
    with_options("only unknown options", b"color", b"red", b"utimeout", b"500000"),
    with_options("an option with an empty name", b"", b"1"),
    with_options("an option with an empty name before another", b"", b"1", b"blksize", b"1024"),
    with_options("40 options", *(word for number in range(40) for word in (b"option%d" % number, b"1"))),
    with_options("an option of 300 bytes", b"x" * 300, b"1"),
    with_options("an option that is no text", b"\xff\xfe", b"\x80"),
    with_options("multicast", b"multicast", b""),
    with_options("what EDK2 sends", b"tsize", b"0", b"blksize", b"1468", b"windowsize", b"4"),
    with_options(
        "what Windows sends", b"tsize", b"0", b"blksize", b"1456", b"windowsize", b"4", b"msftwindow", b"31416"
    ),
    with_options("netascii with blksize", b"blksize", b"1024", mode=b"netascii"),
    with_options("netascii with tsize", b"tsize", b"0", mode=b"netascii"),
    with_options("netascii with windowsize", b"windowsize", b"4", mode=b"netascii"),
    # Names.
    with_name("an absolute name", b"/file"),
    with_name("two slashes", b"//file"),
    with_name("many slashes", b"///////file"),
    with_name("./", b"./file"),
    with_name("/./", b"/./file"),
    with_name("in a directory", b"dir/file", "dir/file"),
    with_name("two slashes inside", b"dir//file", "dir/file"),
    with_name("./ inside", b"dir/./file", "dir/file"),
    with_name("../ inside", b"dir/../file"),
    with_name("../ in front", b"../file"),
    with_name("/../ in front", b"/../file"),
    with_name("a backslash", b"dir\\file", "dir/file"),
    with_name("a backslash in front", b"\\file"),
    with_name("a backslash and a slash", b"\\dir/file", "dir/file"),
    with_name("upper case", b"FILE"),
    with_name("a space", b"with space", "with space"),
    with_name("a space in front", b" file"),
    with_name("a space at the end", b"file "),
    with_name("a percent sign", b"100%", "100%"),
    with_name("encoded as in a URL", b"dir%2ffile", "dir/file"),
    with_name("200 bytes", b"d" * 200, "d" * 200),
    with_name("400 slashes", b"/" * 400 + b"file"),
    with_name("5000 bytes", b"d" * 5000),
    with_name("UTF-8", "fähre".encode(), "f\xc3\xa4hre"),
    with_name("Latin-1", b"f\xe4hre", "f\xe4hre"),
    with_name("a line end", b"file\r\n"),
    with_name("a quotation mark", b'"file"'),
    with_name("the full path on the server", b"ROOT/dir/file", "dir/file"),
    with_name("the full path without its slash", b"TOOR/dir/file", "dir/file"),
    with_name("a directory", b"dir"),
    with_name("a slash at the end", b"file/"),
    # Ports.
    *(Case(f"from port {port}", rrq(), port=port) for port in (67, 68, 69, 1023, 2001, 4011, 65535)),
    # Uploads.
    upload("plain"),
    upload("no NUL at the end", tail=b""),
    upload("tsize", b"tsize", b"1000"),
    upload("tsize too large", b"tsize", str(2**62).encode(), reason="there is no room for it: ERROR 3 (RFC 2349)"),
    upload("tsize no number", b"tsize", b"x"),
    upload("blksize and windowsize", b"blksize", b"1024", b"windowsize", b"4"),
    upload("blksize zero", b"blksize", b"0"),
    upload("timeout", b"timeout", b"3"),
    upload("unknown option", b"rollover", b"1"),
    upload("trailing bytes", tail=b"\0junk"),
    upload("netascii", mode=b"netascii"),
    upload("mail", mode=b"mail"),
    upload("upper case", mode=b"OCTET"),
]


class OpenRequest:
    """A client that has sent its request."""

    def __init__(self, station: Host, server: str, root: Path, case: Case) -> None:
        self.case = case
        self.socket = station.udp_socket(port=case.port)
        self.answer = SILENCE
        path = bytes(root)
        request = case.request.replace(b"ROOT", path).replace(b"TOOR", path.lstrip(b"/"))
        self.socket.sendto(request, (server, 69))

    def receive(self) -> bool:
        """Take a datagram; whether that was the answer."""
        data, source = self.socket.recvfrom(70_000)
        opcode, number = data[1], int.from_bytes(data[2:4], "big")
        if opcode == 6 and self.case.request[1] == 1:
            self.socket.sendto(b"\0\4\0\0", source)
            return False
        if opcode == 3:
            content = FILES[self.case.content]
            is_the_file = number == 1 and len(data) > 4 and content.replace(b"\n", b"\r\n").startswith(data[4:])
            is_the_file = is_the_file or (number == 1 and len(data) > 4 and content.startswith(data[4:]))
            self.answer = FILE if is_the_file else f"other content: {data[4:40]!r}"
        elif opcode == 5:
            self.answer = f"ERROR {number} {data[4:-1].decode('latin-1')}"
        else:
            self.answer = UPLOAD if opcode == 6 or data == b"\0\4\0\0" else f"opcode {opcode}"
        if opcode != 5:
            self.socket.sendto(b"\0\5\0\0enough\0", source)
        return True


def send_all_requests(station: Host, server: str, root: Path) -> Mapping[str, str]:
    """Send every request of the table to *server*; case -> what came of it."""
    open_requests = {
        request.socket: request for request in (OpenRequest(station, server, root, case) for case in CASES)
    }
    requests = list(open_requests.values())
    deadline = time.monotonic() + SECONDS
    while open_requests and (remaining := deadline - time.monotonic()) > 0:
        readable: list[socket.socket] = select.select(list(open_requests), [], [], remaining)[0]
        for sock in readable:
            if open_requests[sock].receive():
                del open_requests[sock]
            deadline = time.monotonic() + SECONDS
    for request in requests:
        request.socket.close()
    return {request.case.name: request.answer for request in requests}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def answers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, str]]:
    """Server -> case -> what came of it."""
    station = lab.host("station", "10.77.0.9/24")
    results = {}
    for name, address in (("bootfw", BOOTFW), ("tftpd-hpa", HPA), ("atftpd", ATFTPD)):
        root = tmp_path_factory.mktemp("root")
        for file, content in FILES.items():
            path = root / file.encode("latin-1").decode("utf-8", "surrogateescape")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        root.chmod(0o777)
        host = lab.host(name, f"{address}/24")
        if name == "bootfw":
            start_bootfw(host, lab.directory, CONFIGURATION.format(root=root), 69)
        else:
            (tftpd_hpa if name == "tftpd-hpa" else atftpd)(host, root)
        results[name] = send_all_requests(station, address, root)
    return results


CONFIGURATION = """
    [dhcp]
    mode = "off"
    [tftp]
    listen = ["0.0.0.0:69"]
    writable = true
    [[backend]]
    use = "directory"
    root = "{root}"
"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bootfw_serves_every_request_that_both_other_servers_serve(
    answers: Mapping[str, Mapping[str, str]], case: Case
) -> None:
    by_bootfw, by_hpa, by_atftp = (answers[server][case.name] for server in ("bootfw", "tftpd-hpa", "atftpd"))

    served = UPLOAD if case.request[1] == 2 else FILE
    if by_hpa == by_atftp == served and not case.reason:
        assert by_bootfw == served
    if case.reason:
        assert (by_hpa, by_atftp) == (served, served)
        assert by_bootfw != served


def test_the_full_path_on_the_server_is_that_of_the_file(answers: Mapping[str, Mapping[str, str]]) -> None:
    """As atftpd has it, and dnsmasq: configurations that were written for them name files so."""
    assert answers["atftpd"]["the full path on the server"] == FILE
    assert answers["bootfw"]["the full path on the server"] == FILE
    assert answers["bootfw"]["the full path without its slash"] == FILE


def test_served_content_is_always_the_file(answers: Mapping[str, Mapping[str, str]]) -> None:
    assert [item for item in answers["bootfw"].items() if "content" in item[1] or "opcode" in item[1]] == []
