"""What a reload has put out of use: it is closed when no transfer and no request uses it any more."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall

from bootfw.boot.resolverchain import ResolverChain

CHECKED_EVERY = 1.0
"""Seconds between two looks whether something can be closed."""


@frozen
class _Retired:
    """Plugins, or a socket, that a reload has put out of use, and that transfers or requests may still use."""

    chain: ResolverChain | None
    under_way: set[Any]
    close_unused: Sequence[Callable[[], object]]
    until: float

    def is_busy(self, under_way: set[Any], now: float) -> bool:
        """Return whether something may still use them.

        :param under_way: all transfers and downloads of this process.
        """
        resolves = self.chain is not None and self.chain.is_busy
        return now < self.until and (resolves or not self.under_way.isdisjoint(under_way))


class RetiredParts:
    """All plugins and sockets that reloads have put out of use, and that are not closed yet.

    :param reactor: IReactorTime.
    :param under_way: returns every transfer and download that this process serves.
    """

    def __init__(self, reactor: Any, under_way: Callable[[], set[Any]]) -> None:
        self._reactor = reactor
        self._under_way = under_way
        self._parts: list[_Retired] = []
        self._check: IDelayedCall | None = None
        """The scheduled call of close_unused(); None: there is none."""

    def __len__(self) -> int:
        return len(self._parts)

    def add(
        self,
        chain: ResolverChain | None,
        under_way: set[Any],
        close_unused: Sequence[Callable[[], object]],
        until: float = inf,
    ) -> None:
        """Have close_unused() close plugins, or a socket, when nothing uses them.

        :param chain: may be answering requests by them; None: no request can be pending.
        :param under_way: the transfers and downloads that may use them.
        :param close_unused: functions that close them.
        :param until: when they are closed at the latest, in seconds of the clock.
        """
        self._parts.append(_Retired(chain, under_way, close_unused, until))

    def close_unused(self) -> None:
        """Close what nothing under way uses any more, now and then every CHECKED_EVERY seconds."""
        # Checked once a second: transfers, downloads and resolutions end in many places, and a reload is rare.
        if self._check is not None and self._check.active():
            self._check.cancel()
        self._check = None
        under_way = self._under_way()
        parts, self._parts = self._parts, []
        for each in parts:
            if each.is_busy(under_way, self._reactor.seconds()):
                self._parts.append(each)
            else:
                for close in each.close_unused:
                    close()
        if self._parts:
            self._check = self._reactor.callLater(CHECKED_EVERY, self.close_unused)

    def forget(self) -> None:
        """Close nothing later: the service stops, which cancels every resolution and closes every plugin."""
        self._parts = []
        if self._check is not None:
            self._check.cancel()
            self._check = None
