"""LP #1155556: a client that took 4.78 s to answer the OACK was never served, and the log said
"This SequentialCall has already timed out".

PXELINUX acknowledges an OACK only when it first reads the file. The server of that report had a last wait that nobody
owned: an ACK that came in it met a timer which had fired already.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from tftpserver import MemoryWire, Serve, Served, blocks, numbered

from bootfw.interfaces import IWatchdogPolicy
from bootfw.values import Agreed
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.watchdogs.exponential import Exponential
from bootfw.watchdogs.fixed import Fixed
from bootfw.watchdogs.hpa import HPA
from bootfw.wire import tftp

CONTENT = numbered(1200)
OACK = tftp.OptionAck((("tsize", "1200"),))

POLICIES = [Fixed([1.0, 3.0, 7.0]), HPA(), Exponential(), Adaptive()]
GIVES_UP_AFTER = [11, 6, 60, 60]
"""Seconds that each has at the least before it gives up."""

DELAYS = [0.5, 2.5, 4.5, 4.78, 6, 10.5]
"""Seconds; 4.78 are the report's."""

every_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)


def give_up_after(policy: IWatchdogPolicy) -> float:
    """Seconds from the first sending until a policy gives up."""
    watchdog = policy.begin(Agreed())
    waits = (watchdog.wait(attempt) for attempt in count(1))
    total = 0.0
    while (wait := next(waits)) is not None:
        total += wait
    return total


@pytest.mark.parametrize(("policy", "seconds"), list(zip(POLICIES, GIVES_UP_AFTER, strict=True)))
def test_watchdogs_give_up_within_their_time(policy: IWatchdogPolicy, seconds: int) -> None:
    assert seconds <= give_up_after(policy) <= 2 * seconds


def while_policy_waits(delays: Sequence[float]) -> pytest.MarkDecorator:
    """(policy, delay) where the policy is still waiting then."""
    cases = [(policy, delay) for policy in POLICIES for delay in delays if delay < give_up_after(policy)]
    return pytest.mark.parametrize(("policy", "delay"), cases, ids=str)


def wait_since(served: Served, delay: float) -> None:
    """Until *delay* seconds after the transfer began."""
    served.advance(served.events[0].at + delay - served.now)


@while_policy_waits(DELAYS)
def test_late_answer_to_an_oack_is_handled(serve: Serve, policy: IWatchdogPolicy, delay: float) -> None:
    served = serve({"file": CONTENT}, watchdog=policy)
    peer = served.peer()
    assert peer.request("file", tsize=0) == [OACK]
    wait_since(served, delay)
    assert set(peer.take()) <= {OACK}
    assert peer.send(tftp.ack(0)) == [tftp.Data(1, CONTENT[:512])]
    assert peer.send(tftp.ack(1)) == [tftp.Data(2, CONTENT[512:1024])]
    assert peer.send(tftp.ack(2)) == [tftp.Data(3, CONTENT[1024:])]
    assert peer.send(tftp.ack(3)) == []
    assert served.outcomes == ["COMPLETE"]
    served.advance(200)
    assert peer.take() == []


@while_policy_waits(DELAYS)
@pytest.mark.parametrize("options", [{}, {"tsize": 513}])
def test_late_first_block_of_an_upload_is_handled(
    serve: Serve, policy: IWatchdogPolicy, delay: float, options: dict[str, Any]
) -> None:
    served = serve(watchdog=policy)
    peer = served.peer()
    [answer] = peer.put("file", **options)
    wait_since(served, delay)
    assert set(peer.take()) <= {answer}
    assert peer.send(tftp.data(1, CONTENT[:512])) == [tftp.Ack(1)]
    assert peer.send(tftp.data(2, b"x")) == [tftp.Ack(2)]
    assert served.outcomes == ["COMPLETE"]
    served.advance(200)
    assert peer.take() == []


@while_policy_waits(DELAYS)
def test_late_ack_of_a_block_is_handled(serve: Serve, policy: IWatchdogPolicy, delay: float) -> None:
    """The same pause in the middle of the file."""
    served = serve({"file": CONTENT}, watchdog=policy)
    peer = served.peer()
    peer.request("file", tsize=0)
    peer.send(tftp.ack(0))
    served.advance(delay - 0.01)
    assert set(blocks(peer.take())) <= {1}
    assert peer.send(tftp.ack(1)) == [tftp.Data(2, CONTENT[512:1024])]
    peer.send(tftp.ack(2))
    peer.send(tftp.ack(3))
    assert served.outcomes == ["COMPLETE"]


@every_policy
def test_oack_that_is_answered_when_the_policy_has_given_up(serve: Serve, policy: IWatchdogPolicy) -> None:
    """Silence, nothing left, and a new request works."""
    served = serve({"file": CONTENT}, watchdog=policy)
    peer = served.peer()
    peer.request("file", tsize=0)
    wait_since(served, give_up_after(policy) + 0.001)
    assert served.outcomes == ["TIMED_OUT"]
    assert served.protocol.transfers == 0
    assert served.backend.readers[0].closed == 1
    assert set(peer.take()) <= {OACK}
    assert peer.send(tftp.ack(0)) == []
    assert peer.send(tftp.ack(1)) == []
    assert peer.download("file", tsize=0) == CONTENT
    assert served.outcomes == ["TIMED_OUT", "COMPLETE"]


@pytest.mark.every_port
@pytest.mark.parametrize("second", [1.0, 4.0])
@pytest.mark.parametrize("wire", ["memory-stock", "memory-rich"], indirect=True)
def test_answer_at_the_very_instant_of_a_repetition(serve: Serve, wire: MemoryWire, second: float) -> None:
    """Whichever comes first, block 1 is sent."""
    served = serve({"file": CONTENT})
    peer = served.peer()
    peer.request("file", tsize=0)
    wire.network.delay = 0.0
    wait_since(served, second - 0.002)
    wire.clock.callLater(0.002, peer.send, tftp.ack(0))
    served.advance(0.01)
    assert served.outcomes == []
    assert peer.send(tftp.ack(1)) == [tftp.Data(2, CONTENT[512:1024])]
