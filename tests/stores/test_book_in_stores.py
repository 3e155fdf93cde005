"""A lease book that commits to SQLite and to PostgreSQL: after each restart it is the same from both."""

from collections.abc import Callable
from socket import inet_aton

import pytest
from bootfw_postgresql.store import PostgresqlStore
from callbacks import CallbackReactor
from committing import NOW, SERVER, mac_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from narrowing import of_type
from postgresserver import Server, ThreadCallReactor

from bootfw.dhcp.answer import Answer, Arrival
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Subnet
from bootfw.lease import Lease
from bootfw.stores.sqlite import SqliteStore
from bootfw.wire.dhcp4 import BOOTREQUEST, Message, MessageType
from bootfw.wire.options import Option

pytest_plugins = ["postgresfixtures"]

ADDRESSES = 6

STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "take", "release", "decline", "restart"]), st.integers(0, ADDRESSES + 1)),
    max_size=25,
)


class Book:
    """A server with few addresses, and the two stores that it commits to."""

    def __init__(self, sqlite: SqliteStore, postgresql: PostgresqlStore, reactor: ThreadCallReactor) -> None:
        self._sqlite, self._postgresql = sqlite, postgresql
        self._reactor, self._callbacks = reactor, CallbackReactor()
        sqlite._reactor = self._callbacks
        self._addresses: dict[int, str] = {}
        self._now = NOW
        self._load()

    def _load(self) -> None:
        leases = {lease.address: lease for lease in self._sqlite.load()}
        assert {lease.address: lease for lease in self._postgresql.load()} == leases
        self._server = AddressServer(
            [Subnet(network="10.1.0.0/24", pool=[f"10.1.0.10-10.1.0.{9 + ADDRESSES}"])], leases.values()
        )
        self._stored = leases

    def close(self) -> None:
        self._reactor.wait(self._postgresql.close())
        self._callbacks.wait(self._sqlite.close())

    def restart(self, client: int) -> None:
        """Close and read both stores; they must have what was committed."""
        committed: dict[str, Lease] = self._stored
        self.close()
        self._load()
        assert self._stored == committed

    def take(self, client: int) -> None:
        """A client gets an address that no other client has, or none when all are leased."""
        offer = self._send(client, MessageType.DISCOVER)
        if offer is None or not offer.address:
            return
        ack = self._send(
            client,
            MessageType.REQUEST,
            requested_ip_address=inet_aton(offer.address),
            server_identifier=inet_aton(SERVER),
        )
        assert ack is not None
        self._addresses.pop(client, None)
        assert ack.address not in self._addresses.values()
        self._addresses[client] = ack.address

    def release(self, client: int) -> None:
        """A client gives its address back."""
        address = self._addresses.pop(client, None)
        if address is not None:
            self._send(client, MessageType.RELEASE, ciaddr=address, server_identifier=inet_aton(SERVER))

    def decline(self, client: int) -> None:
        """A client finds that its address is in use."""
        address = self._addresses.pop(client, None)
        if address is not None:
            self._send(
                client,
                MessageType.DECLINE,
                requested_ip_address=inet_aton(address),
                server_identifier=inet_aton(SERVER),
            )

    def _send(self, client: int, kind: MessageType, ciaddr: str = "0.0.0.0", **options: bytes) -> Answer | None:
        self._now += 1
        sent = {int(Option.MESSAGE_TYPE): bytes((kind,))}
        sent |= {int(Option[name.upper()]): value for name, value in options.items()}
        message = Message(op=BOOTREQUEST, xid=client, ciaddr=ciaddr, chaddr=mac_of(client), options=sent)
        answer = self._server.handle(message, Arrival(SERVER), self._now)
        leases = getattr(answer, "commit", ())
        if leases:
            committed = self._postgresql.commit(leases)
            self._callbacks.wait(self._sqlite.commit(leases))
            self._reactor.wait(committed)
            self._stored |= {lease.address: lease for lease in leases}
        return of_type(Answer, answer) if getattr(answer, "address", "") else None


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_lease_book_is_the_same_from_sqlite_and_from_postgresql(
    make_store: Callable[..., PostgresqlStore],
    server: Server,
    schema: str,
    reactor: ThreadCallReactor,
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, int]],
) -> None:
    path = tmp_path_factory.mktemp("state")
    if server.run("SELECT to_regnamespace(%s)", schema) != [(None,)]:
        server.run(f"DROP SCHEMA {schema} CASCADE")
    book = Book(SqliteStore(path / "bootfw.sqlite"), make_store(), reactor)
    for name, client in steps:
        getattr(book, name)(client)
    book.restart(0)
    book.close()
