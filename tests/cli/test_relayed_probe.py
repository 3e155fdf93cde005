"""The port on which the probe receives when it acts as a relay."""

import pytest

from bootfw.cli import dhcpclient
from bootfw.cli.dhcpclient import SERVER_PORT, Relayed


@pytest.fixture(autouse=True)
def relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay has the address 127.0.0.1."""
    monkeypatch.setattr(dhcpclient, "_relay_for", lambda server: ("127.0.0.1", server))


def test_a_server_on_this_host_is_recognized() -> None:
    assert Relayed("127.0.0.1").on_this_host
    assert not Relayed("192.0.2.1").on_this_host


def test_relay_uses_another_port_for_a_server_at_another_port() -> None:
    """Such a server sends to the same port of the relay; on this host, the server itself uses that port."""
    link = Relayed("127.0.0.2", SERVER_PORT + 6700)
    assert link.unprivileged_relay
    with link._socket() as sock:
        assert sock.getsockname()[1] != SERVER_PORT
