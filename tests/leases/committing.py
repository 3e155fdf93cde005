"""A process that commits leases as fast as it can, to be killed. What it commits follows from a number."""

import random

from attrs import evolve
from callbacks import Callbacks

from bootfw.leases.sqlite import SqliteLeases
from bootfw.testing.contracts.leases import LEASES

ADDRESSES = 200
OUTSTANDING = 6


def leases_of(turn):
    """What commit number *turn* is: each lease tells the number, and everything in it follows from that."""
    chance = random.Random(turn)
    numbers = chance.sample(range(ADDRESSES), chance.choice([1, 1, 3, 40]))
    return [lease_of(turn, f"10.0.0.{number}") for number in numbers]


def lease_of(turn, address):
    mark = b"%d at %s " % (turn, address.encode())
    return evolve(LEASES[turn % 2], address=address, granted=float(turn), client=mark * (turn % 9), client_id=mark)


def commit_for_ever(path, first, pipe):
    """Commit first, first + 1 and so on; send the number of each that is durable."""
    reactor = Callbacks()
    store = SqliteLeases(path, reactor)
    list(store.load())
    waiting = set()
    while True:
        answer = store.commit(leases_of(first))
        waiting.add(answer)
        answer.addCallback(lambda _, answer=answer, turn=first: (waiting.discard(answer), pipe.send(turn)))
        first += 1
        while len(waiting) >= OUTSTANDING:
            reactor.turn()
