"""IBootFileResolver, and the abilities that a resolver may declare beside."""

from collections.abc import Awaitable, Sequence
from inspect import iscoroutine
from uuid import UUID

from attrs import evolve
from zope.interface.verify import verifyObject

from bootfw.dhcp.expand import expand
from bootfw.errors import BootRefused
from bootfw.interfaces import IBootFileResolver, IListableResolver, IUniformResolver
from bootfw.testing.contracts.answers import Answers
from bootfw.values import BootFile, BootMenu, BootRequest, ListedBootFile
from bootfw.wire.iana import ARCHITECTURES, NETWORK_GEAR

REQUESTS = (
    BootRequest("52:54:00:12:34:56", "discover", "pxe-bios", "x86-bios", (0,), server="192.0.2.1"),
    BootRequest("52:54:00:12:34:56", "boot-server", "uefi", "x86_64-uefi", (7,), uuid=str(UUID(int=1))),
    BootRequest("52:54:00:12:34:56", "request", "ipxe", "x86-bios", (0,), user_classes=("iPXE",), ipxe=True),
    BootRequest("52:54:00:12:34:56", "discover", "uefi-http", "x86_64-uefi-http", (16,), http=True),
    BootRequest(
        "52:54:00:12:34:56",
        "discover",
        "uefi",
        "arm64-uefi",
        (11,),
        relay_address="198.51.100.1",
        circuit_id=b"\x00\xff eth0",
        remote_id=b"",
    ),
    # What a broken client makes of it all.
    BootRequest("", "discover", "", "unknown", vendor_class="\udcff\0{server}", options={0: b"", 255: b"\xff" * 300}),
)
"""One of each kind of client."""


class ResolverContract(Answers):
    """What every resolver does. Override ``make_resolver``, and ``requests`` when yours decides about others."""

    requests: Sequence[BootRequest] = REQUESTS

    def make_resolver(self) -> IBootFileResolver:
        """Return a resolver as the configuration would make it."""
        raise NotImplementedError

    def resolve(self, resolver: IBootFileResolver, request: BootRequest) -> BootFile | BootMenu | BootRefused | None:
        """Return its answer; a BootRefused is returned, too."""
        try:
            return self.answer(resolver.resolve(request))
        except BootRefused as refused:
            return refused

    def test_provides_the_interface(self) -> None:
        verifyObject(IBootFileResolver, self.make_resolver())

    def test_answers_every_client_with_a_file_or_none_or_a_refusal(self) -> None:
        resolver = self.make_resolver()
        for request in (*self.requests, *REQUESTS):
            found = self.resolve(resolver, request)
            assert found is None or isinstance(found, BootFile | BootMenu | BootRefused), f"{request}: {found!r}"

    def test_files_have_names_that_can_be_filled_in(self) -> None:
        resolver = self.make_resolver()
        for request in self.requests:
            found = self.resolve(resolver, request)
            if isinstance(found, BootFile):
                assert isinstance(found.name, str)
                assert found.server is None or isinstance(found.server, str)
                try:
                    assert expand(found.name, request), f"{request}: a file without a name"
                except BootRefused:
                    continue  # this client sends no UUID, for instance

    def test_refusals_say_why(self) -> None:
        resolver = self.make_resolver()
        for request in self.requests:
            found = self.resolve(resolver, request)
            assert not isinstance(found, BootRefused) or found.reason, f"{request}: refused without a reason"

    def test_one_client_does_not_change_the_answer_to_another(self) -> None:
        """DISCOVERs are repeated and come from many machines at once."""
        resolver = self.make_resolver()
        alone = [self._shown(self.resolve(self.make_resolver(), request)) for request in self.requests]
        for _ in range(2):
            assert [self._shown(self.resolve(resolver, request)) for request in self.requests] == alone

    @staticmethod
    def _shown(found: BootFile | BootMenu | BootRefused | None) -> object:
        return ("refused", found.reason) if isinstance(found, BootRefused) else found


class UniformResolverContract(ResolverContract):
    """The tests of a resolver that answers by ``architecture``, ``ipxe`` and ``http`` of the request only."""

    def make_resolver(self) -> IUniformResolver:
        """Return a resolver as the configuration would make it."""
        raise NotImplementedError

    def test_provides_the_uniform_interface(self) -> None:
        verifyObject(IUniformResolver, self.make_resolver())

    def test_answers_are_returned_directly(self) -> None:
        resolver = self.make_resolver()
        for request in self.requests:
            try:
                found = resolver.resolve(request)
            except BootRefused:
                continue
            if iscoroutine(found):
                found.close()  # or Python warns that it was never awaited
            assert not isinstance(found, Awaitable), f"{request}: --check and lint can't wait"

    def test_clients_that_differ_in_nothing_else_get_the_same(self) -> None:
        resolver = self.make_resolver()
        for request in self.requests:
            other = evolve(
                BootRequest("52:54:00:ff:ff:fe", "request", "", request.architecture, server="198.51.100.9"),
                ipxe=request.ipxe,
                http=request.http,
                uuid=str(UUID(int=9)),
            )
            answers = [self._shown(self.resolve(resolver, each)) for each in (request, other)]
            assert answers[0] == answers[1], f"{request}: it depends on more than architecture, ipxe and http"


class ListableResolverContract(ResolverContract):
    """The tests of a resolver that lists the boot files which its options name."""

    def make_resolver(self) -> IListableResolver:
        """Return a resolver as the configuration would make it."""
        raise NotImplementedError

    def test_provides_the_listable_interface(self) -> None:
        verifyObject(IListableResolver, self.make_resolver())

    def test_listed_files_have_names_and_architectures(self) -> None:
        known = {"", "ipxe", "unknown", NETWORK_GEAR, *ARCHITECTURES.values()}
        for listed in self.make_resolver().boot_files():
            assert isinstance(listed, ListedBootFile), repr(listed)
            assert listed.file.name, f"{listed}: a file without a name"
            assert listed.architecture in known or listed.architecture.startswith("arch-"), repr(listed.architecture)

    def test_files_of_the_answers_are_listed(self) -> None:
        resolver = self.make_resolver()
        listed = {each.file.name for each in resolver.boot_files()}
        for request in self.requests:
            found = self.resolve(resolver, request)
            if isinstance(found, BootFile) and found.content is None:
                assert found.name in listed, f"{request}: {found.name!r} is not listed"
