"""Everything that a plugin or an embedder imports.

What stands in ``__all__`` is kept: a name goes only with a changelog entry of type "plugin-api".
"""

from typing import TYPE_CHECKING, Any

from bootfw.build import build
from bootfw.config.configuration import ConfigErrors, load_config
from bootfw.config.settings import DHCP6Settings, DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.config.units import Seconds, Size
from bootfw.dhcp.expand import check_placeholders, expand
from bootfw.dhcp.fitting import ipxe_can_load
from bootfw.dhcp.hostclass import HostClass
from bootfw.dhcp.hostclass6 import HostClass6
from bootfw.dhcp.subnet import Host, Subnet
from bootfw.dhcp.subnet6 import Host6, Subnet6
from bootfw.errors import (
    AccessViolation,
    BootfwError,
    BootRefused,
    ConfigError,
    DiskFull,
    ErrorCollector,
    FileAlreadyExists,
    FileMissing,
    IllegalOperation,
    LeaseStoreError,
    PluginError,
    StateError,
    TransferError,
)
from bootfw.events import (
    AddressesGranted,
    AddressReleased,
    AddressTaken,
    BackendProblem,
    CertificateLoaded,
    CertificateProblem,
    ClientsLimited,
    DatagramsMalformed,
    Event,
    EventsDropped,
    FileWithheld,
    HandshakeFailed,
    InterfaceProblem,
    InternalError,
    LeasesNotKept,
    ListenerBound,
    ListenerClosed,
    ListenerFailed,
    LoopBroken,
    NextBootTaken,
    OfferMade,
    OfferWithheld,
    OtherServerSeen,
    PluginBlocked,
    PluginFailed,
    PoolExhausted,
    ProxyARPSeen,
    RequestClassified,
    RequestIgnored,
    ResolverAnswered,
    ResolverPassedOver,
    SecondStageFound,
    TransferBegun,
    TransferEnded,
    TransferRefused,
    WorkerLost,
)
from bootfw.interfaces import (
    IAdaptiveWatchdog,
    IBackend,
    IBootFileResolver,
    IBootObserver,
    IBootPlugin,
    ILeaseStore,
    IOperable,
    IReader,
    IReservationStore,
    IStartable,
    IWatchdog,
    IWatchdogPolicy,
    IWritableBackend,
    IWriter,
)
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.observe.log import LogObserver
from bootfw.plugins import PluginContext, boot_plugin
from bootfw.readers import FileReader, MemoryReader
from bootfw.service import BootService
from bootfw.values import (
    Address,
    Agreed,
    BootFile,
    BootMenu,
    BootMenuItem,
    BootRequest,
    Client,
    Mode,
    Outcome,
    TransferReport,
    TransferRequest,
    Via,
)
from bootfw.wire.iana import ARCHITECTURES

if TYPE_CHECKING:
    from bootfw.backends.directory import DirectoryBackend

__all__ = [
    "ARCHITECTURES",
    "NEVER",
    "AccessViolation",
    "Address",
    "AddressReleased",
    "AddressTaken",
    "AddressesGranted",
    "Agreed",
    "BackendProblem",
    "BootFile",
    "BootMenu",
    "BootMenuItem",
    "BootRefused",
    "BootRequest",
    "BootService",
    "BootfwError",
    "CertificateLoaded",
    "CertificateProblem",
    "Client",
    "ClientsLimited",
    "ConfigError",
    "ConfigErrors",
    "DHCP6Settings",
    "DHCPSettings",
    "DatagramsMalformed",
    "DirectoryBackend",
    "DiskFull",
    "ErrorCollector",
    "Event",
    "EventsDropped",
    "FileAlreadyExists",
    "FileMissing",
    "FileReader",
    "FileWithheld",
    "HTTPSettings",
    "HandshakeFailed",
    "Host",
    "Host6",
    "HostClass",
    "HostClass6",
    "IAdaptiveWatchdog",
    "IBackend",
    "IBootFileResolver",
    "IBootObserver",
    "IBootPlugin",
    "ILeaseStore",
    "IOperable",
    "IReader",
    "IReservationStore",
    "IStartable",
    "IWatchdog",
    "IWatchdogPolicy",
    "IWritableBackend",
    "IWriter",
    "IllegalOperation",
    "InterfaceProblem",
    "InternalError",
    "Lease",
    "LeaseState",
    "LeaseStoreError",
    "LeasesNotKept",
    "ListenerBound",
    "ListenerClosed",
    "ListenerFailed",
    "LogObserver",
    "LoopBroken",
    "MemoryReader",
    "Mode",
    "NextBootTaken",
    "OfferMade",
    "OfferWithheld",
    "OtherServerSeen",
    "Outcome",
    "PluginBlocked",
    "PluginContext",
    "PluginError",
    "PluginFailed",
    "PoolExhausted",
    "ProxyARPSeen",
    "RequestClassified",
    "RequestIgnored",
    "Reservation",
    "ResolverAnswered",
    "ResolverPassedOver",
    "SecondStageFound",
    "Seconds",
    "Settings",
    "Size",
    "StateError",
    "Subnet",
    "Subnet6",
    "TFTPSettings",
    "TransferBegun",
    "TransferEnded",
    "TransferError",
    "TransferRefused",
    "TransferReport",
    "TransferRequest",
    "Via",
    "WorkerLost",
    "boot_plugin",
    "build",
    "check_placeholders",
    "expand",
    "ipxe_can_load",
    "load_config",
]


def __getattr__(name: str) -> Any:
    """A built-in plugin, which imports this module itself, is imported when it is needed."""
    if name == "DirectoryBackend":
        from bootfw.backends.directory import DirectoryBackend

        return DirectoryBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
