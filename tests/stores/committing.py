"""Processes that commit leases as fast as they can, to be killed."""

import random
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from socket import inet_aton

from attrs import evolve
from callbacks import Callbacks
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


def leases_of(turn: int) -> list[Lease]:
    """What commit number *turn* is: each lease tells the number, and everything in it follows from that."""
    chance = random.Random(turn)
    numbers = chance.sample(range(ADDRESSES), chance.choice([1, 1, 3, 40]))
    return [lease_of(turn, f"10.0.0.{number}") for number in numbers]


def lease_of(turn: int, address: str) -> Lease:
    mark = b"%d at %s " % (turn, address.encode())
    return evolve(LEASES[turn % 2], address=address, granted=float(turn), client=mark * (turn % 9), client_id=mark)


def _durable(
    waiting: set[Deferred[None]], pipe: Connection, answer: Deferred[None], told: int | tuple[int, str], result: None
) -> None:
    waiting.discard(answer)
    pipe.send(told)


def commit_for_ever(path: Path, first: int, pipe: Connection) -> None:
    """Commit first, first + 1 and so on; send the number of each that is durable."""
    reactor = Callbacks()
    store = SqliteStore(path, reactor)
    list(store.load())
    waiting: set[Deferred[None]] = set()
    while True:
        answer = store.commit(leases_of(first))
        waiting.add(answer)
        answer.addCallback(partial(_durable, waiting, pipe, answer, first))
        first += 1
        while len(waiting) >= OUTSTANDING:
            reactor.turn()


CLIENTS = 300
OURS = "10.1.0.1"
NOW = 1_763_640_000.0


def mac_of(client: int) -> bytes:
    return bytes((2, 0, 0, 0, *client.to_bytes(2)))


def serve_for_ever(path: Path, seed: int, pipe: Connection) -> None:
    """Give addresses to clients who come by chance; send (client, address) when the ACK would leave."""
    reactor, chance = Callbacks(), random.Random(seed)
    store = SqliteStore(path, reactor)
    server = AddressServer([Subnet(network="10.1.0.0/23", pool=["10.1.0.10-10.1.1.200"])], store.load())
    arrival = Arrival(OURS)
    waiting: set[Deferred[None]] = set()

    def ask(client: int, kind: MessageType, **options: bytes) -> Answer:
        told: dict[int, bytes] = {Option.MESSAGE_TYPE: bytes((kind,))}
        told |= {Option[name.upper()]: value for name, value in options.items()}
        message = Message(op=BOOTREQUEST, xid=client, chaddr=mac_of(client), options=told)
        return of_type(Answer, server.handle(message, arrival, NOW))

    while True:
        client = chance.randrange(CLIENTS)
        offer = ask(client, MessageType.DISCOVER)
        wanted, chosen = inet_aton(offer.address), inet_aton(OURS)
        ack = ask(client, MessageType.REQUEST, requested_ip_address=wanted, server_identifier=chosen)
        answer = store.commit(ack.commit)
        waiting.add(answer)
        told = client, ack.address
        answer.addCallback(partial(_durable, waiting, pipe, answer, told))
        while len(waiting) >= OUTSTANDING:
            reactor.turn()
