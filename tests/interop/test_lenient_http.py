"""Odd HTTP requests, to bootfw and to a real nginx with the same files: the same status and the same bytes.

Boot programs write requests as no browser does. Where bootfw chooses otherwise than nginx, the reason stands beside it.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path

import pytest
from attrs import field, frozen
from twistd import TWISTD, clean, free_port

from .lab import wait_until

pytestmark = [pytest.mark.interop, pytest.mark.together]

DATA = bytes(range(250)) * 4
DATE = 784111777
SAME_DATE, BEFORE, AFTER = (formatdate(DATE + seconds, usegmt=True) for seconds in (0, -9, 9))
FILES = {
    "a.bin": DATA,
    "a b.bin": b"blank",
    "é.bin": b"utf-8",
    "100%.bin": b"per cent",
    "d/inner.bin": b"inner",
    "0": b"",
}
_CLIENTS = Path(__file__).parents[2] / ".clients/usr/sbin"
_HOST = "Host: boot"


def get(
    target: str = "/a.bin", *headers: str, method: str = "GET", version: str = "HTTP/1.1", line_end: str = "\r\n"
) -> bytes:
    """A request; a header "" is none."""
    lines = [f"{method} {target} {version}".rstrip(), *(headers if _HOST in headers else (_HOST, *headers))]
    return (line_end.join([*filter(None, lines), "", ""])).encode("utf-8", "surrogateescape")


@frozen
class Case:
    """What is sent, and what both answer."""

    request: bytes
    nginx_statuses: tuple[int, ...] = (200,)
    """Statuses of nginx, one for each response."""
    bootfw_statuses: tuple[int, ...] | None = None
    """Of bootfw, where it chooses otherwise."""
    reason: str = field(default="")
    compares_bodies: bool = True
    """The bodies are compared."""
    closes_connection: bool = False
    """The connection is closed behind the last response."""

    @reason.validator
    def _check_reason(self, attribute: object, value: str) -> None:
        assert bool(value) == (self.bootfw_statuses is not None)


LENIENT = "RFC 9112 section 2.2 would have a server be lenient, and a boot program that gets 400 does not boot"
ONE_SITE = "there is one site, so Host decides nothing"
GET_ONLY = "RFC 9110 section 14.2: a range is for GET only"
INVALID = "RFC 9110 section 14.2: a Range that is invalid is ignored"
UNSATISFIABLE = "RFC 9110 section 14.1.2: no byte of it is there"
NOT_FOUND = "no file has such a name, and for firmware every 4xx is the same"

CASES: dict[str, Case] = {
    "plain": Case(get()),
    "HTTP/1.0": Case(get(version="HTTP/1.0")),
    "HTTP/1.0 without a header": Case(b"GET /a.bin HTTP/1.0\r\n\r\n"),
    "HTTP/1.1 without Host": Case(b"GET /a.bin HTTP/1.1\r\n\r\n", (400,), (200,), f"{ONE_SITE}: {LENIENT}"),
    "HTTP/2.0 in a request line": Case(get(version="HTTP/2.0"), (505,), (400,), "all that fails is alike to firmware"),
    "lower-case version": Case(get(version="http/1.1"), (400,)),
    # Targets.
    "double slashes": Case(get("//d///inner.bin")),
    "dot segments": Case(get("/d/./../d/inner.bin")),
    "slash behind a file": Case(get("/a.bin/"), (404,)),
    "dot behind a file": Case(get("/a.bin/."), (404,)),
    "encoded slash behind a file": Case(get("/a.bin%2f"), (404,)),
    "encoded slash": Case(get("/d%2Finner.bin")),
    "encoded letters": Case(get("/%61.bin")),
    "encoded blank": Case(get("/a%20b.bin")),
    "encoded UTF-8": Case(get("/%C3%A9.bin")),
    "encoded twice": Case(get("/%2561.bin"), (404,)),
    "raw UTF-8": Case(get("/é.bin")),
    "raw blank": Case(get("/a b.bin"), (400,), (200,), f"GRUB and U-Boot encode nothing: {LENIENT}"),
    "raw per cent": Case(get("/100%.bin"), (400,), (200,), f"GRUB and U-Boot encode nothing: {LENIENT}"),
    "blanks around the target": Case(get("  /a.bin  ")),
    "query": Case(get("/a.bin?mac=52:54:00:12:34:56&x=%00")),
    "empty query": Case(get("/a.bin?")),
    "question mark, encoded": Case(get("/a.bin%3Fx"), (404,)),
    "fragment": Case(get("/a.bin#x"), (200,), (404,), "a client sends none, so it is a character of the file's name"),
    "plus is no blank": Case(get("/a+b.bin"), (404,)),
    "absolute": Case(get("http://boot/a.bin")),
    "absolute, upper case, port": Case(get("HTTP://boot:8069/a.bin")),
    "absolute, another host": Case(get("http://elsewhere/a.bin")),
    "without a slash": Case(get("a.bin"), (400,), (200,), f"what is meant is plain: {LENIENT}"),
    "asterisk": Case(get("*"), (400,), (405,), "Twisted answers that; no boot program sends it", compares_bodies=False),
    "above the root": Case(get("/../a.bin"), (400,), (200,), "RFC 3986 section 5.2.4 has it stop at the root"),
    "far above the root": Case(get("/../../../../etc/hostname"), (400,), (404,), NOT_FOUND),
    "encoded, above the root": Case(get("/%2e%2e/%2e%2e/etc/hostname"), (400,), (404,), NOT_FOUND),
    "encoded NUL": Case(get("/a.bin%00"), (400,), (404,), NOT_FOUND),
    "raw control character": Case(get("/a\x01.bin"), (400,)),
    "raw tabulator": Case(get("/a\t.bin"), (400,)),
    "directory": Case(get("/d"), (301,), (404,), "there is no listing to be sent on to"),
    "directory with its slash": Case(get("/d/"), (403,), (404,), "there is no listing that could be forbidden"),
    "root": Case(get("/"), (403,), (404,), "there is no listing that could be forbidden"),
    "missing": Case(get("/nothing"), (404,)),
    "below a file": Case(get("/a.bin/x"), (404,)),
    "long target": Case(get("/" + "a" * 3000), (404,)),
    "target of 20 kB": Case(get("/" + "a" * 20_000), (414,)),
    # Lines and headers.
    "bare LF": Case(get(line_end="\n")),
    "a blank line first": Case(b"\r\n" + get()),
    "no blank behind the colon": Case(get("/a.bin", "Range:bytes=1-2"), (206,)),
    "blanks behind a value": Case(
        get("/a.bin", "Range: bytes=1-2  \t"),
        (416,),
        (206,),
        "RFC 9110 section 5.5: they are no part of it",
    ),
    "header names in any case": Case(get("/a.bin", "rAnGe: bytes=1-2"), (206,)),
    "header of 8 kB": Case(get("/a.bin", f"X: {'x' * 7000}")),
    "header of 40 kB": Case(get("/a.bin", f"X: {'x' * 40_000}"), (400,)),
    "header without a colon": Case(
        get("/a.bin", "nonsense"),
        (200,),
        (400,),
        "RFC 9112 section 5: it is invalid",
    ),
    "blank before the colon": Case(get("/a.bin", "X : y"), (400,)),
    "folded header": Case(
        get("/a.bin", "X: y\r\n z"), (400,), (200,), "RFC 9112 section 5.2 lets a server put blanks there instead"
    ),
    "many headers": Case(get("/a.bin", *(f"X{n}: y" for n in range(400)))),
    "Host twice": Case(get("/a.bin", _HOST, "Host: other"), (400,), (200,), ONE_SITE),
    "Host empty": Case(b"GET /a.bin HTTP/1.1\r\nHost:\r\n\r\n", (400,), (200,), ONE_SITE),
    "Expect: 100-continue": Case(get("/a.bin", "Expect: 100-continue"), (100, 200)),
    "a body that a GET has": Case(get("/a.bin", "Content-Length: 5") + b"hello" + get("/d/inner.bin"), (200, 200)),
    "a chunked body": Case(
        get("/a.bin", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n" + get("/d/inner.bin"), (200, 200)
    ),
    "both lengths of a body": Case(
        get("/a.bin", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", (400,)
    ),
    # Methods.
    "HEAD": Case(get(method="HEAD")),
    "HEAD of what is missing": Case(get("/nothing", method="HEAD"), (404,)),
    "HEAD with a range": Case(
        get("/a.bin", "Range: bytes=1-2", method="HEAD"),
        (206,),
        (200,),
        GET_ONLY,
    ),
    "POST": Case(get(method="POST"), (405,), compares_bodies=False),
    "PUT": Case(get("/new", "Content-Length: 1", method="PUT") + b"x", (405,), compares_bodies=False),
    "DELETE": Case(get(method="DELETE"), (405,), compares_bodies=False),
    "OPTIONS": Case(get(method="OPTIONS"), (405,), compares_bodies=False),
    "unknown method": Case(get(method="BREW"), (405,), compares_bodies=False),
    "method in lower case": Case(get(method="get"), (400,), (405,), "RFC 9110 section 9.1: it is another method"),
    # Ranges.
    "range": Case(get("/a.bin", "Range: bytes=10-19"), (206,)),
    "range to the end": Case(get("/a.bin", "Range: bytes=990-"), (206,)),
    "range beyond the end": Case(get("/a.bin", "Range: bytes=990-5000"), (206,)),
    "last bytes": Case(get("/a.bin", "Range: bytes=-10"), (206,)),
    "more last bytes than there are": Case(get("/a.bin", "Range: bytes=-5000"), (206,)),
    "one byte": Case(get("/a.bin", "Range: bytes=0-0"), (206,)),
    "range that begins at the end": Case(get("/a.bin", "Range: bytes=1000-"), (416,)),
    "no last bytes": Case(get("/a.bin", "Range: bytes=-0"), (416,)),
    "range backwards": Case(get("/a.bin", "Range: bytes=9-1"), (416,), (200,), INVALID),
    "range of an empty file": Case(get("/0", "Range: bytes=0-"), (200,), (416,), UNSATISFIABLE),
    "range in another unit": Case(get("/a.bin", "Range: lines=1-2")),
    "range that is nonsense": Case(get("/a.bin", "Range: bytes=x"), (416,), (200,), INVALID),
    "several ranges": Case(
        get("/a.bin", "Range: bytes=0-1,5-6"),
        (206,),
        (200,),
        "RFC 9110 section 14.2 allows it; no boot program sends one",
    ),
    "If-Range with the date": Case(get("/a.bin", "Range: bytes=1-2", f"If-Range: {SAME_DATE}"), (206,)),
    "If-Range with an older date": Case(get("/a.bin", "Range: bytes=1-2", f"If-Range: {BEFORE}")),
    "If-Range with another tag": Case(get("/a.bin", "Range: bytes=1-2", 'If-Range: "x"')),
    # Conditions.
    "If-Modified-Since the date": Case(get("/a.bin", f"If-Modified-Since: {SAME_DATE}"), (304,)),
    "If-Modified-Since before": Case(get("/a.bin", f"If-Modified-Since: {BEFORE}")),
    "If-Modified-Since after": Case(
        get("/a.bin", f"If-Modified-Since: {AFTER}"),
        (200,),
        (304,),
        "RFC 9110 section 13.1.3: it is no newer",
    ),
    "If-Modified-Since nonsense": Case(get("/a.bin", "If-Modified-Since: yesterday")),
    "If-Unmodified-Since the date": Case(get("/a.bin", f"If-Unmodified-Since: {SAME_DATE}")),
    "If-Unmodified-Since before": Case(get("/a.bin", f"If-Unmodified-Since: {BEFORE}"), (412,)),
    "If-None-Match *": Case(get("/a.bin", "If-None-Match: *"), (304,)),
    "If-None-Match another": Case(get("/a.bin", 'If-None-Match: "x"')),
    "If-None-Match another, not modified since": Case(
        get("/a.bin", 'If-None-Match: "x"', f"If-Modified-Since: {SAME_DATE}")
    ),
    "If-Match *": Case(get("/a.bin", "If-Match: *")),
    "If-Match another": Case(get("/a.bin", 'If-Match: "x"'), (412,)),
    # Connections.
    "pipelining": Case(get() + get("/nothing") + get("/d/inner.bin", "Range: bytes=1-2"), (200, 404, 206)),
    "pipelining of HEAD": Case(get(method="HEAD") + get(), (200, 200)),
    "close": Case(get("/a.bin", "Connection: close") + get(), (200,), closes_connection=True),
    "Close": Case(get("/a.bin", "Connection: Close") + get(), (200,), closes_connection=True),
    "keep-alive by HTTP/1.0": Case(
        get("/a.bin", "Connection: keep-alive", version="HTTP/1.0") + get(),
        (200, 200),
        (200,),
        "Twisted closes; a client of HTTP/1.0 has to bear that",
    ),
    "no keep-alive by HTTP/1.0": Case(get(version="HTTP/1.0") + get(), (200,), closes_connection=True),
    "nonsense": Case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400,)),
}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Of bootfw and of nginx, which serve the same files."""
    program = shutil.which("nginx", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", str(_CLIENTS))))
    if program is None:
        pytest.skip("nginx is not installed: tools/install-clients fetches it on Debian")
    directory = tmp_path_factory.mktemp("lenient")
    root = directory / "root"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
        os.utime(root / name, (DATE, DATE))
    for path in (directory.parent, directory, root):
        path.chmod(0o755)
    bootfw_port, nginx_port = free_port(), free_port()
    (directory / "bootfw.toml").write_text(
        f'[bootfw]\nstate-dir = "state"\nworkers = 1\n[tftp]\nlisten = []\n[dhcp]\nmode = "off"\n'
        f'[http]\nlisten = ["127.0.0.1:{bootfw_port}"]\n[[backend]]\nuse = "directory"\nroot = "{root}"\n'
    )
    temporary = "".join(
        f"{kind}_temp_path {directory};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/nginx.err; events {{}}\n"
        f"http {{ access_log off; default_type application/octet-stream; {temporary}\n"
        f"server {{ listen 127.0.0.1:{nginx_port}; root {root}; }} }}\n"
    )
    bootfw: list[str | Path] = [TWISTD, "--nodaemon", "--pidfile=", "bootfw", "-c", "bootfw.toml"]
    nginx: list[str | Path] = [program, "-e", directory / "nginx.err", "-c", directory / "nginx.conf"]
    with ExitStack() as stack:
        for command in (bootfw, nginx):
            log = stack.enter_context((directory / f"{Path(command[0]).name}.log").open("wb"))
            process = stack.enter_context(
                subprocess.Popen(command, cwd=directory, env=clean(), stdout=log, stderr=subprocess.STDOUT)
            )
            stack.callback(process.terminate)
        wait_until(lambda: _listens(bootfw_port) and _listens(nginx_port), 30, "both listen")
        yield bootfw_port, nginx_port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def responses(port: int, case: Case, count: int) -> list[tuple[int, bytes, str]]:
    """Status, body and Content-Range of each response: of *count*, or of all until the connection is closed."""
    methods = re.findall(rb"^([A-Za-z]+) [^\n]*HTTP/\S+", case.request, re.MULTILINE)
    received: list[tuple[int, bytes, str]] = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(case.request)
        stream = connection.makefile("rb")
        while (case.closes_connection or len(received) < count) and (line := stream.readline()):
            status = int(line.split()[1])
            fields = {}
            while header := stream.readline().strip():
                name, _, value = header.partition(b":")
                fields[name.lower()] = value.strip()
            length = int(fields.get(b"content-length", b"0"))
            if status in (100, 304) or methods[len(received) : len(received) + 1] == [b"HEAD"]:
                body = b"%d bytes" % length
            else:
                body = stream.read(length)
            received.append((status, body if 200 <= status < 300 else b"", fields.get(b"content-range", b"").decode()))
    return received


@pytest.mark.parametrize("name", CASES)
def test_odd_requests_get_the_status_of_nginx_or_the_documented_one(ports: tuple[int, int], name: str) -> None:
    case = CASES[name]
    expected = case.bootfw_statuses or case.nginx_statuses
    from_bootfw, from_nginx = (
        responses(ports[0], case, len(expected)),
        responses(ports[1], case, len(case.nginx_statuses)),
    )
    assert tuple(status for status, _, _ in from_nginx) == case.nginx_statuses, "what nginx does"
    assert tuple(status for status, _, _ in from_bootfw) == expected
    if case.bootfw_statuses is None and case.compares_bodies:
        assert from_bootfw == from_nginx
    elif expected == (200,) and case.request.startswith(b"GET"):
        assert from_bootfw[0][1] in FILES.values(), "a whole file"
