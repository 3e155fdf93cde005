"""Reports requests that arrive on an interface that is not served."""

from collections.abc import Callable
from typing import Any

from bootfw.config.settings import Settings
from bootfw.events import Event, InterfaceProblem

Publish = Callable[[Event], None]


def report_dropped(reactor: Any, settings: Callable[[], Settings], publish: Publish, interface: str) -> None:
    """Publish that a request arrived on an interface that is not served; called once for each interface."""
    names, excepted = settings().interfaces, settings().except_interfaces
    reason = "except-interfaces lists it" if interface in excepted else f"interfaces lists {', '.join(names)} only"
    problem = f"requests that arrive on it are dropped: [bootfw] {reason}"
    publish(InterfaceProblem(reactor.seconds(), interface, problem))
