"""HTTPS over real connections: the certificate, its renewal, and what clients refuse."""

import contextlib
import datetime
import os
import socket
import ssl
import sys
from collections.abc import Sequence
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, TypeVar

import pytest
from certificates import Authority
from narrowing import of_type, present
from turning import Alongside, Result, TurnUntil

from bootfw.events import Event

from .webservice import Observer, WebService

pytest.importorskip("OpenSSL", reason="pyOpenSSL is not installed: pip install bootfw[tls]")

from certificates import DAY, pem_of
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from bootfw.backends.directory import DirectoryBackend
from bootfw.build import assemble
from bootfw.config.configuration import ConfigErrors, load_config
from bootfw.config.settings import HTTPSettings
from bootfw.errors import ConfigError
from bootfw.events import CertificateLoaded, CertificateProblem, HandshakeFailed
from bootfw.net.http.certificate import RenewedCertificate, load
from bootfw.observe.log import LogObserver
from bootfw.tap import Options
from bootfw.values import Outcome
from bootfw.watchdogs.fixed import Fixed

from .webclient import Backend, Reader
from .webservice import address_of

pytestmark = pytest.mark.usefixtures("failures")

ANY = ("127.0.0.1", 0)

_E = TypeVar("_E", bound=Event)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def issued(authority: Authority) -> tuple[bytes, bytes]:
    """(certificate, key) for 127.0.0.1 and boot.example. RSA keys take a hundred times as long to load."""
    return authority.issue("127.0.0.1", "boot.example", curve=True)


@pytest.fixture
def settings(tmp_path: Path, issued: tuple[bytes, bytes]) -> HTTPSettings:
    """HTTPS with the certificate in chain.pem and key.pem."""
    write(tmp_path, *issued)
    return HTTPSettings(https_listen=(ANY,), certificate=str(tmp_path / "chain.pem"), key=str(tmp_path / "key.pem"))


def write(directory: Path, chain: bytes, key: bytes) -> None:
    for name, pem in (("chain.pem", chain), ("key.pem", key)):
        (directory / f"{name}.new").write_bytes(pem)
        (directory / f"{name}.new").rename(directory / name)


def client_context(authority: Authority, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """The TLS context of a client that trusts *authority*, with one version of TLS or the usual ones."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def fetch(
    address: tuple[str, int], context: ssl.SSLContext, *targets: str
) -> tuple[dict[str, Any], list[tuple[int, bytes]]]:
    """GET *targets* on one connection. Returns (the certificate of the server, statuses and bodies)."""
    connection = HTTPSConnection(*address, timeout=30, context=context)
    with contextlib.closing(connection):
        found = []
        for target in targets:
            connection.request("GET", target)
            response = connection.getresponse()
            found.append((response.status, response.read()))
        return present(connection.sock.getpeercert()), found


def events_of(observer: Observer, kind: type[_E]) -> list[_E]:
    return [event for event in observer.events if isinstance(event, kind)]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_files_are_served_over_tls(
    web_service: WebService,
    alongside: Alongside,
    turn_until: TurnUntil,
    settings: HTTPSettings,
    authority: Authority,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    service, observer = web_service(DirectoryBackend(tmp_path), settings)
    assert [row.service for row in service.summary()] == ["https"]
    _, found = alongside(fetch, address_of(service), client_context(authority, version), "/a", "/none", "/a")
    assert found == [(200, data), (404, b"File not found\n"), (200, data)]
    turn_until(lambda: len(observer.reports) == 2)
    assert {report.request.protocol for report in observer.reports} == {"https"}
    assert {report.outcome for report in observer.reports} == {Outcome.COMPLETE}
    assert {report.request.peer[0] for report in observer.reports} == {"127.0.0.1"}


def test_old_firmware_exchanges_keys_by_rsa(
    web_service: WebService, alongside: Alongside, settings: HTTPSettings, authority: Authority, tmp_path: Path
) -> None:
    """As EDK2 did before it had elliptic curves, and as iPXE does."""
    write(tmp_path, *authority.issue("127.0.0.1"))
    (tmp_path / "a").write_bytes(b"content")
    service, _ = web_service(DirectoryBackend(tmp_path), settings)
    context = client_context(authority, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("AES128-SHA256")
    assert alongside(fetch, address_of(service), context, "/a")[1] == [(200, b"content")]


def test_a_key_of_an_elliptic_curve_in_the_file_of_the_certificate(
    web_service: WebService, alongside: Alongside, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "both.pem").write_bytes(b"".join(authority.issue("127.0.0.1", curve=True)))
    (tmp_path / "a").write_bytes(b"content")
    service, _ = web_service(
        DirectoryBackend(tmp_path), HTTPSettings(https_listen=(ANY,), certificate=str(tmp_path / "both.pem"))
    )
    assert alongside(fetch, address_of(service), client_context(authority), "/a")[1] == [(200, b"content")]


def test_http_and_https_side_by_side(web_service: WebService, settings: HTTPSettings) -> None:
    both = HTTPSettings((ANY,), settings.https_listen, settings.certificate, settings.key)
    service, _ = web_service(Backend(), both)
    assert [row.service for row in service.summary()] == ["http", "https"]


def test_a_file_is_not_read_ahead_for_a_slow_client(
    web_service: WebService, turn_until: TurnUntil, settings: HTTPSettings, authority: Authority
) -> None:
    size = 50_000_000
    reader = Reader(bytes(size), size=size)
    service, observer = web_service(Backend(reader), settings)
    with socket.create_connection(address_of(service)) as sock:
        sock.setblocking(False)
        tls = client_context(authority).wrap_socket(sock, server_hostname="127.0.0.1", do_handshake_on_connect=False)

        def handshake_done() -> bool:
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                return True
            return False

        turn_until(handshake_done)
        tls.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
        turn_until(lambda: reader.reads)
        before = -1
        while before != len(reader.reads):
            before = len(reader.reads)
            for _ in range(20):
                turn_until(lambda: True)
        assert reader.reads[-1][0] < size / 2
        tls.close()
        turn_until(lambda: observer.reports)
    assert [report.outcome for report in observer.reports] == [Outcome.STOPPED_BY_PEER]
    assert reader.closed == 1


# Renewal


def test_a_renewed_certificate_is_used_without_a_restart(
    web_service: WebService,
    alongside: Alongside,
    turn_until: TurnUntil,
    settings: HTTPSettings,
    authority: Authority,
    tmp_path: Path,
) -> None:
    service, observer = web_service(Backend(), settings)
    first, _ = alongside(fetch, address_of(service), client_context(authority), "/a")
    write(tmp_path, *authority.issue("127.0.0.1", "renewed.example"))
    second, _ = alongside(fetch, address_of(service), client_context(authority), "/a")
    assert ("DNS", "boot.example") in first["subjectAltName"]
    assert ("DNS", "renewed.example") in second["subjectAltName"]
    turn_until(lambda: len(events_of(observer, CertificateLoaded)) == 2)
    assert [event.names for event in events_of(observer, CertificateLoaded)] == [
        ("boot.example", "127.0.0.1"),
        ("renewed.example", "127.0.0.1"),
    ]
    assert service._urls.names == ("renewed.example", "127.0.0.1")


def test_a_new_certificate_is_found_without_connections(
    web_service: WebService, settings: HTTPSettings, authority: Authority, tmp_path: Path
) -> None:
    """As in the process that answers DHCP, when workers serve the files."""
    service, _ = web_service(Backend(), settings)
    assert service._urls.of("127.0.0.1")[1].startswith("https://127.0.0.1:")
    write(tmp_path, *authority.issue("renewed.example"))
    assert service._urls.of("127.0.0.1")[1].startswith("https://renewed.example:")


def test_a_reload_keeps_the_certificate_and_a_start_loads_it(
    web_service: WebService,
    alongside: Alongside,
    result: Result,
    settings: HTTPSettings,
    authority: Authority,
    tmp_path: Path,
) -> None:
    service, observer = web_service(Backend(), settings)
    service.reload(service.settings, service.backends, [], Fixed())
    alongside(fetch, address_of(service), client_context(authority), "/a")
    service._publisher.flush()
    assert len(events_of(observer, CertificateLoaded)) == 1
    result(service.stopService())
    write(tmp_path, *authority.issue("127.0.0.1", "renewed.example"))
    service.startService()
    service._publisher.flush()
    assert [event.names[0] for event in events_of(observer, CertificateLoaded)] == ["boot.example", "renewed.example"]


def test_certificate_is_logged_once() -> None:
    with capturedLogs() as logs:
        observer = LogObserver()
        for expires in (1, 1, 2):
            observer.observe(CertificateLoaded(0.0, "chain.pem", ("boot.example",), float(expires)))
    log_lines = [formatEvent(event) for event in logs]
    assert log_lines[0] == "https certificate chain.pem is for boot.example, until 1970-01-01"
    assert len(log_lines) == 2


def test_certificate_without_its_new_key_changes_nothing(
    settings: HTTPSettings, authority: Authority, tmp_path: Path
) -> None:
    events: list[Event] = []
    names: list[Sequence[str]] = []
    certificate = RenewedCertificate(Clock(), settings, events.append, names.append)
    before = certificate.serverConnectionForTLS(None).get_context()
    chain, key = authority.issue("127.0.0.1", "renewed.example")
    old_key = (tmp_path / "key.pem").read_bytes()
    write(tmp_path, chain, old_key)
    for _ in range(3):
        assert certificate.serverConnectionForTLS(None).get_context() is before
    (problem,) = [event for event in events if isinstance(event, CertificateProblem)]
    assert "does not belong to" in problem.problem
    assert problem.problem.endswith("the previous one stays in use")
    write(tmp_path, chain, key)
    assert certificate.serverConnectionForTLS(None).get_context() is not before
    assert names == [("boot.example", "127.0.0.1"), ("renewed.example", "127.0.0.1")]


@pytest.mark.parametrize("removed", ["chain.pem", "key.pem"])
def test_removed_certificate_file_keeps_the_loaded_certificate(
    settings: HTTPSettings, tmp_path: Path, removed: str
) -> None:
    events: list[Event] = []
    certificate = RenewedCertificate(Clock(), settings, events.append, lambda names: None)
    before = certificate.serverConnectionForTLS(None).get_context()
    (tmp_path / removed).unlink()
    assert certificate.serverConnectionForTLS(None).get_context() is before
    assert f"{removed}\" can't be read: No such file or directory" in of_type(CertificateProblem, events[-1]).problem


def test_renewal_by_symbolic_links_is_found(
    settings: HTTPSettings, authority: Authority, tmp_path: Path, issued: tuple[bytes, bytes]
) -> None:
    for serial, (chain, key) in enumerate((issued, authority.issue("renewed.example"))):
        (tmp_path / str(serial)).mkdir()
        write(tmp_path / str(serial), chain, key)
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(f"0/{name}")
    names: list[Sequence[str]] = []
    certificate = RenewedCertificate(Clock(), settings, lambda event: None, names.append)
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(f"1/{name}")
    certificate.serverConnectionForTLS(None)
    assert names[-1] == ("renewed.example",)


# Certificates that clients refuse, and their messages


def test_expired_certificate_is_reported(settings: HTTPSettings, authority: Authority, tmp_path: Path) -> None:
    write(tmp_path, *authority.issue("127.0.0.1", days=-1))
    events: list[Event] = []
    certificate = RenewedCertificate(Clock(), settings, events.append, lambda names: None)
    certificate.serverConnectionForTLS(None)
    assert [type(event) for event in events] == [CertificateLoaded, CertificateProblem]
    assert "expired on " in of_type(CertificateProblem, events[1]).problem


def test_expiry_of_the_certificate_is_reported(settings: HTTPSettings) -> None:
    events: list[Event] = []
    now = [datetime.datetime.now(datetime.UTC).timestamp()]
    certificate = RenewedCertificate(Clock(), settings, events.append, lambda names: None, lambda: now[0])
    certificate.serverConnectionForTLS(None)
    assert len(events) == 1
    now[0] += 31 * DAY.total_seconds()
    certificate.serverConnectionForTLS(None)
    certificate.serverConnectionForTLS(None)
    assert [of_type(CertificateProblem, event).problem.partition(" on ")[0] for event in events[1:]] == ["expired"]
    now[0] -= 100 * DAY.total_seconds()
    certificate.serverConnectionForTLS(None)
    assert "is not valid before" in of_type(CertificateProblem, events[-1]).problem


def _handshake(address: tuple[str, int], context: ssl.SSLContext) -> None:
    """Connect, and ignore the failure of the handshake."""
    with (
        socket.create_connection(address) as sock,
        contextlib.suppress(OSError),
        context.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
    ):
        tls.recv(1)


def test_untrusting_client_is_reported(
    web_service: WebService, alongside: Alongside, turn_until: TurnUntil, settings: HTTPSettings
) -> None:
    service, observer = web_service(Backend(), settings)
    for _ in range(2):
        alongside(_handshake, address_of(service), ssl.create_default_context())
    turn_until(lambda: events_of(observer, HandshakeFailed))
    (event,) = events_of(observer, HandshakeFailed)
    assert event.peer[0] == "127.0.0.1"
    assert event.reason.startswith("it does not trust the issuer of the certificate (")


def _disconnect(address: tuple[str, int], hello: bool) -> None:
    """Close the connection after the ClientHello, or before it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    with socket.create_connection(address, timeout=30) as sock:
        if hello:
            sock.sendall(outgoing.read())
            assert sock.recv(1)


def test_disconnect_during_the_handshake_is_handled(
    web_service: WebService, alongside: Alongside, turn_until: TurnUntil, settings: HTTPSettings
) -> None:
    """EDK2 does so with a certificate that it does not trust."""
    service, observer = web_service(Backend(), settings)
    protocol = next(iter(service._bindings)).protocol
    alongside(_disconnect, address_of(service), False)
    turn_until(lambda: not protocol._connections)
    assert events_of(observer, HandshakeFailed) == []
    alongside(_disconnect, address_of(service), True)
    turn_until(lambda: events_of(observer, HandshakeFailed))
    assert events_of(observer, HandshakeFailed)[0].reason.startswith("it closed the connection during the handshake")


def test_tls_1_1_client_is_refused_and_logged(
    web_service: WebService, alongside: Alongside, turn_until: TurnUntil, settings: HTTPSettings, authority: Authority
) -> None:
    service, observer = web_service(Backend(), settings)
    context = client_context(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match=r"TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    alongside(_handshake, address_of(service), context)
    turn_until(lambda: events_of(observer, HandshakeFailed))
    assert events_of(observer, HandshakeFailed)[0].reason.startswith("it has no TLS 1.2 (")


def _send_plain(address: tuple[str, int], data: bytes) -> None:
    """Send *data* without TLS, and wait until the server closes the connection."""
    with socket.create_connection(address, timeout=30) as sock:
        sock.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(10_000):
                pass


def test_plain_http_on_the_https_port_is_reported(
    web_service: WebService, alongside: Alongside, turn_until: TurnUntil, settings: HTTPSettings
) -> None:
    service, observer = web_service(Backend(), settings)
    alongside(_send_plain, address_of(service), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    turn_until(lambda: events_of(observer, HandshakeFailed))
    assert events_of(observer, HandshakeFailed)[0].reason == "it speaks HTTP on the port of HTTPS (http request)"


def test_idle_connection_is_closed_when_the_service_stops(
    web_service: WebService, turn_until: TurnUntil, settings: HTTPSettings
) -> None:
    service, _ = web_service(Backend(), settings)
    with socket.create_connection(address_of(service)) as sock:
        turn_until(lambda: next(iter(service._bindings)).protocol._connections)
        stopped: list[None] = []
        service.stopService().addBoth(stopped.append)
        turn_until(lambda: stopped)
        sock.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(10_000) == b""


# Messages at the start


@pytest.mark.parametrize(
    ("chain", "key", "setting", "message"),
    [
        (None, True, "certificate", "can't be read: No such file"),
        (True, None, "key", "can't be read: No such file"),
        (b"nonsense", True, "certificate", "holds no certificate in PEM form"),
        (True, b"nonsense", "key", "holds no private key in PEM form"),
        (True, pem_of(ec.generate_private_key(ec.SECP256R1())), "key", "does not belong to the first certificate in"),
        (True, pem_of(ec.generate_private_key(ec.SECP256R1()), b"secret"), "key", "is encrypted"),
    ],
)
def test_unusable_certificate_or_key_is_an_error(
    settings: HTTPSettings,
    tmp_path: Path,
    chain: bool | bytes | None,
    key: bool | bytes | None,
    setting: str,
    message: str,
) -> None:
    for name, content in (("chain.pem", chain), ("key.pem", key)):
        if content is None:
            (tmp_path / name).unlink()
        elif isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(settings)
    assert caught.value.path == (setting,)
    assert message in caught.value.message
    assert str(tmp_path) in caught.value.message


def test_byte_order_marks_before_certificate_and_key(settings: HTTPSettings, tmp_path: Path) -> None:
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    assert load(settings).names == ("boot.example", "127.0.0.1")


def test_weak_certificate_is_an_error(settings: HTTPSettings, authority: Authority, tmp_path: Path) -> None:
    write(tmp_path, *authority.issue("127.0.0.1", bits=1024))
    with pytest.raises(ConfigError, match=r"can't be used: .*key too small"):
        load(settings)


def test_certificate_without_its_key_is_an_error(settings: HTTPSettings) -> None:
    with pytest.raises(ConfigError, match=r'holds no private key .* which needs a key = "...pem" beside it'):
        load(HTTPSettings(https_listen=(ANY,), certificate=settings.certificate))


def config_error(tmp_path: Path, text: str) -> str:
    """The only error in this configuration."""
    (tmp_path / "bootfw.toml").write_text(text)
    with pytest.raises(ConfigErrors) as caught:
        assemble(load_config(tmp_path / "bootfw.toml", {}), Clock())
    (line,) = caught.value.lines
    return line.removeprefix(f"{tmp_path}/bootfw.toml: ")


def test_certificate_paths_are_relative_to_the_configuration(settings: HTTPSettings, tmp_path: Path) -> None:
    text = '[http]\nhttps-listen = ["0.0.0.0:8443"]\ncertificate = "chain.pem"\n'
    (tmp_path / "bootfw.toml").write_text(text + 'key = "key.pem"\n')
    http = assemble(load_config(tmp_path / "bootfw.toml", {}), Clock()).settings.http
    assert (http.certificate, http.key) == (settings.certificate, settings.key)
    assert config_error(tmp_path, text + 'key = "no.pem"\n') == (
        f'http.key: "{tmp_path}/no.pem" can\'t be read: No such file or directory'
    )


@pytest.mark.parametrize(("days", "warning"), [(30, ""), (-1, ": WARNING, expired on ")])
def test_check_shows_the_certificate(
    settings: HTTPSettings,
    authority: Authority,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    days: int,
    warning: str,
) -> None:
    write(tmp_path, *authority.issue("127.0.0.1", "boot.example", days=days))
    (tmp_path / "bootfw.toml").write_text(
        '[http]\nhttps-listen = ["0.0.0.0:8443"]\ncertificate = "chain.pem"\nkey = "key.pem"\n'
    )
    options = Options()  # type: ignore[no-untyped-call]  # Twisted's usage.Options has no annotations
    with pytest.raises(SystemExit):
        options.parseOptions(["--check", "-c", str(tmp_path / "bootfw.toml")])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("certificate")]
    assert line.split(None, 1)[1].startswith("for boot.example, 127.0.0.1, until ")
    assert warning in line


def test_https_needs_a_certificate(tmp_path: Path) -> None:
    assert config_error(tmp_path, '[http]\nhttps-listen = ["0.0.0.0:8443"]') == (
        'http.certificate: https-listen needs certificate = "fullchain.pem" and key = "privkey.pem"'
    )


def test_without_pyopenssl_the_error_names_the_package(
    settings: HTTPSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "bootfw.net.http.certificate", raising=False)
    monkeypatch.delattr("bootfw.net.http.certificate", raising=False)
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    line = config_error(
        tmp_path, '[http]\nhttps-listen = ["0.0.0.0:8443"]\ncertificate = "chain.pem"\nkey = "key.pem"\n'
    )
    assert line.startswith('http.https-listen: HTTPS needs pyOpenSSL: pip install "bootfw[tls]" (')
