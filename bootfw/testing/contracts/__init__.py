"""Tests that any implementation of an interface has to pass: they check what the docstrings of the interfaces promise.

Each kit is a class without a base: mix it into a test class of pytest, or with ``unittest.TestCase`` into one of
unittest or trial, and say how the thing is made::

    class TestMyBackend(BackendContract):
        def make_backend(self):
            return MyBackend(self.files)
"""

from bootfw.testing.contracts.attempts import AttemptStoreContract
from bootfw.testing.contracts.backend import (
    BackendContract,
    DirectoryBackendContract,
    ListableBackendContract,
    PerClientBackendContract,
    ReplacingBackendContract,
    StaticBackendContract,
    UniformBackendContract,
    VersionedBackendContract,
    WritableBackendContract,
)
from bootfw.testing.contracts.clientaware import ClientAwareContract
from bootfw.testing.contracts.leadership import LeadershipContract
from bootfw.testing.contracts.leases import LeaseStoreContract, OfflineStoreContract
from bootfw.testing.contracts.nodes import NodesContract
from bootfw.testing.contracts.observer import ObserverContract
from bootfw.testing.contracts.orders import OrderStoreContract
from bootfw.testing.contracts.plugin import PluginContract
from bootfw.testing.contracts.power import PowerContract
from bootfw.testing.contracts.resolver import ListableResolverContract, ResolverContract, UniformResolverContract
from bootfw.testing.contracts.selfchecks import LintableContract, SelfCheckingContract
from bootfw.testing.contracts.startable import OperableContract, StartableContract
from bootfw.testing.contracts.watchdog import WatchdogContract

__all__ = [
    "AttemptStoreContract",
    "BackendContract",
    "ClientAwareContract",
    "DirectoryBackendContract",
    "LeadershipContract",
    "LeaseStoreContract",
    "LintableContract",
    "ListableBackendContract",
    "ListableResolverContract",
    "NodesContract",
    "ObserverContract",
    "OfflineStoreContract",
    "OperableContract",
    "OrderStoreContract",
    "PerClientBackendContract",
    "PluginContract",
    "PowerContract",
    "ReplacingBackendContract",
    "ResolverContract",
    "SelfCheckingContract",
    "StartableContract",
    "StaticBackendContract",
    "UniformBackendContract",
    "UniformResolverContract",
    "VersionedBackendContract",
    "WatchdogContract",
    "WritableBackendContract",
]
