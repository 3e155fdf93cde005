"""Sockets that a service manager opened before it started this process: socket activation, sd_listen_fds(3)."""

import errno
import os
import socket
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.error import CannotListenError

from bootfw.config.settings import ListenAddress
from bootfw.errors import ConfigError
from bootfw.net.listening import Listening, PortSpec, SocketSource, listen_on
from bootfw.net.udp.sockets import adopt_socket, resolve
from bootfw.values import SocketStatus, address_text

_STREAM = ("http", "https", "web")
_DHCP = ("dhcp", "boot-server", "dhcp6", "boot-server6")
_SERVICES = ("tftp", *_DHCP, *_STREAM)

_UNNAMED = ("unknown", "bootfw.socket")
"""Names that systemd gives to sockets by default. Such a socket is for the service that wants its type and address."""

_FIRST = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_SO_BINDTODEVICE = 25
_LONGEST_DEVICE = 16
_UNMATCHED = "matches no wanted socket"


@define(eq=False)
class InheritedSocket:
    """One inherited socket."""

    descriptor: int
    name: str
    sock: socket.socket
    used: bool = field(default=False, init=False)
    """Whether a port serves it, or has served it."""
    closed: bool = field(default=False, init=False)
    """Whether it was closed by a reload, whose configuration does not want it."""

    def __str__(self) -> str:
        address = self.sock.getsockname()[:2]
        kind = "TCP" if self.sock.type == socket.SOCK_STREAM else "UDP"
        device = f" on {self.device}" if self.device else ""
        return f'inherited socket "{self.name}" (descriptor {self.descriptor}, {kind} {address_text(address)}{device})'

    @property
    def device(self) -> str:
        """The interface that it is bound to; "": all of them."""
        return self.sock.getsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, _LONGEST_DEVICE).rstrip(b"\0").decode()

    def is_for(self, service: str) -> bool:
        """Return whether its name allows to use it for *service*."""
        return self.name == service or self.name in _UNNAMED

    def difference(self, service: str, address: ListenAddress, device: str) -> str:
        """Return how it differs from the wanted socket; "": it does not."""
        stream = service in _STREAM
        family, sockaddr = resolve(*address)
        if self.sock.type != (socket.SOCK_STREAM if stream else socket.SOCK_DGRAM):
            return f"{service} needs {'TCP' if stream else 'UDP'}"
        if self.sock.family != family.number or self.sock.getsockname() != sockaddr:
            return f"{service} listens on {address_text(address)}"
        if stream and not self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "it is a connection, not a listening socket (Accept=no)"
        if self.device != device:
            return f"it has to be bound to interface {device}" if device else "it has to be bound to no interface"
        if self.sock.family == socket.AF_INET6 and not self.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            return "it takes IPv4 too (BindIPv6Only=ipv6-only)"
        return ""


def restore_variables(environ: MutableMapping[str, str]) -> None:
    """Put the variables of socket activation back into *environ* as they were when the process started.

    Twisted removes them when its ``twisted.internet.endpoints`` is imported. twistd imports that with all plugins
    whenever the plugin cache is missing, older than a plugin or not writable.
    """
    try:
        started_with = Path("/proc/self/environ").read_bytes()
    except OSError:  # no /proc: Twisted may have left them
        return
    for variable in started_with.split(b"\0"):
        name, _, value = os.fsdecode(variable).partition("=")
        if name in _VARIABLES:
            environ[name] = value


def inherited_sockets(environ: MutableMapping[str, str], first: int = _FIRST) -> list[InheritedSocket]:
    """Return the sockets that LISTEN_FDS counts and LISTEN_FDNAMES names, if they are for this process.

    The variables are removed, and processes that this one starts don't inherit the sockets.

    :param first: the descriptor of the first socket.
    :raise ConfigError: a descriptor is no UDP or TCP socket, or its name is that of no service.
    """
    process, count, listed = (environ.pop(name, "") for name in _VARIABLES)
    names = listed.split(":")
    if process != str(os.getpid()) or not count.isdecimal():
        return []
    names += ["unknown"] * (int(count) - len(names))
    return [_inherited(first + number, names[number] or "unknown") for number in range(int(count))]


def _inherited(descriptor: int, name: str) -> InheritedSocket:
    if name not in (*_SERVICES, *_UNNAMED):
        raise ConfigError(
            f'inherited descriptor {descriptor} is named "{name}" (FileDescriptorName=); '
            f"known names: {', '.join(_SERVICES)}"
        )
    try:
        # The service manager's descriptor is inheritable, and os.dup() returns one that is not.
        sock = socket.socket(fileno=os.dup(descriptor))
        supported = sock.family in (socket.AF_INET, socket.AF_INET6)
        supported = supported and sock.type in (socket.SOCK_DGRAM, socket.SOCK_STREAM)
    except OSError:
        supported = False
    if not supported:
        raise ConfigError(f'inherited descriptor {descriptor} ("{name}") is no UDP or TCP socket')
    os.close(descriptor)
    sock.setblocking(False)
    return InheritedSocket(descriptor, name, sock)


@define(eq=False)
class InheritedSockets:
    """A SocketSource that takes each inherited socket for the service that wants it, and opens the other ports.

    They stay open while the service is stopped, and are used again when it starts.

    :param sockets: the inherited ones.
    :param otherwise: opens what was not inherited.
    """

    _reactor: Any
    _sockets: Sequence[InheritedSocket]
    _otherwise: SocketSource

    @property
    def follow_interfaces(self) -> bool:
        """See SocketSource."""
        return self._otherwise.follow_interfaces

    def listen(self, spec: PortSpec) -> Any:
        """See SocketSource."""
        candidates = [each for each in self._sockets if each.is_for(spec.service) and not each.closed]
        for inherited in candidates:
            if not inherited.difference(*spec.key):
                # The port gets a copy, which it closes. The inherited socket stays open for the next start.
                inherited.used = True
                if spec.service not in _STREAM:
                    adopt_socket(inherited.sock)
                return listen_on(self._reactor, spec, inherited.sock.dup())
        try:
            return self._otherwise.listen(spec)
        except CannotListenError as error:
            problems = [
                f"{candidate} {_UNMATCHED}: {candidate.difference(*spec.key)}"
                for candidate in candidates
                if candidate.name == spec.service and not candidate.used
            ] + [
                f"{other} has this address; name it FileDescriptorName={spec.service}"
                for other in self._sockets
                if not other.is_for(spec.service) and not other.closed and not other.difference(*spec.key)
            ]
            if not problems:
                raise
            cause = error.socketError
            reason = "; ".join((getattr(cause, "strerror", "") or str(cause), *problems))
            number = getattr(error.socketError, "errno", errno.EADDRINUSE)
            raise CannotListenError(*spec.address, OSError(number, reason)) from error


def check_used(sockets: Sequence[InheritedSocket], listening: Sequence[Listening]) -> None:
    """Check, once everything is bound, that each inherited socket is in use.

    :param listening: the ports that are open.
    :raise ConfigError: a socket is not in use; the text names it and says what would be right.
    """
    for each in sockets:
        if not each.used:
            ports = [f"{port.service} {address_text(port.address)} {port.note}".rstrip() for port in listening]
            raise ConfigError(f"{each} {_UNMATCHED}; the configuration asks for {', '.join(ports) or 'none'}")


def close_unwanted(sockets: Sequence[InheritedSocket], wanted: Sequence[SocketStatus]) -> Iterator[str]:
    """Close the inherited sockets that the configuration no longer wants: what arrives there would wait for ever.

    :param wanted: the sockets that the configuration wants.
    :return: their descriptions.
    """
    ports = [port for port in wanted if port.service in _SERVICES and "/" not in port.address[0]]
    for each in sockets:
        if each.closed or any(
            each.is_for(port.service) and not each.difference(port.service, port.address[:2], port.device)
            for port in ports
        ):
            continue
        yield str(each)
        each.closed = True
        each.sock.close()


def serve_files(sockets: Sequence[InheritedSocket]) -> bool:
    """Return whether one of the sockets may be for TFTP or HTTP, which workers would serve."""
    return any(each.name not in (*_DHCP, "web") for each in sockets)
