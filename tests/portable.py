"""A pytest plugin that hides what only Linux has: ``PYTHONPATH=tests pytest -p portable``.

There are no system calls for many datagrams, no UDP port of our own, and no fast path: Twisted's port delivers each
datagram, and the session's table decides about each.
"""

from types import SimpleNamespace

from bootfw.net import listening
from bootfw.net.tftp import listener
from bootfw.net.udp import mmsg, port

_ELSEWHERE = SimpleNamespace(platform="freebsd14")

mmsg.AVAILABLE = False
vars(port)["sys"] = vars(listening)["sys"] = _ELSEWHERE
vars(listener)["attach"] = lambda port, seconds: None
