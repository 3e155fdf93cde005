"""Transfers over a lossy network: the file arrives unchanged, and no transfer is left."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from narrowing import of_type
from tftpserver import Files, MemoryWire, Reader, Serve, Served, Writer, coroutine, numbered

from bootfw.interfaces import IWatchdogPolicy
from bootfw.testing import LossyLink, TFTPClient
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.watchdogs.exponential import Exponential
from bootfw.watchdogs.fixed import Fixed
from bootfw.watchdogs.hpa import HPA

pytestmark = pytest.mark.parametrize("wire", ["memory-stock", "memory-rich"], indirect=True)

POLICIES = [Fixed([1.0, 3.0, 7.0]), HPA(), Exponential(), Adaptive()]
CONTENT = numbered(60_000)


@pytest.fixture(params=[0, 1, 2])
def make_client(request: pytest.FixtureRequest, wire: MemoryWire) -> Iterator[Callable[..., TFTPClient]]:
    """Makes a client; the network loses 5 % of the datagrams, duplicates 5 % and delays 5 %, in both directions."""

    def make(served: Served, **options: int) -> TFTPClient:
        wire.network.link = LossyLink(request.param, drop=0.05, duplicate=0.05, reorder=0.05)
        return TFTPClient(wire.network.host("10.0.0.7"), served.address, options)

    yield make
    wire.network.link = None


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("window", [1, 4, 16])
@pytest.mark.parametrize("behaviour", [None, coroutine])
def test_download_over_a_lossy_link(
    serve: Serve,
    wire: MemoryWire,
    make_client: Callable[..., TFTPClient],
    policy: IWatchdogPolicy,
    window: int,
    behaviour: Callable[[Callable[[], Any]], Reader | bytes | Writer | None] | None,
) -> None:
    served = serve(Files({"file": CONTENT}, {"read": behaviour} if behaviour else {}), watchdog=policy)
    client = make_client(served, blksize=512, windowsize=window)
    assert wire.network.result_of(client.download("file"), 600).data == CONTENT
    assert of_type(LossyLink, wire.network.link).dropped > 0
    served.advance(200)
    assert served.outcomes[0] in ("COMPLETE", "UNCONFIRMED")
    assert served.protocol.transfers == 0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("window", [1, 4, 16])
def test_upload_over_a_lossy_link(
    serve: Serve, wire: MemoryWire, make_client: Callable[..., TFTPClient], policy: IWatchdogPolicy, window: int
) -> None:
    served = serve(watchdog=policy)
    client = make_client(served, blksize=512, windowsize=window)
    wire.network.result_of(client.upload("file", CONTENT), 600)
    assert of_type(LossyLink, wire.network.link).dropped > 0
    served.advance(200)
    assert served.backend.files == {"file": CONTENT}
    assert served.outcomes[0] == "COMPLETE"
    assert served.protocol.transfers == 0
