"""The sessions of a client: files that this side requests or writes. No code of MAAS or twistd uses them."""

from typing import Any

import pytest
from tftp.bootstrap import LocalOriginReadSession, LocalOriginWriteSession
from tftp.datagram import RRQDatagram, WRQDatagram

from .serving import ADDRESS, Files, Reader, Served, Writer

CONTENT = bytes(range(256)) * 40


class RequestingPort:
    """Sends a request, and connects to the port that answers, as the users of these sessions do."""

    def __init__(self, served: Served, session: Any, request: bytes) -> None:
        host = served.client_host
        port = host.listenUDP(0, self)
        port.write(request, (ADDRESS, 69))
        self._session, self._port = session, port

    def makeConnection(self, transport: Any) -> None:
        """The port is open."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """The first answer; the port is the session's from now on."""
        self._session.remote = addr
        self._port.protocol = self._session
        self._session.makeConnection(self._port)
        self._session.datagramReceived(datagram, addr)


@pytest.mark.parametrize("options", [{}, {b"blksize": b"1000"}, {b"blksize": b"700", b"windowsize": b"4"}], ids=str)
def test_a_client_reads(options: Any) -> None:
    served = Served(Files(file=Reader(CONTENT)))
    writer = Writer()
    session = LocalOriginWriteSession((ADDRESS, 69), writer, options, _clock=served.client_host)
    RequestingPort(served, session, RRQDatagram(b"file", b"octet", options).to_wire())
    served.network.result_of(session.ended)
    assert (bytes(writer.content), writer.calls) == (CONTENT, ["finished"])
    served.close()


@pytest.mark.parametrize("options", [{}, {b"blksize": b"1000"}, {b"blksize": b"700", b"windowsize": b"4"}], ids=str)
def test_a_client_writes(options: Any) -> None:
    writer, reader = Writer(), Reader(CONTENT)
    served = Served(Files(file=writer))
    session = LocalOriginReadSession((ADDRESS, 69), reader, options, _clock=served.client_host)
    RequestingPort(served, session, WRQDatagram(b"file", b"octet", options).to_wire())
    served.network.result_of(session.ended)
    assert (bytes(writer.content), writer.calls, reader.finished) == (CONTENT, ["finished"], 1)
    served.close()
