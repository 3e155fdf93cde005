"""Fakes and contract kits for tests of bootfw, of plugins and of programs that embed it.

Nothing here opens a socket or sleeps: a MemoryNetwork carries datagrams between hosts on a ``task.Clock``, each host
stands in for a reactor, and time passes only when the test says so.
"""

from bootfw.testing.contracts import (
    AttemptStoreContract,
    BackendContract,
    ClientAwareContract,
    DirectoryBackendContract,
    LeadershipContract,
    LeaseStoreContract,
    LintableContract,
    ListableBackendContract,
    ListableResolverContract,
    NodesContract,
    ObserverContract,
    OfflineStoreContract,
    OperableContract,
    OrderStoreContract,
    PerClientBackendContract,
    PluginContract,
    PowerContract,
    ReplacingBackendContract,
    ResolverContract,
    SelfCheckingContract,
    StartableContract,
    StaticBackendContract,
    UniformBackendContract,
    UniformResolverContract,
    VersionedBackendContract,
    WatchdogContract,
    WritableBackendContract,
)
from bootfw.testing.link import Link, LossyLink
from bootfw.testing.network import MemoryHost, MemoryNetwork
from bootfw.testing.peer import FakePeer, Received
from bootfw.testing.port import MemoryPort, RichMemoryPort
from bootfw.testing.tftp import TFTPClient, TransferFailed, Transferred

__all__ = [
    "AttemptStoreContract",
    "BackendContract",
    "ClientAwareContract",
    "DirectoryBackendContract",
    "FakePeer",
    "LeadershipContract",
    "LeaseStoreContract",
    "Link",
    "LintableContract",
    "ListableBackendContract",
    "ListableResolverContract",
    "LossyLink",
    "MemoryHost",
    "MemoryNetwork",
    "MemoryPort",
    "NodesContract",
    "ObserverContract",
    "OfflineStoreContract",
    "OperableContract",
    "OrderStoreContract",
    "PerClientBackendContract",
    "PluginContract",
    "PowerContract",
    "Received",
    "ReplacingBackendContract",
    "ResolverContract",
    "RichMemoryPort",
    "SelfCheckingContract",
    "StartableContract",
    "StaticBackendContract",
    "TFTPClient",
    "TransferFailed",
    "Transferred",
    "UniformBackendContract",
    "UniformResolverContract",
    "VersionedBackendContract",
    "WatchdogContract",
    "WritableBackendContract",
]
