"""The timeout that a client requests (RFC 2349): acknowledged only by a server that waits exactly that long."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from attrs import frozen
from narrowing import of_type
from tftpserver import MemoryWire, Serve, Wire, numbered
from zope.interface import implementer

from bootfw.api import IAdaptiveWatchdog, ITimeoutWatchdog, IWatchdog, IWatchdogPolicy
from bootfw.personas.table import stock
from bootfw.testing import LossyLink, TFTPClient
from bootfw.values import Agreed
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.watchdogs.exponential import Exponential
from bootfw.watchdogs.fixed import Fixed
from bootfw.watchdogs.hpa import HPA
from bootfw.wire import tftp

CONTENT = numbered(20_000)
HONOURING = [Fixed(), HPA(), Exponential()]
"""Policies whose watchdogs wait as long as the client requests."""


@implementer(IWatchdogPolicy)
@frozen
class PluginPolicy:
    """A policy with one watchdog for all transfers, as a plugin may have it."""

    watchdog: IWatchdog

    def begin(self, agreed: Agreed) -> IWatchdog:
        return self.watchdog


@implementer(IWatchdog)
class PlainWatchdog:
    def wait(self, attempt: int) -> float | None:
        return 2.0 if attempt < 5 else None


@implementer(IAdaptiveWatchdog)
class LearningWatchdog(PlainWatchdog):
    def progressed(self, seconds: float | None) -> None:
        pass


@implementer(ITimeoutWatchdog)
class IgnoringWatchdog(PlainWatchdog):
    honours_timeout = False


@implementer(ITimeoutWatchdog)
class LearningAndHonouringWatchdog(LearningWatchdog):
    honours_timeout = True


class WaitOverridingWatchdog(IgnoringWatchdog):
    """The inherited ``honours_timeout`` says nothing about its own wait(), so it counts as one that honours it."""

    def wait(self, attempt: int) -> float | None:
        return 3.0 if attempt < 5 else None


def option_names(replies: Sequence[tftp.Packet]) -> list[str]:
    """The names of the options in an OACK, the only reply."""
    [packet] = replies
    assert isinstance(packet, tftp.OptionAck), packet
    return [name for name, _ in packet.options]


@pytest.mark.parametrize("policy", [Adaptive(), PluginPolicy(LearningWatchdog()), PluginPolicy(IgnoringWatchdog())])
def test_a_watchdog_that_measures_leaves_the_timeout_out_of_the_oack(
    serve: Serve, policy: Adaptive | PluginPolicy
) -> None:
    served = serve({"file": CONTENT}, watchdog=policy)

    assert option_names(served.peer().request("file", blksize=1400, TimeOut=6, tsize=0)) == ["blksize", "tsize"]
    assert option_names(served.peer().put("new", timeout=6, blksize=1400)) == ["blksize"]


@pytest.mark.parametrize("policy", [Adaptive(), PluginPolicy(LearningWatchdog())])
def test_no_oack_if_the_timeout_is_the_only_option_and_left_out(serve: Serve, policy: Adaptive | PluginPolicy) -> None:
    served = serve({"file": CONTENT}, watchdog=policy)

    assert served.peer().request("file", timeout=6) == [tftp.Data(1, CONTENT[:512])]
    assert served.peer().put("new", timeout=6) == [tftp.Ack(0)]


@pytest.mark.parametrize(
    "policy",
    [
        *HONOURING,
        PluginPolicy(PlainWatchdog()),
        PluginPolicy(LearningAndHonouringWatchdog()),
        PluginPolicy(WaitOverridingWatchdog()),
    ],
)
def test_a_watchdog_that_honours_the_timeout_acknowledges_it(
    serve: Serve, policy: Fixed | HPA | Exponential | PluginPolicy
) -> None:
    served = serve({"file": CONTENT}, watchdog=policy)

    assert option_names(served.peer().request("file", blksize=1400, timeout=6)) == ["blksize", "timeout"]
    assert option_names(served.peer().put("new", timeout=6)) == ["timeout"]


@pytest.mark.parametrize("policy", HONOURING)
def test_acknowledged_timeout_is_used_for_every_wait(serve: Serve, policy: Fixed | HPA | Exponential) -> None:
    served = serve({"file": CONTENT}, watchdog=policy)
    peer = served.peer()
    peer.request("file", timeout=6)
    peer.send(tftp.ack(0))

    served.advance(5.9)
    assert peer.take() == []
    served.advance(0.2)
    assert peer.take() == [tftp.Data(1, CONTENT[:512])]


def test_a_timeout_that_is_left_out_of_the_oack_does_not_delay_retransmission(serve: Serve) -> None:
    served = serve({"file": CONTENT}, watchdog=Adaptive())
    peer = served.peer()
    peer.request("file", timeout=255, blksize=512)
    assert peer.send(tftp.ack(0)) == [tftp.Data(1, CONTENT[:512])]

    served.advance(0.2)
    assert set(peer.take()) == {tftp.Data(1, CONTENT[:512])}


@pytest.mark.parametrize("timeout", [1, 2, 6, 255])
@pytest.mark.parametrize("seed", [1, 2])
def test_lost_packets_are_retransmitted_before_the_timeout_of_the_client(
    serve: Serve, wire: Wire, timeout: int, seed: int
) -> None:
    """About 40 of the 400 blocks are lost: 40 waits for the client's timeout would exceed this test's limit."""
    content = numbered(200_000)
    served = serve({"file": content}, watchdog=Adaptive())
    network = of_type(MemoryWire, wire).network
    network.link = LossyLink(seed, drop=0.05)
    client = TFTPClient(network.host("10.0.0.7"), served.address, {"blksize": 512, "timeout": timeout})

    assert network.result_of(client.download("file"), 30).data == content
    network.link = None
    served.advance(200)


@pytest.mark.parametrize("policy", [Adaptive(), *HONOURING], ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("size", [512, 1428, 1468])
@pytest.mark.parametrize("windowsize", [None, 16])
def test_the_order_of_the_options_makes_no_difference(
    serve: Serve, policy: Adaptive | Fixed | HPA | Exponential, size: int, windowsize: int | None
) -> None:
    served = serve({"file": CONTENT}, watchdog=policy, personas=stock())
    options: dict[str, Any] = {"tsize": 0, "blksize": size, "timeout": 2} | (
        {"windowsize": windowsize} if windowsize else {}
    )
    oack_options = set()
    for order in permutations(options.items()):
        [packet] = served.peer().request("file", **dict(order))
        oack = of_type(tftp.OptionAck, packet)
        assert [name for name, _ in order if name in dict(oack.options)] == [name for name, _ in oack.options]
        oack_options.add(frozenset(oack.options))

    [agreed] = oack_options
    assert ("blksize", str(size)) in agreed
    assert windowsize is None or ("windowsize", "16") in agreed
