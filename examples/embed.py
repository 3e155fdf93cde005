"""bootfw inside a program of your own: no configuration file, no twistd, no global.

Run it with ``python examples/embed.py`` and fetch a file: ``curl tftp://127.0.0.1:10069/motd``
"""

from typing import Any

from twisted.application.service import MultiService

from bootfw.api import BootService, DHCPSettings, Settings, TFTPSettings
from bootfw.backends.memory import MemoryBackend


def application(reactor: Any) -> MultiService:
    """Your program: bootfw is one service of it, started and stopped with the others."""
    program = MultiService()
    settings = Settings(tftp=TFTPSettings(listen=(("0.0.0.0", 10069),)), dhcp=DHCPSettings(mode="off"))
    boot = BootService(reactor, settings=settings, backend=MemoryBackend({"motd": "Hello from inside.\n"}))
    boot.setServiceParent(program)
    return program


if __name__ == "__main__":
    from twisted.internet import reactor

    program = application(reactor)
    program.privilegedStartService()
    program.startService()
    reactor.addSystemEventTrigger("before", "shutdown", program.stopService)
    reactor.run()
