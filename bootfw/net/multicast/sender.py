"""Sends images to many machines at a time: their ports, groups and limits, and the replies of the master server."""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from bootfw.boot.pluginresult import transfer_error
from bootfw.config.settings import MulticastSettings, group_range, port_range
from bootfw.errors import AccessViolation, FileMissing
from bootfw.events import Event
from bootfw.interfaces import IReader
from bootfw.net.admission import Admission
from bootfw.net.linux.interfaces import Interfaces
from bootfw.net.multicast.channel import Channel, Services, mtime_of, request_for
from bootfw.net.multicast.transmission import Transmission
from bootfw.net.udp.port import listen
from bootfw.values import Address, TransferRequest
from bootfw.wire import frisbee
from bootfw.wire.frisbeemaster import NO_METHOD, Error, GetReply, GetRequest, Method

_METHODS = {"multicast": Method.MULTICAST, "unicast": Method.UNICAST, "broadcast": Method.BROADCAST}
_ANY = "0.0.0.0"


@define(eq=False)
class _OnDemand:
    """A channel that was opened because a receiver requested its image from the master server."""

    channel: Channel
    port: Any
    """Its open port."""


class ImageSender:
    """All images that this server sends.

    :param reactor: IReactorTime and IReactorUDP.
    :param open_file: the open() of the backends.
    :param publish: called with each event; must not raise.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self,
        reactor: Any,
        settings: MulticastSettings,
        open_file: Callable[[str, TransferRequest], Any],
        publish: Callable[[Event], None],
        interfaces: Interfaces,
        admission: Admission,
    ) -> None:
        self._reactor = reactor
        self._services = Services(
            reactor, publish, open_file, interfaces, admission, settings, self._has_room, self._share_rate
        )
        self._fixed: list[Channel] = []
        """The channels of configured images. The service opens and closes their ports."""
        self._on_demand: dict[str, _OnDemand] = {}
        """Path of an image -> the channel that was opened for a request of it."""
        self._next = 0
        """Counts the groups and ports that were tried, so that one which was in use lately is used last:
        receivers of it may still be there."""

    def use(self, settings: MulticastSettings) -> None:
        """Use other settings from now on. What is being sent is sent on, within the new limits."""
        self._services.settings = settings
        images = {image.address[1]: image for image in settings.images}
        for channel in self._fixed:
            image = images.get(channel.port)
            if image is not None:
                channel.use(image.path, image.address[0])
        self._share_rate()

    def fixed(self, path: str, group: str, port: int) -> Channel:
        """Return the protocol for the port of a configured image."""
        channel = Channel(self._services, path, group, port, None, self._fixed_closed)
        self._fixed.append(channel)
        return channel

    def _fixed_closed(self, channel: Channel) -> None:
        if channel in self._fixed:
            self._fixed.remove(channel)

    def close(self) -> None:
        """End every transmission."""
        for on_demand in list(self._on_demand.values()):
            self._close(on_demand)
        self._services.alarm.stop()
        self._services.malformed.stop()

    def transmissions(self) -> list[Transmission]:
        """Return those that are not over."""
        return [each for channel in self._channels() for each in channel.transmissions.values()]

    def records(self) -> list[dict[str, Any]]:
        """Return the state of each transmission, for the operator."""
        return [each.record() for each in self.transmissions()]

    def is_sending(self, path: str) -> bool:
        """Return whether an image is being sent, or may be soon: a receiver knows its port and has not joined yet."""
        return path in self._on_demand or any(each.image == path and each.transmissions for each in self._fixed)

    def _channels(self) -> Iterable[Channel]:
        yield from self._fixed
        for on_demand in self._on_demand.values():
            yield on_demand.channel

    def _has_room(self) -> bool:
        return len(self.transmissions()) < self._services.settings.sessions

    def _share_rate(self) -> None:
        """Share the rate among the transmissions that have something to send."""
        settings = self._services.settings
        every = self.transmissions()
        busy = sum(each.is_busy for each in every)
        rate = min(settings.rate, settings.total_rate / max(1, busy))
        for each in every:
            if each.session.pace.limit != rate:
                each.session.pace.limit_to(rate)

    # The master server.

    def get(self, request: GetRequest, peer: Address, local: str) -> "Deferred[GetReply]":
        """Return the reply to a GET.

        :param local: our address that the request has come to.
        """
        transfer = request_for(request.image, peer, local)
        method = _preferred(self._allowed() & request.methods)
        if not method:
            return succeed(GetReply(Error.NO_METHOD))

        def opened(reader: IReader) -> GetReply:
            # Opened only to see that it exists; the channel opens it again, for each network.
            try:
                size, mtime = reader.size, mtime_of(reader)
            finally:
                reader.close()
            if size is None or size > frisbee.LARGEST_IMAGE:
                return GetReply(Error.INVALID)
            channel = self._running(transfer.path)
            if channel is None and request.status_only:
                return GetReply(method=self._allowed(), mtime=mtime, size=size)
            if channel is None:
                channel = self._begin(transfer.path)
            if channel is None:
                return GetReply(Error.TRY_AGAIN)
            address = self._address(channel, method, local)
            return GetReply(Error.NONE, method, True, local, address, channel.port, mtime, size)

        def failed(failure: Any) -> GetReply:
            error = transfer_error(failure.value)
            if isinstance(error, FileMissing):
                return GetReply(Error.NO_IMAGE)
            if isinstance(error, AccessViolation):
                return GetReply(Error.NO_ACCESS)
            if error is None:
                self._log.failure("The image can't be opened.", failure=failure)
            return GetReply(Error.FAILED)

        return maybeDeferred(self._services.open_file, transfer.path, transfer).addCallback(opened).addErrback(failed)

    def _allowed(self) -> Method:
        found = NO_METHOD
        for name in self._services.settings.methods:
            found |= _METHODS[name]
        return found

    def _running(self, path: str) -> Channel | None:
        """Return the channel of an image that is sent, or will be as soon as a receiver joins."""
        on_demand = self._on_demand.get(path)
        if on_demand is not None:
            return on_demand.channel
        return next((channel for channel in self._fixed if channel.image == path), None)

    def _address(self, channel: Channel, method: Method, local: str) -> str:
        if method is Method.MULTICAST:
            return channel.group
        return self._broadcast_address(local) if method is Method.BROADCAST else local

    def _broadcast_address(self, local: str) -> str:
        interfaces = self._services.interfaces
        for index in interfaces.served():
            for each in interfaces.addresses(index) or ():
                if each.address == local:
                    number = int(ipaddress.IPv4Address(local))
                    return str(ipaddress.IPv4Address(number | ~each.mask & 0xFFFFFFFF))
        return "255.255.255.255"

    def _begin(self, path: str) -> Channel | None:
        """Open a port for an image; None: there is none left."""
        settings = self._services.settings
        first, last = (int(ipaddress.IPv4Address(end)) for end in group_range(settings.groups))
        low, high = port_range(settings.ports)
        groups, ports = last - first + 1, high - low + 1
        taken_ports = {each.port for each in self._channels()}
        taken_groups = {each.group for each in self._channels()}
        if len(self._on_demand) >= settings.sessions:
            return None
        for _ in range(max(groups, ports)):
            group = str(ipaddress.IPv4Address(first + self._next % groups))
            port = low + self._next % ports
            self._next += 1
            if port in taken_ports or group in taken_groups:
                continue
            channel = Channel(self._services, path, group, port, self._close_empty)
            try:
                opened = listen(self._reactor, channel, _ANY, port)
            except CannotListenError as error:
                self._log.warn("No image is sent from port {port}: {reason}", port=port, reason=error.socketError)
                continue
            self._on_demand[path] = _OnDemand(channel, opened)
            return channel
        return None

    def _close_empty(self, channel: Channel) -> None:
        """Close a channel that has no receiver any more."""
        on_demand = self._on_demand.get(channel.image)
        if on_demand is not None and on_demand.channel is channel:
            self._close(on_demand)

    def _close(self, on_demand: _OnDemand) -> None:
        self._on_demand.pop(on_demand.channel.image, None)
        on_demand.channel.close()
        on_demand.port.stopListening()


def _preferred(methods: Method) -> Method:
    return next((m for m in (Method.MULTICAST, Method.BROADCAST, Method.UNICAST) if m & methods), NO_METHOD)
