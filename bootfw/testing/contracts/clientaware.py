"""IClientAware."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from zope.interface.verify import verifyObject

from bootfw.ability import provides
from bootfw.errors import BootRefused
from bootfw.events import Event, TransferBegun, TransferEnded, TransferRefused
from bootfw.interfaces import IBootFileResolver, IBootObserver, IClientAware, IStartable
from bootfw.testing.contracts.answers import Answers
from bootfw.testing.contracts.resolver import REQUESTS
from bootfw.values import Address, Agreed, Client, Outcome, TransferReport, TransferRequest

_REQUEST = TransferRequest("boot.ipxe", "boot.ipxe", ("192.0.2.9", 2070), local="192.0.2.1")

EVENTS: Sequence[Event] = (
    TransferBegun(1.0, _REQUEST, Agreed()),
    TransferEnded(2.0, TransferReport(_REQUEST, Agreed(), Outcome.COMPLETE, "", 1000, 2, 0, 1.0, 2.0)),
    TransferRefused(3.0, _REQUEST, 1, "File not found"),
)
"""Of transfers, whose peer an observer looks up."""


class ClientAwareContract(Answers):
    """The tests of an observer or resolver that looks up clients. Override ``make_plugin``.

    Beside these use the kit of what the plugin is, such as ResolverContract.
    """

    def make_plugin(self) -> IClientAware:
        """Return a plugin as the configuration would make it."""
        raise NotImplementedError

    def test_provides_the_client_aware_interface(self) -> None:
        plugin = self.make_plugin()
        verifyObject(IClientAware, plugin)
        assert provides(plugin, IBootObserver) or provides(plugin, IBootFileResolver), "neither observer nor resolver"

    def test_nothing_is_looked_up_before_the_first_event(self) -> None:
        plugin = self.make_plugin()
        peers = self._set_lookup(plugin)
        with self._started(plugin):
            assert peers == []

    def test_a_client_of_whom_only_the_address_is_known_is_no_error(self) -> None:
        plugin = self.make_plugin()
        peers = self._set_lookup(plugin)
        with self._started(plugin):
            if provides(plugin, IBootFileResolver):
                for request in REQUESTS:
                    with suppress(BootRefused):
                        self.answer(plugin.resolve(request))
            if provides(plugin, IBootObserver):
                for event in EVENTS:
                    plugin.observe(event)
        assert set(peers) <= {_REQUEST.peer}, "a lookup takes the peer as the event has it"

    @staticmethod
    def _set_lookup(plugin: IClientAware) -> list[Address]:
        """Return the list to which each peer that is looked up is added."""
        peers: list[Address] = []

        def lookup(peer: Address) -> Client:
            peers.append(peer)
            return Client(peer[0])

        plugin.set_client_lookup(lookup)
        return peers

    @contextmanager
    def _started(self, plugin: IClientAware) -> Iterator[None]:
        """Start and stop the plugin as the service does."""
        if not provides(plugin, IStartable):
            yield
            return
        plugin.start(lambda event: None)
        yield
        self.answer(plugin.close())
