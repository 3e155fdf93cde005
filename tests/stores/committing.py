"""Processes that commit leases as fast as they can, to be killed."""

import random
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from socket import inet_aton

from attrs import evolve
from callbacks import CallbackReactor
from narrowing import of_type
from twisted.internet.defer import Deferred

from bootfw.dhcp.answer import Answer, Arrival
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Subnet
from bootfw.lease import Lease
from bootfw.stores.sqlite import SqliteStore
from bootfw.testing.contracts.leases import LEASES
from bootfw.wire.dhcp4 import BOOTREQUEST, Message, MessageType
from bootfw.wire.options import Option

ADDRESSES = 200
OUTSTANDING = 6


def leases_of(number: int) -> list[Lease]:
    """The leases of commit *number*: each names the number, and everything in it follows from that."""
    rng = random.Random(number)
    hosts = rng.sample(range(ADDRESSES), rng.choice([1, 1, 3, 40]))
    return [lease_of(number, f"10.0.0.{host}") for host in hosts]


def lease_of(number: int, address: str) -> Lease:
    mark = b"%d at %s " % (number, address.encode())
    return evolve(
        LEASES[number % 2], address=address, granted=float(number), client=mark * (number % 9), client_id=mark
    )


def _durable(
    pending: set[Deferred[None]], pipe: Connection, answer: Deferred[None], report: int | tuple[int, str], result: None
) -> None:
    pending.discard(answer)
    pipe.send(report)


def commit_for_ever(path: Path, first: int, pipe: Connection) -> None:
    """Commit first, first + 1 and so on; send the number of each that is durable."""
    reactor = CallbackReactor()
    store = SqliteStore(path, reactor)
    list(store.load())
    pending: set[Deferred[None]] = set()
    while True:
        answer = store.commit(leases_of(first))
        pending.add(answer)
        answer.addCallback(partial(_durable, pending, pipe, answer, first))
        first += 1
        while len(pending) >= OUTSTANDING:
            reactor.turn()


CLIENTS = 300
SERVER = "10.1.0.1"
NOW = 1_763_640_000.0


def mac_of(client: int) -> bytes:
    return bytes((2, 0, 0, 0, *client.to_bytes(2)))


def serve_for_ever(path: Path, seed: int, pipe: Connection) -> None:
    """Give addresses to random clients; send (client, address) when the ACK would be sent."""
    reactor, rng = CallbackReactor(), random.Random(seed)
    store = SqliteStore(path, reactor)
    server = AddressServer([Subnet(network="10.1.0.0/23", pool=["10.1.0.10-10.1.1.200"])], store.load())
    arrival = Arrival(SERVER)
    pending: set[Deferred[None]] = set()

    def send(client: int, kind: MessageType, **options: bytes) -> Answer:
        sent: dict[int, bytes] = {Option.MESSAGE_TYPE: bytes((kind,))}
        sent |= {Option[name.upper()]: value for name, value in options.items()}
        message = Message(op=BOOTREQUEST, xid=client, chaddr=mac_of(client), options=sent)
        return of_type(Answer, server.handle(message, arrival, NOW))

    while True:
        client = rng.randrange(CLIENTS)
        offer = send(client, MessageType.DISCOVER)
        requested, server_id = inet_aton(offer.address), inet_aton(SERVER)
        ack = send(client, MessageType.REQUEST, requested_ip_address=requested, server_identifier=server_id)
        answer = store.commit(ack.commit)
        pending.add(answer)
        report = client, ack.address
        answer.addCallback(partial(_durable, pending, pipe, answer, report))
        while len(pending) >= OUTSTANDING:
            reactor.turn()
