"""Messages of frisbee's master server, which tells clients where an image is sent.

A client connects to TCP port 64494, sends one request of a fixed size, and reads one reply. Integers are big endian.
``parse_request()`` and the other parsers raise WireError and nothing else, on any input.
"""

import enum
import socket
import struct

from attrs import frozen

from bootfw.errors import WireError

PORT = 64494
"""TCP port of the master server."""


class Method(enum.IntFlag):
    """How an image is sent; the values can be combined, but for those that a transmission has."""

    UNICAST = 1
    MULTICAST = 2
    BROADCAST = 4


NO_METHOD = Method(0)
ANY_METHOD = Method.UNICAST | Method.MULTICAST | Method.BROADCAST


class Error(enum.IntEnum):
    """Why a request was refused."""

    NONE = 0
    FAILED = 1
    NO_HOST = 2
    NO_IMAGE = 3
    NO_ACCESS = 4
    NO_METHOD = 5
    INVALID = 6
    TRY_AGAIN = 7
    TOO_BIG = 8
    BAD_MTIME = 9
    NOT_IMPLEMENTED = 10


class SignatureType(enum.IntEnum):
    """The kinds of signatures, by which versions of an image differ."""

    NONE = 0
    MTIME = 1
    MD5 = 2
    SHA1 = 3


@frozen
class GetRequest:
    """A client wants to know where an image is sent, and starts the transmission."""

    image: str
    """Its name, up to 256 bytes."""
    methods: Method = Method.MULTICAST
    """The methods by which the client can receive."""
    status_only: bool = False
    """The client asks for the status only: no transmission is started."""
    host: str = "0.0.0.0"
    """The host that it is for; 0.0.0.0: the client itself."""


@frozen
class GetReply:
    """Where an image is sent."""

    error: int = Error.NONE
    """An Error, or another number."""
    method: Method = NO_METHOD
    """The method of the transmission that is under way; otherwise the methods that are allowed."""
    running: bool = False
    server: str = "0.0.0.0"
    """The address that the blocks come from."""
    address: str = "0.0.0.0"
    """The group, the broadcast address, or for unicast the address of the server."""
    port: int = 0
    """UDP port of server and clients."""
    mtime: int | None = None
    """When the image was changed, in seconds of Unix time; None: not known, or the signature is of another type."""
    size: int = 0
    """Bytes of the image."""


@frozen
class PutRequest:
    """A client wants to upload an image."""

    image: str
    """Its name, up to 256 bytes."""
    size: int = 0
    """Bytes."""
    mtime: int = 0
    """0: not known."""
    timeout: int = 0
    """Seconds."""
    status_only: bool = False
    host: str = "0.0.0.0"
    """See GetRequest."""


@frozen
class PutReply:
    """Where an upload goes."""

    error: int = Error.NONE
    """An Error, or another number."""
    address: str = "0.0.0.0"
    port: int = 0
    """TCP port."""
    exists: bool = False
    mtime: int | None = None
    """See GetReply."""
    size: int = 0
    """Bytes of the image that is there."""
    most: int = 0
    """Bytes that an image may have."""


Request = GetRequest | PutRequest

_VERSION = b"V01\0"
_HEADER = struct.Struct("!4sI")
_GET_REQUEST, _GET_REPLY, _PUT_REQUEST, _PUT_REPLY = 1, 2, 3, 4
_NAME_SIZE = 256
_GET_BODY = struct.Struct("!4sBBH256s")
_GET_REPLY_BODY = struct.Struct("!BBH4s4sHH256sQ")
_PUT_BODY = struct.Struct("!4sBH256sQII")
_PUT_REPLY_BODY = struct.Struct("!H4sHBH256sQQ")
_MTIME = struct.Struct("!I")

GET_REQUEST_SIZE = _HEADER.size + _GET_BODY.size
GET_REPLY_SIZE = _HEADER.size + _GET_REPLY_BODY.size
PUT_REQUEST_SIZE = _HEADER.size + _PUT_BODY.size
PUT_REPLY_SIZE = _HEADER.size + _PUT_REPLY_BODY.size


def request_size(data: bytes) -> int:
    """Return how many bytes the request has that begins with *data*; 0: not known yet.

    :raise WireError: no request begins so.
    """
    version = data[:4]
    if not _VERSION.startswith(version):
        raise WireError(f"no message of frisbee's master server: it begins with {version!r}, not {_VERSION!r}")
    if len(data) < _HEADER.size:
        return 0
    _, kind = _HEADER.unpack_from(data)
    if kind == _GET_REQUEST:
        return GET_REQUEST_SIZE
    if kind == _PUT_REQUEST:
        return PUT_REQUEST_SIZE
    raise WireError(f"message type {kind} is no request")


def parse_request(data: bytes) -> Request:
    """Parse the request in *data*.

    :raise WireError: it is none, or not whole.
    """
    size = request_size(data)
    if not size or len(data) < size:
        raise WireError(f"a request of {len(data)} bytes; it has {size or GET_REQUEST_SIZE}")
    if size == GET_REQUEST_SIZE:
        host, methods, status, length, name = _GET_BODY.unpack_from(data, _HEADER.size)
        return GetRequest(_name(name, length), Method(methods & ANY_METHOD), bool(status), socket.inet_ntoa(host))
    host, status, length, name, image_size, mtime, timeout = _PUT_BODY.unpack_from(data, _HEADER.size)
    return PutRequest(_name(name, length), image_size, mtime, timeout, bool(status), socket.inet_ntoa(host))


def parse_get_reply(data: bytes) -> GetReply:
    """Parse the reply to a GET.

    :raise WireError: it is none, or not whole.
    """
    _expect(data, _GET_REPLY, GET_REPLY_SIZE)
    method, running, error, server, address, port, kind, signature, size = _GET_REPLY_BODY.unpack_from(
        data, _HEADER.size
    )
    mtime = _MTIME.unpack_from(signature)[0] if kind == SignatureType.MTIME else None
    return GetReply(
        error,
        Method(method & ANY_METHOD),
        bool(running),
        socket.inet_ntoa(server),
        socket.inet_ntoa(address),
        port,
        mtime,
        size,
    )


def parse_put_reply(data: bytes) -> PutReply:
    """Parse the reply to a PUT.

    :raise WireError: it is none, or not whole.
    """
    _expect(data, _PUT_REPLY, PUT_REPLY_SIZE)
    error, address, port, exists, kind, signature, size, most = _PUT_REPLY_BODY.unpack_from(data, _HEADER.size)
    mtime = _MTIME.unpack_from(signature)[0] if kind == SignatureType.MTIME else None
    return PutReply(error, socket.inet_ntoa(address), port, bool(exists), mtime, size, most)


def _expect(data: bytes, expected: int, size: int) -> None:
    if len(data) < size:
        raise WireError(f"a reply of {len(data)} bytes; it has {size}")
    version, kind = _HEADER.unpack_from(data)
    if version != _VERSION or kind != expected:
        raise WireError(f"version {version!r} and message type {kind}; the reply has {_VERSION!r} and {expected}")


def _name(field: bytes, length: int) -> str:
    if length > _NAME_SIZE:
        raise WireError(f"a name of {length} bytes; it may have {_NAME_SIZE}")
    return field[:length].partition(b"\0")[0].decode("utf-8", "surrogateescape")


def pack(message: GetRequest | GetReply | PutRequest | PutReply) -> bytes:
    """Encode a message.

    :raise ValueError, struct.error: a name is too long, or a number does not fit.
    """
    match message:
        case GetRequest(image, methods, status_only, host):
            name = _packed_name(image)
            body = _GET_BODY.pack(socket.inet_aton(host), methods, status_only, len(name), name)
            return _HEADER.pack(_VERSION, _GET_REQUEST) + body
        case GetReply(error, method, running, server, address, port, mtime, size):
            kind, signature = _signature(mtime)
            addresses = socket.inet_aton(server), socket.inet_aton(address)
            body = _GET_REPLY_BODY.pack(method, running, error, *addresses, port, kind, signature, size)
            return _HEADER.pack(_VERSION, _GET_REPLY) + body
        case PutRequest(image, size, mtime, timeout, status_only, host):
            name = _packed_name(image)
            body = _PUT_BODY.pack(socket.inet_aton(host), status_only, len(name), name, size, mtime, timeout)
            return _HEADER.pack(_VERSION, _PUT_REQUEST) + body
        case PutReply(error, address, port, exists, mtime, size, most):
            kind, signature = _signature(mtime)
            body = _PUT_REPLY_BODY.pack(error, socket.inet_aton(address), port, exists, kind, signature, size, most)
            return _HEADER.pack(_VERSION, _PUT_REPLY) + body
    raise ValueError(f"not a message: {message!r}")


def _packed_name(name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > _NAME_SIZE:
        raise ValueError(f"a name of {len(encoded)} bytes; it may have {_NAME_SIZE}")
    return encoded


def _signature(mtime: int | None) -> tuple[SignatureType, bytes]:
    return (SignatureType.NONE, b"") if mtime is None else (SignatureType.MTIME, _MTIME.pack(mtime))
