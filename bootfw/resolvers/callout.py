"""The ``callout`` resolver: an HTTP API says what a machine boots, in the style of Pixiecore's API mode."""

from collections import OrderedDict
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import urlsplit

from attrs import define, field, frozen, validators
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.api import (
    BootFile,
    BootRefused,
    BootRequest,
    ConfigError,
    Event,
    IBootFileResolver,
    IStartable,
    PluginContext,
    boot_plugin,
    ipxe_can_load,
)
from bootfw.resolvers.asking import Asker, why
from bootfw.resolvers.bootapi import BootAnswer, boot_answer
from bootfw.resolvers.scripts import local_boot, script

ANSWER = 64 << 10
"""Octets of an answer."""

KEPT = 16 << 20
"""Octets of the answers that are kept for when the API does not answer; the oldest are forgotten first."""

PATIENCE = 5.0
"""Seconds until a question is given up. What comes after its client was answered is kept for the client's next try."""

_NOT_MINE = 404


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f'must be the URL of a boot API, such as "http://10.0.0.5:8000", not "{value}"', ("url",))
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError("must be ASCII without blanks", ("url",))
    if parts.scheme == "https" and find_spec("OpenSSL") is None:
        raise ConfigError("https needs pyOpenSSL: pip install bootfw[tls]", ("url",))
    return value.rstrip("/").removesuffix("/v1")


@frozen
class _Kept:
    answer: BootAnswer
    at: float


@define(eq=False)
class _Question:
    """One that is under way; all who ask about the machine meanwhile wait for its answer."""

    asked: "Deferred[Any] | None" = None
    waiting: "list[Deferred[BootAnswer | None]]" = field(factory=list)


@implementer(IBootFileResolver, IStartable)
@define(eq=False)
class Callout:
    """An HTTP API says what iPXE boots: `GET {url}/v1/boot/{mac}`, in the style of Pixiecore's API mode.

    404 is "not mine", and the next resolver is asked. Who is not iPXE yet is left to the next resolver too, which has
    to give it iPXE. While the API does not answer, its last answer about the machine is used, and the log says so.
    """

    url: str = field(converter=_url)
    """Of the API, without `/v1`."""
    fallback: Literal["next", "local", "refuse"] = "next"
    """Without an answer in time, and without an earlier one: `"next"` asks the next resolver, `"local"` has the machine
    boot its own disk, `"refuse"` says nothing, so that it asks again while its iPXE has patience."""
    within_seconds: float = field(default=0.25, validator=validators.gt(0))
    """For an answer. It has to be less than this resolver's share of `answer-within-seconds` in `[dhcp]`."""
    stale_seconds: float = field(default=86400.0, validator=validators.ge(0))
    """So old the API's last answer may be that is used while it does not answer."""
    _reactor: Any = None
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False, repr=False)
    _asker: Asker = field(init=False, repr=False)
    _questions: dict[str, _Question] = field(factory=dict, init=False, repr=False)
    """By MAC."""
    _kept: "OrderedDict[str, _Kept]" = field(factory=OrderedDict, init=False, repr=False)
    """By MAC; the latest last."""
    _size: int = field(default=0, init=False)

    @_asker.default
    def _made_asker(self) -> Asker:
        return Asker(self._reactor, PATIENCE, ANSWER)

    @classmethod
    def configured(
        cls,
        context: PluginContext,
        url: str,
        fallback: Literal["next", "local", "refuse"] = "next",
        within_seconds: float = 0.25,
        stale_seconds: float = 86400.0,
    ) -> "Callout":
        """What boot_plugin calls."""
        return cls(url, fallback, within_seconds, stale_seconds, context.reactor)

    def start(self, publish: Callable[[Event], None]) -> None:
        """See IStartable."""

    def close(self) -> None:
        """See IStartable: nothing is asked any more."""
        for question in list(self._questions.values()):
            if question.asked is not None:
                question.asked.cancel()

    def resolve(self, request: BootRequest) -> "Deferred[BootFile | None] | None":
        """See IBootFileResolver."""
        if not request.ipxe or not request.mac:
            return None
        waiting: Deferred[Any] = Deferred()
        question = self._questions.get(request.mac)
        if question is None:
            question = self._questions[request.mac] = _Question()
            question.waiting.append(waiting)
            question.asked = self._asker.ask(f"{self.url}/v1/boot/{request.mac}")
            question.asked.addCallback(self._read)
            question.asked.addBoth(self._answered, request.mac, question)
        else:
            question.waiting.append(waiting)
        waiting.addTimeout(self.within_seconds, self._reactor)
        return waiting.addCallbacks(self._decided, self._failed, (request,), {}, (request,))

    def _read(self, came: tuple[int, bytes]) -> BootAnswer | None:
        code, body = came
        if code == _NOT_MINE:
            return None
        if code != 200:
            raise ValueError(f"it answers {code}")
        return boot_answer(body, self.url)

    def _answered(self, result: Any, mac: str, question: _Question) -> None:
        """Keep it, whether somebody still waits or not."""
        del self._questions[mac]
        if not isinstance(result, Failure):
            self._keep(mac, result)
        for waiting in question.waiting:
            if not waiting.called:
                waiting.callback(result)

    def _keep(self, mac: str, answer: BootAnswer | None) -> None:
        before = self._kept.pop(mac, None)
        if before is not None:
            self._size -= len(before.answer.script)
        if answer is None:
            return
        self._kept[mac] = _Kept(answer, self._reactor.seconds())
        self._size += len(answer.script)
        while self._size > KEPT:
            self._size -= len(self._kept.popitem(last=False)[1].answer.script)

    def _decided(self, answer: BootAnswer | None, request: BootRequest) -> BootFile | None:
        if answer is None:
            return None
        missing = [scheme for scheme in sorted(answer.schemes) if not ipxe_can_load(scheme, request)]
        if missing:
            return self._fall_back(f"this build of iPXE has no {missing[0].upper()}, which its answer needs", request)
        return script("callout", answer.script, request)

    def _failed(self, failure: Failure, request: BootRequest) -> BootFile | None:
        if failure.check(CancelledError):
            failure.raiseException()
        reason = why(failure)
        kept = self._kept.get(request.mac)
        age = self._reactor.seconds() - kept.at if kept is not None else 0.0
        if kept is None or age > self.stale_seconds:
            return self._fall_back(reason, request)
        self._log.warn(
            "callout {mac}: {url}: {reason}. Its answer of {age:.0f} s ago is used",
            mac=request.mac,
            url=self.url,
            reason=reason,
            age=age,
        )
        return self._decided(kept.answer, request)

    def _fall_back(self, reason: str, request: BootRequest) -> BootFile | None:
        said = {"next": "the next resolver is asked", "local": "it boots its own disk", "refuse": "it is not answered"}
        self._log.warn(
            "callout {mac}: {url}: {reason}; {then}",
            mac=request.mac,
            url=self.url,
            reason=reason,
            then=said[self.fallback],
        )
        if self.fallback == "local":
            return local_boot(request, f"{self.url}: {reason}")
        if self.fallback == "refuse":
            raise BootRefused(f"{self.url}: {reason}")
        return None


plugin = boot_plugin(IBootFileResolver, Callout)
