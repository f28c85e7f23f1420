"""The first step of the gate: what a caller names becomes an opened binary file, or SourceError. Nothing is parsed
here.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import stat
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from mmworld.errors import LimitError, SourceError
from mmworld.media.budget import Budget
from mmworld.types import Source

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A source whose bytes can be read.

    Attributes:
        name: for messages and outputs; printable.
        reopen: a fresh binary file at the first byte; for a stream that cannot seek, the one there is.
        seekable: whether `reopen` may be called again.
        path: of a regular file on disk, or None.
    """

    name: str
    reopen: Callable[[], IO[bytes]]
    seekable: bool
    path: Path | None = None


def open_source(source: Source, *, allow_url: bool, root: Path | None, budget: Budget) -> Opened:
    """Open a path, bytes, a binary file object, a `data:` address or (when allowed) an `https:` one.

    Raises:
        SourceError: it is missing, not a regular file, outside `root`, of another scheme, or not allowed.
        LimitError: it is larger than the budget.
    """
    if isinstance(source, bytes):
        return Opened("<bytes>", lambda: io.BytesIO(source), seekable=True)
    if not isinstance(source, str | os.PathLike):
        return _open_file_object(source)
    text = os.fspath(source)
    if isinstance(source, str):
        if text[:5].lower() == "data:":
            data = _decode_data(text, budget)
            return Opened("data:", lambda: io.BytesIO(data), seekable=True)
        if match := _SCHEME.match(text):
            return _open_address(text, match[1].lower(), allow_url, budget)
    return _open_path(text, root)


def printable(name: str, limit: int = 200) -> str:
    """`name` on one line, safe to print: control characters, line ends and undecodable bytes are escaped."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _open_path(text: str, root: Path | None) -> Opened:
    name = printable(text)
    try:
        path = Path(text).resolve(strict=True)
    except FileNotFoundError:
        raise SourceError("missing", f"{name}: no such file") from None
    except (OSError, RuntimeError, ValueError) as e:  # too long a name, a loop of links, a NUL
        raise SourceError("missing", f"{name}: {getattr(e, 'strerror', None) or e}") from None
    if root is not None and not path.is_relative_to(root.resolve()):
        raise SourceError("forbidden", f"{name}: outside the folder that may be read")
    file = _open_regular(path, name)
    with file:
        opened = os.fstat(file.fileno())

    def reopen() -> BinaryIO:
        again = _open_regular(path, name)
        now = os.fstat(again.fileno())
        if (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino):
            again.close()
            raise SourceError("changed", f"{name}: was replaced while it was read")
        return again

    return Opened(name, reopen, seekable=True, path=path)


def _open_regular(path: Path, name: str) -> BinaryIO:
    """O_NONBLOCK: to open a FIFO must not wait for a writer; the check is on what was opened, so nothing can be
    swapped.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as e:
        raise SourceError("missing", f"{name}: {e.strerror}") from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise SourceError("directory", f"{name}: is a folder, not a file")
        raise SourceError("special", f"{name}: is a device or pipe, not a file", hint="pass - and pipe it in")
    return os.fdopen(fd, "rb")


def _open_address(text: str, scheme: str, allow_url: bool, budget: Budget) -> Opened:
    name = printable(text.split("?")[0])
    if scheme != "https":
        raise SourceError("scheme", f"{name}: {scheme}: addresses are not read", hint="only https: and local files are")
    if not allow_url:
        raise SourceError("url", f"{name}: addresses are not fetched by default", hint="allow it with --allow-url")
    from mmworld.media.fetch import fetch

    file = fetch(text, budget)
    return Opened(name, lambda: _file(_View(file)), seekable=True)


def _decode_data(text: str, budget: Budget) -> bytes:
    header, comma, payload = text[5:].partition(",")
    if not comma:
        raise SourceError("data", "data: address without a comma", hint="data:[type][;base64],<data>")
    if len(payload) > budget.data_bytes * 3:
        raise LimitError("bytes", f"data: address of {len(payload)} characters, the limit is {budget.data_bytes} bytes")
    data = urllib.parse.unquote_to_bytes(payload)
    if header.lower().endswith(";base64"):
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error as e:
            raise SourceError("data", f"data: address with bad base64: {e}") from None
    if len(data) > budget.data_bytes:
        raise LimitError("bytes", f"data: address of {len(data)} bytes, the limit is {budget.data_bytes}")
    return data


def _open_file_object(file: IO[bytes]) -> Opened:
    name = printable(str(getattr(file, "name", "<stream>")))
    if isinstance(file, io.TextIOBase):
        raise SourceError("text", f"{name}: opened as text", hint="open it in binary mode, or pass its .buffer")
    if getattr(file, "seekable", bool)():
        return Opened(name, lambda: _file(_View(file)), seekable=True)
    stream = Replay(file)
    return Opened(name, lambda: _file(stream), seekable=False)


def _file(raw: io.RawIOBase) -> IO[bytes]:
    return cast("IO[bytes]", raw)


class _View(io.RawIOBase):
    """A reader of its own on a shared seekable file: own position, and closing it leaves the file open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = (0, self._position, self._file.seek(0, os.SEEK_END) if whence == os.SEEK_END else 0)[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        self._file.seek(self._position)
        data = self._file.read(size)
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Replay(io.RawIOBase):
    """A stream that cannot seek, whose first bytes may be looked at before they are read.

    Reads return what has arrived, never waiting to fill a buffer, so that a live source is live.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._read = getattr(file, "read1", file.read)
        self._head = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end; they stay to be read."""
        while len(self._head) < size and (data := self._read(1 << 16)):
            self._head += data
        return self._head

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 16), b""))
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._read(size)

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
