"""The ``webhook`` observer and a real web server, which may be slow, dead, or answer with errors."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from narrowing import of_type
from turning import connections
from twistd import refusing_port
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from webservers import PostReceiver
from zope.interface.verify import verifyObject

from bootfw.attempts.attempt import BootAttempt, Cause, Verdict
from bootfw.errors import ConfigError
from bootfw.events import BootAttemptEnded, Event, PoolExhausted, RequestIgnored, TransferEnded, WorkerLost
from bootfw.interfaces import IClientAware
from bootfw.observe import deliverystates, webhook
from bootfw.observe.webhook import BATCH, KINDS, QUEUED, Webhook, signature
from bootfw.plugins import PluginContext, configure, load
from bootfw.service import BootService
from bootfw.testing import MemoryNetwork
from bootfw.values import Agreed, Client, Outcome, TransferReport, TransferRequest

LOST = WorkerLost(1.0, 2, "killed", 7)
FULL = PoolExhausted(1.0, "10.77.0.0/24", "52:54:00:00:00:01")
IGNORED = RequestIgnored(1.0, "52:54:00:00:00:01", "no PXE")
ENDED = TransferEnded(
    2.0, TransferReport(TransferRequest("/a", "a", ("10.0.0.1", 9)), Agreed(), Outcome.COMPLETE, "", 9, 1, 0, 0.0, 1.0)
)
BOOT = BootAttempt(
    "1", 0.0, 1.0, mac="52:54:00:00:00:01", verdict=Verdict.FAILED, cause=Cause("path-mtu", "It stopped", "Look")
)


class Receiver(PostReceiver):
    """Takes the requests of a webhook."""

    def __init__(self, reactor: EPollReactor) -> None:
        super().__init__(204, "/boots?x=1")
        self.reactor = reactor

    def webhook(self, **options: Any) -> Webhook:
        return start_webhook(self.reactor, url=self.url, **options)

    def events(self) -> list[list[str]]:
        """The names of the events of each request."""
        return [[event["event"] for event in json.loads(body)["events"]] for _, body in self.posts]

    def turn_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "it did not come"
            self.reactor.iterate(0.01)

    def close(self, hook: Webhook) -> None:
        closed: list[object] = []
        hook.close().addBoth(closed.append)
        self.turn_until(lambda: closed)
        assert closed == [None]


def start_webhook(reactor: Any, **options: Any) -> Webhook:
    plugin = configure(
        load("webhook", "bootfw.observers"), {"batch-seconds": 0, **options}, PluginContext(reactor, Path())
    )
    hook = of_type(Webhook, plugin)
    hook.start(lambda event: None)
    return hook


@pytest.fixture
def receiver(
    private_reactor: EPollReactor, monkeypatch: pytest.MonkeyPatch, failures: list[BaseException]
) -> Iterator[Receiver]:
    monkeypatch.setattr(deliverystates, "FIRST_RETRY", 0.01)
    receiver = Receiver(private_reactor)
    yield receiver
    receiver.stop()
    receiver.turn_until(lambda: not private_reactor.getDelayedCalls() and not connections(private_reactor))


def test_events_are_posted_as_the_json_log_has_them(receiver: Receiver) -> None:
    hook = receiver.webhook(secret="s3cret")
    hook.observe_many([LOST, IGNORED, BootAttemptEnded(1.0, BOOT)])
    receiver.turn_until(lambda: len(receiver.posts) == 1)
    headers, body = receiver.posts[0]
    lost, boot = json.loads(body)["events"]
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Bootfw-Signature"] == f"sha256={signature('s3cret', body)}"
    assert (lost["event"], lost["level"], lost["worker"], lost["transfers"]) == ("WorkerLost", "error", 2, 7)
    assert lost["text"] == "worker 2 has ended: killed; another one takes over its 7 transfers"
    assert lost["time"].endswith("Z")
    assert (boot["event"], boot["mac"], boot["attempt"]["verdict"]) == ("BootAttemptEnded", BOOT.mac, "failed")
    receiver.close(hook)


def test_transfers_name_the_mac_of_the_client_as_in_the_json_log(receiver: Receiver) -> None:
    hook = receiver.webhook(events=["TransferEnded"])
    assert verifyObject(IClientAware, hook)
    hook.set_client_lookup(lambda peer: Client(peer[0], mac="52:54:00:00:00:07"))
    hook.observe(ENDED)
    receiver.turn_until(lambda: len(receiver.posts) == 1)
    (event,) = json.loads(receiver.posts[0][1])["events"]
    assert (event["event"], event["mac"]) == ("TransferEnded", "52:54:00:00:00:07")
    receiver.close(hook)


def test_the_signature_is_an_hmac_of_sha_256() -> None:
    """The second test case of RFC 4231 section 4.3."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert signature("Jefe", b"what do ya want for nothing?") == expected


def test_events_of_a_while_are_one_request(receiver: Receiver) -> None:
    hook = receiver.webhook(**{"batch-seconds": 0.05, "events": ["WorkerLost", "PoolExhausted"]})
    hook.observe(LOST)
    hook.observe(FULL)
    hook.observe(IGNORED)
    receiver.turn_until(lambda: receiver.posts)
    assert receiver.events() == [["WorkerLost", "PoolExhausted"]]
    assert "X-Bootfw-Signature" not in receiver.posts[0][0]
    receiver.close(hook)


def test_many_events_go_in_several_requests_in_order(receiver: Receiver) -> None:
    hook = receiver.webhook(events=["WorkerLost"])
    hook.observe_many([evolve(LOST, worker=number) for number in range(2 * BATCH + 1)])
    receiver.turn_until(lambda: len(receiver.posts) >= 3)
    found = [event["worker"] for _, body in receiver.posts for event in json.loads(body)["events"]]
    assert found == [*range(2 * BATCH + 1)]
    receiver.close(hook)


def test_an_error_of_the_server_is_retried(receiver: Receiver) -> None:
    hook = receiver.webhook()
    receiver.status = 500
    hook.observe(LOST)
    receiver.turn_until(lambda: len(receiver.posts) >= 3)
    receiver.status = 200
    receiver.turn_until(lambda: hook._states.state is deliverystates.State.IDLE)
    assert hook.dropped == 0
    bodies = {body for _, body in receiver.posts}
    assert len(bodies) == 1
    receiver.close(hook)


def test_events_are_dropped_and_reported_after_the_last_retry(receiver: Receiver) -> None:
    hook = receiver.webhook()
    receiver.status = 503
    with capturedLogs() as logs:
        hook.observe_many([LOST, FULL])
        receiver.turn_until(lambda: hook.dropped)
    assert len(receiver.posts) == 1 + webhook.RETRIES
    (line,) = [event["log_format"].format(**event) for event in logs if event["log_namespace"] == "bootfw"]
    assert line == f"webhook {receiver.url}: 2 event(s) were dropped: it answers 503"
    receiver.status = 200
    hook.observe(LOST)
    receiver.turn_until(lambda: len(receiver.posts) == 2 + webhook.RETRIES)
    receiver.close(hook)


def test_refused_events_are_not_retried(receiver: Receiver) -> None:
    hook = receiver.webhook()
    receiver.status = 404
    hook.observe(LOST)
    receiver.turn_until(lambda: hook.dropped)
    assert len(receiver.posts) == 1
    receiver.status = 429
    hook.observe(LOST)
    receiver.turn_until(lambda: len(receiver.posts) >= 3)
    receiver.status = 200
    receiver.turn_until(lambda: hook._states.state is deliverystates.State.IDLE)
    receiver.close(hook)
    assert hook.dropped == 1


def test_a_server_that_does_not_answer_holds_nothing_up(receiver: Receiver) -> None:
    hook = receiver.webhook(**{"timeout-seconds": 0.1})
    receiver.may_answer.clear()
    hook.observe(LOST)
    assert receiver.posts == [], "it is sent later, not while the server works"
    receiver.turn_until(lambda: len(receiver.posts) >= 2)
    receiver.may_answer.set()
    receiver.turn_until(lambda: hook._states.state is deliverystates.State.IDLE)
    receiver.close(hook)


def test_stopping_sends_the_queued_events(receiver: Receiver) -> None:
    hook = receiver.webhook(**{"batch-seconds": 60})
    hook.observe_many([LOST] * (BATCH + 1))
    receiver.close(hook)
    assert [len(names) for names in receiver.events()] == [BATCH, 1]
    hook.observe(LOST)
    assert len(hook._queue) == 0


def test_a_stop_does_not_wait_for_a_server_that_is_gone(receiver: Receiver) -> None:
    hook = receiver.webhook(**{"batch-seconds": 60})
    receiver.stop()
    hook.observe_many([LOST] * (BATCH + 1))
    with capturedLogs() as logs:
        receiver.close(hook)
    assert hook.dropped == BATCH + 1
    assert any("were dropped" in event["log_format"] for event in logs)


def test_refused_connection_is_retried_and_reported(
    private_reactor: EPollReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverystates, "FIRST_RETRY", 0.01)
    with refusing_port() as port:
        hook = start_webhook(private_reactor, url=f"http://127.0.0.1:{port}")
        hook.observe(LOST)
        deadline = time.monotonic() + 30
        while not hook.dropped and time.monotonic() < deadline:
            private_reactor.iterate(0.01)
    assert hook.dropped == 1
    assert "refused" in hook._reason


def test_connection_that_the_receiver_closes_is_reported_in_words(
    private_reactor: EPollReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverystates, "FIRST_RETRY", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        hook = start_webhook(private_reactor, url=f"http://127.0.0.1:{server.getsockname()[1]}")
        hook.observe(LOST)
        deadline = time.monotonic() + 30
        while not hook.dropped and time.monotonic() < deadline:
            private_reactor.iterate(0.01)
            with suppress(BlockingIOError):
                server.accept()[0].close()
    assert (hook.dropped, hook._reason) == (1, "it closed the connection without an answer")


def test_queue_is_bounded() -> None:
    hook = start_webhook(Clock(), url="http://10.0.0.1/", **{"batch-seconds": 60})
    with capturedLogs() as logs:
        hook.observe_many([LOST] * (QUEUED + 5))
        hook.observe(LOST)
    assert (len(hook._queue), hook.dropped) == (QUEUED, 6)
    assert len(logs) == 1


def test_it_starts_and_stops_with_its_service() -> None:
    network = MemoryNetwork()
    hook = Webhook("http://10.0.0.1/", reactor=network.clock)
    states_before = hook._states
    service = BootService(network.host("10.0.0.9"), observers=[hook])
    service.startService()
    assert hook._states is not states_before
    network.result_of(service.stopService())
    assert hook._states.state is deliverystates.State.ENDED


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "example.org"}, 'url: must be a URL, such as "https://example.org/boots", not "example.org"'),
        ({"url": "http://a/b c"}, "url: must be ASCII without blanks"),
        ({"url": "http://a", "events": ["WorkerLsot"]}, 'events[0]: no event "WorkerLsot"; did you mean "WorkerLost"?'),
        ({"url": "http://a", "batch-seconds": -1}, "batch-seconds: must be >= 0: -1"),
        ({}, '"url" is missing'),
    ],
)
def test_invalid_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        start_webhook(Clock(), **options)
    assert message in str(caught.value)


def test_every_event_can_be_chosen() -> None:
    assert {"TransferEnded", "BootAttemptEnded", "OfferMade"} <= set(KINDS)
    assert Event not in KINDS.values()
    assert start_webhook(Clock(), url="http://a", events=sorted(KINDS)).kinds == frozenset(KINDS.values())
