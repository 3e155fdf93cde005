"""Workers as the main process sees them, without a process: when they get their sockets, and how they end."""

import pytest
from attrs import define, field
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from bootfw.net.workers.channel import Channel, packed
from bootfw.net.workers.supervisor import Workers

TO, FROM = 3, 4


class Process:
    """A child: the messages that it has got, and what has been done to it."""

    def __init__(self, protocol):
        self.messages = []
        self.signals = []
        self.open = {TO}
        self._channel = Channel(lambda kind, values: self.messages.append(kind))
        self.protocol = protocol
        protocol.makeConnection(self)

    def writeToChild(self, descriptor, data):
        if descriptor not in self.open:
            raise KeyError(descriptor)  # as Twisted's does
        self._channel.dataReceived(data)

    def closeChildFD(self, descriptor):
        self.open.discard(descriptor)

    def signalProcess(self, name):
        self.signals.append(name)

    def say(self, kind, *values):
        message = packed(kind, *values)
        self.protocol.childDataReceived(FROM, len(message).to_bytes(4, "big") + message)

    def end(self):
        self.protocol.processEnded(Failure(ProcessTerminated(1)))


class Reactor(Clock):
    def __init__(self):
        super().__init__()
        self.processes = []

    def spawnProcess(self, protocol, *arguments, **options):
        self.processes.append(process := Process(protocol))
        return process


@define(eq=False)
class InterimServer:
    """Takes the place of a InterimServer, for a port that is none."""

    busy: bool = False
    did: list = field(factory=list)

    def hand_over(self):
        self.did.append("hand over")
        return []

    def drain(self):
        self.did.append("drain")

    def close(self):
        self.did.append("close")


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def events():
    return []


@pytest.fixture
def workers(reactor, events):
    """Two of them, started."""
    workers = Workers(reactor, 2, "bootfw.cli.worker", None)
    workers.join(lambda kind, values: False, publish=events.append, lookup=None, memory=list, serve=None)
    workers.startService()
    return workers


@pytest.fixture
def interim(workers):
    """What stands in for the first of them."""
    workers._workers[0].interim = interim = InterimServer()
    return interim


def test_one_gets_its_sockets_when_it_is_prepared_and_what_stands_in_for_it_has_left(workers, reactor, interim):
    first, second = reactor.processes
    assert (first.messages, second.messages) == (["prepare"], ["prepare"])
    first.say("prepared")
    assert (first.messages, second.messages) == (["prepare", "begin"], ["prepare"])
    assert interim.did == ["hand over"]


def test_what_can_not_be_handed_over_is_waited_for(workers, reactor, interim):
    interim.busy = True
    reactor.processes[0].say("prepared")
    reactor.pump([0.1] * 40)
    assert (reactor.processes[0].messages, interim.did) == (["prepare"], [])
    interim.busy = False
    reactor.advance(0.1)
    assert (reactor.processes[0].messages, interim.did) == (["prepare", "begin"], ["hand over"])


def test_what_never_ends_is_drained_and_left_at_last(workers, reactor, interim):
    interim.busy = True
    reactor.processes[0].say("prepared")
    reactor.pump([0.1] * 70)
    assert set(interim.did) == {"drain"}
    reactor.pump([0.1] * 600)
    assert interim.did[-1] == "hand over"
    assert reactor.processes[0].messages == ["prepare", "begin"]


def test_one_that_ends_before_it_has_its_sockets_is_stood_in_for(workers, reactor, interim, events):
    interim.busy = True
    reactor.processes[0].say("prepared")
    reactor.processes[0].end()
    reactor.advance(1)
    assert events[0].transfers == 0
    assert len(reactor.processes) == 3
    assert interim.did == []
    interim.busy = False
    reactor.processes[2].say("prepared")
    assert (reactor.processes[2].messages, interim.did) == (["prepare", "begin"], ["hand over"])


def test_one_that_has_not_begun_is_killed_at_once_and_another_has_time_to_end(workers, reactor):
    first, second = reactor.processes
    first.say("prepared")
    stopped = workers.stopService()
    reactor.advance(0)
    assert (first.signals, second.signals) == ([], ["KILL"])
    for process in (first, second):
        process.end()
    assert stopped.called
    reactor.advance(10)
    assert (first.signals, second.signals) == ([], ["KILL"])


def test_one_that_is_prepared_while_all_are_stopped_gets_no_message(workers, reactor, interim):
    workers.stopService()
    reactor.processes[0].say("prepared")
    assert reactor.processes[0].messages == ["prepare"]
    assert interim.did == []
