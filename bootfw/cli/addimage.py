"""Adds an image to a directory: copies or downloads it, verifies it, and moves the complete file there."""

import hashlib
import http.client
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlsplit

from attrs import define, field

from bootfw.backends.imagelibrary.imageentry import DIGESTS, DISKS, NAME, ImageEntry, image_entries, split_name
from bootfw.cli.failure import CommandError
from bootfw.frisbee.digests import Digests
from bootfw.terminal import StatusLine

_CHUNK = 1 << 20

_TIMEOUT = 60.0
"""Seconds without a byte after which a download has failed."""

_SMALL = 1 << 20
"""Most bytes of a file of checksums or a signature."""

_SUMS = (("sha512", ("{name}.sha512", "SHA512SUMS")), ("sha256", ("{name}.sha256", "SHA256SUMS", "CHECKSUM")))
"""Algorithm -> the files beside an image that may have its checksum, the strongest first."""

_SIGNATURES = ("{name}.asc", "{name}.sig", "{name}.sign", "{name}.gpg")

_BSD = re.compile(r"(?P<algorithm>SHA\d+) \((?P<file>.+)\) = (?P<sum>[0-9a-fA-F]+)")
_GNU = re.compile(r"(?P<sum>[0-9a-fA-F]{64,128})(?:\s+[ *]?(?P<file>.+))?")


@define
class Source:
    """The source of an image: a file or a URL."""

    location: str
    is_url: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        scheme = urlsplit(self.location).scheme.lower()
        self.is_url = scheme in ("http", "https")
        if scheme and "://" in self.location and not self.is_url:
            raise CommandError(f"{self.location}: only files, and http and https URLs, can be added")

    @property
    def entry(self) -> str:
        """The name of the file."""
        path = unquote(urlsplit(self.location).path) if self.is_url else self.location
        return path.rstrip("/").rpartition("/")[2]

    @contextmanager
    def opened(self, beside: str = "") -> Iterator[tuple[IO[bytes], int | None]]:
        """Open the file; yield it and its size in bytes (None: not known).

        :param beside: the name of a file beside it instead.
        :raise CommandError: it can't be opened, or a download breaks off.
        :raise FileNotFoundError: there is no such file.
        """
        if not self.is_url:
            path = Path(self.location).with_name(beside) if beside else Path(self.location)
            if path.is_dir():
                raise CommandError(f"{path}: is a directory; copy it to the directory of the images yourself")
            with open(path, "rb") as file:
                yield file, os.fstat(file.fileno()).st_size
            return
        url = urljoin(self.location, beside) if beside else self.location
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
                length = answer.headers.get("Content-Length", "")
                yield answer, int(length) if length.isdigit() else None
        except urllib.error.HTTPError as error:
            if error.code in (403, 404, 410) and beside:
                raise FileNotFoundError(url) from error
            raise CommandError(f"{url}: {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise CommandError(f"{url}: {error.reason}") from error
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise CommandError(f"{url}: the download broke off: {error or type(error).__name__}") from error

    def beside(self, name: str) -> bytes | None:
        """Return a small file beside it; None: there is none."""
        try:
            with self.opened(name) as (file, _):
                return file.read(_SMALL)
        except (FileNotFoundError, NotADirectoryError):
            return None


def add_image(
    location: str,
    root: Path,
    name: str = "",
    keyring: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Add the image at a path or an URL to the directory *root*, in place of one with the same name.

    A disk image that is there already gets its digests.

    :param name: of the image; "": that of the file.
    :param keyring: of OpenPGP keys, of which one has to have signed the image or its checksums.
    :param say: takes lines for the user.
    :return: its path.
    :raise CommandError: it can't be added; nothing has changed.
    :raise OSError: what the file system says.
    """
    source = Source(location)
    stem, suffix = split_name(source.entry)
    if not stem:
        raise CommandError(
            f"{source.entry}: is no image by its name; known: .iso, .img, .zip, .tar, .tar.gz and others"
        )
    name = name or stem
    if not NAME.fullmatch(name):
        raise CommandError(f'"{name}": give it another name with --name: letters, digits and . _ + -')
    root.mkdir(parents=True, exist_ok=True)
    existing = {entry.name: entry for entry in image_entries(root) if isinstance(entry, ImageEntry)}.get(name)
    if existing is not None and existing.suffix != suffix:
        raise CommandError(f"{existing.path} is the image {name} already: remove it first, or give another --name")
    path = root / f"{name}{suffix}"
    if suffix in DISKS and not source.is_url and path.exists() and path.samefile(location):
        _write_digests(path)
        return path
    descriptor, part = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=root)
    try:
        with open(descriptor, "wb") as file:
            sums = _copy(source, file, root)
            file.flush()
            os.fsync(file.fileno())
        for line in _verify(source, Path(part), sums, keyring):
            say(line)
        os.chmod(part, 0o644)
        if suffix in DISKS:
            _write_digests(Path(part))
            # Before the image: a server that finds the new one finds its digests.
            os.rename(f"{part}{DIGESTS}", f"{path}{DIGESTS}")
        os.rename(part, path)
    except BaseException:
        for each in (part, f"{part}{DIGESTS}"):
            with suppress(FileNotFoundError):
                os.remove(each)
        raise
    return path


def _write_digests(image: Path) -> None:
    """Write the digests of a disk image beside it."""
    with open(image, "rb") as file:
        content = Digests.of(file.read).dump()
    digests = image.with_name(f".{image.name}{DIGESTS}.part")
    digests.write_bytes(content)
    digests.rename(f"{image}{DIGESTS}")


def remove_image(name: str, root: Path) -> bool:
    """Remove an image. Machines that have begun to boot it still get its files from the running server.

    :return: false: there is none in *root*.
    """
    for entry in image_entries(root) if root.is_dir() else ():
        if isinstance(entry, ImageEntry) and entry.name == name:
            if not entry.is_directory:
                os.remove(entry.path)
                with suppress(FileNotFoundError):
                    os.remove(f"{entry.path}{DIGESTS}")
                return True
            # Its files are needed until no machine boots from it any more: see remove_old_directories().
            os.rename(entry.path, root / f".{name}.{int(time.time())}.removed")
            return True
    return False


def remove_old_directories(root: Path, age: float) -> None:
    """Remove the directories that were images and were removed at least *age* seconds ago."""
    for path in root.glob(".*.removed") if root.is_dir() else ():
        removed = path.name.split(".")[-2]
        if removed.isdigit() and time.time() - int(removed) >= age:
            shutil.rmtree(path, ignore_errors=True)


def _copy(source: Source, file: IO[bytes], root: Path) -> dict[str, str]:
    """Copy *source* to *file*; return its checksums by algorithm."""
    digests: dict[str, Any] = {algorithm: hashlib.new(algorithm) for algorithm, _ in _SUMS}
    with source.opened() as (data, size):
        free = shutil.disk_usage(root).free
        if size is not None and size > free:
            raise CommandError(f"{root}: {size - free} bytes more are needed for {source.entry}")
        status = StatusLine()
        copied = 0
        while chunk := data.read(_CHUNK):
            file.write(chunk)
            for digest in digests.values():
                digest.update(chunk)
            copied += len(chunk)
            status.show(_progress(source.entry, copied, size))
        status.clear()
        if size is not None and copied != size:
            raise CommandError(f"{source.location}: it has {size} bytes, and {copied} of them came")
    return {algorithm: digest.hexdigest() for algorithm, digest in digests.items()}


def _verify(source: Source, part: Path, sums: dict[str, str], keyring: Path | None) -> Iterator[str]:
    """Verify what was copied; yield a line for each check.

    :raise CommandError: a checksum or a signature is wrong.
    """
    signed = False
    beside = _checksum_beside(source)
    if beside is None:
        yield "there is no checksum beside it, so it was not verified"
    else:
        algorithm, right, name, data = beside
        if right != sums[algorithm]:
            raise CommandError(f"{source.location}: its {algorithm} is {sums[algorithm]}, and {name} has {right}")
        yield f"its {algorithm} is that of {name}"
        signed = keyring is not None and _is_signed(source, name, data, keyring)
        if signed:
            yield f"{name} is signed by a key of {keyring}"
    if keyring is not None and not signed:
        if not _is_signed(source, source.entry, part, keyring):
            raise CommandError(f"{source.location}: there is no signature of it, or of its checksums")
        yield f"it is signed by a key of {keyring}"


def _checksum_beside(source: Source) -> tuple[str, str, str, bytes] | None:
    """Return the algorithm, the checksum, and the name and content of the file that has it; None: there is none."""
    for algorithm, names in _SUMS:
        for name in (pattern.format(name=source.entry) for pattern in names):
            data = source.beside(name)
            right = checksum_in(data.decode("utf-8", "replace"), source.entry, algorithm) if data else None
            if data is not None and right is not None:
                return algorithm, right, name, data
    return None


def checksum_in(text: str, entry: str, algorithm: str) -> str | None:
    """Return the checksum of the file *entry* in a file like SHA256SUMS, of GNU or BSD; None: there is none.

    A file that has a checksum and no name is for the file that it is beside.
    """
    digits = hashlib.new(algorithm).digest_size * 2
    for line in text.splitlines():
        match = _BSD.fullmatch(line.strip()) or _GNU.fullmatch(line.strip())
        if match is None or len(match["sum"]) != digits:
            continue
        if match["file"] is None or match["file"].rpartition("/")[2] == entry:
            return match["sum"].lower()
    return None


def _is_signed(source: Source, name: str, data: bytes | Path, keyring: Path) -> bool:
    """Return whether there is a signature of *data*, which is good.

    :raise CommandError: it is not good, or can't be verified.
    """
    signature = next(filter(None, (source.beside(one.format(name=name)) for one in _SIGNATURES)), None)
    if signature is None:
        return False
    with tempfile.TemporaryDirectory() as directory:
        signature_file, data_file = Path(directory) / "signature", data
        signature_file.write_bytes(signature)
        if isinstance(data_file, bytes):
            data_file = Path(directory) / "data"
            data_file.write_bytes(data if isinstance(data, bytes) else b"")
        command = ["gpgv", "--keyring", str(keyring.absolute()), str(signature_file), str(data_file)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        except FileNotFoundError:
            raise CommandError("signatures are verified by gpgv, which is not installed") from None
    if done.returncode:
        messages = [line for line in done.stderr.splitlines() if line.strip()]
        raise CommandError(f"the signature of {name} is not good: {messages[-1] if messages else 'gpgv failed'}")
    return True


def _progress(entry: str, copied: int, size: int | None) -> str:
    share = f" of {size / 1e6:,.0f} MB, {100 * copied // size} %" if size else ""
    return f"{entry}: {copied / 1e6:,.0f} MB{share}"
