"""Reports requests that arrive on an interface that is not served."""

from collections.abc import Callable, Sequence
from typing import Any

from bootfw.events import Event, InterfaceProblem

Publish = Callable[[Event], None]


def report_dropped(reactor: Any, names: Sequence[str], publish: Publish, interface: str) -> None:
    """Publish that a request arrived on an interface that is not served; called once for each interface."""
    problem = f"requests that arrive on it are dropped: [bootfw] interfaces lists {', '.join(names)} only"
    publish(InterfaceProblem(reactor.seconds(), interface, problem))
