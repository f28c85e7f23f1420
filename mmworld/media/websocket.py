"""WebSocket: the messages of a server as one stream of bytes, read as they come."""

from __future__ import annotations

import io
import logging
import socket
import ssl
from contextlib import ExitStack
from typing import IO, Any, cast

from mmworld.errors import MediaError, SourceError, UsageError
from mmworld.media.budget import Budget
from mmworld.media.gate import Media, open_media
from mmworld.media.hosts import endpoint
from mmworld.media.sniff import Format
from mmworld.media.source import Opened
from mmworld.media.tls import refusal

MESSAGE_BYTES = 8 << 20
"""Of a message, at most; a longer one ends the connection (close code 1009)."""
WAITING = 4
"""Messages that may wait to be read, about; while they do, nothing is read from the socket, and the server waits."""
_READINGS = Format("JSON lines", "sensor", "jsonl")
log = logging.getLogger(__name__)


def open_websocket(address: str, name: str, budget: Budget, timeout: float) -> Media:
    """What the server at a ws: or wss: address, whose host has been allowed, sends from now on.

    Binary messages are an encoded stream, their bytes joined in order: MPEG-TS, fragmented MP4, WebM, WAV and whatever
    else can be read from a pipe. Text messages are lines of JSON, as `read_series` takes them. The first message says
    which; those of the other kind are left out. No redirect is followed, and no proxy asked.

    Args:
        name: what to call it in messages.
        timeout: seconds for the handshake, the first message and, of an encoded stream, each further one. Where
            readings are silent the server must answer pings.

    Raises:
        UsageError: the library is not installed.
        SourceError: "network", with the close code if there is one, when it does not answer or sends nothing.
        MediaError: what it sends is not read.
    """
    stream = Messages(address, name, timeout)
    file = cast("IO[bytes]", stream)
    try:
        if stream.text:
            media = Media(name, "sensor", _READINGS, None, False, budget)
            media._opened = Opened(name, lambda: file, seekable=False)
        else:
            media = open_media(file, budget=budget)
        if media.kind not in ("video", "audio", "sensor"):
            raise MediaError("format", f"{name}: sends {media.format.words}, wanted is a stream of pictures or sound")
    except BaseException:
        stream.close()
        raise
    media.duration = None
    return media


class Messages(io.RawIOBase):
    """One connection, as a binary file that cannot seek; it ends when the connection does, and the log says why. It is
    closed at the latest when nothing refers to it.

    Attributes:
        text: whether the text messages are read, each as lines of its own, rather than the binary ones.
    """

    def __init__(self, address: str, name: str, timeout: float) -> None:
        self.name, self._timeout, self._scope = name, timeout, ExitStack()
        self.text = self._told = False
        self._connection = self._connect(address)
        first, why = self._receive()
        if first is None:
            self.close()
            raise SourceError("network", f"{name}: {why}")
        self.text = isinstance(first, str)
        self._left = _lines(first)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """What has come, at most `size` bytes; nothing once the connection has ended."""
        while not self._left and not self.closed:
            message, why = self._receive()
            if message is None:
                log.warning("%s: %s", self.name, why)
                self.close()
            elif isinstance(message, str) == self.text:
                self._left = _lines(message)
            elif not self._told:
                self._told = True
                log.warning(
                    "%s: %s messages among the others are left out", self.name, "binary" if self.text else "text"
                )
        size = len(self._left) if size < 0 else size
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data

    def close(self) -> None:
        self._scope.close()
        super().close()

    def _connect(self, address: str) -> Any:
        try:
            from websockets.exceptions import InvalidURI, WebSocketException
            from websockets.sync.client import connect
        except ImportError:
            raise UsageError("ws: and wss: need websockets", hint="pip install 'mmworld[websocket]'") from None
        self._gone = WebSocketException, OSError, EOFError
        try:
            # a socket that was made is used for no redirect, and needs no proxy
            raw = self._scope.enter_context(socket.create_connection(endpoint(address), self._timeout))
            raw.settimeout(None)
            how: dict[str, Any] = {"ssl": ssl.create_default_context()} if address.startswith("wss:") else {}
            how |= {"open_timeout": self._timeout, "close_timeout": 1.0, "compression": None}
            made = connect(address, sock=raw, max_size=MESSAGE_BYTES, max_queue=WAITING, **how)
            return self._scope.enter_context(made)
        except InvalidURI:  # which tells the password
            self._scope.close()
            raise SourceError("url", f"{self.name}: is no address of a WebSocket, without a # in it") from None
        except (*self._gone, ValueError) as e:
            self._scope.close()
            raise SourceError("network", f"{self.name}: {_reason(e)}") from None

    def _receive(self) -> tuple[str | bytes | None, str]:
        """The next message, or None and why there is none."""
        try:
            return self._connection.recv(None if self.text else self._timeout), ""
        except TimeoutError:
            return None, f"sent nothing for {self._timeout:g} s"
        except self._gone as e:
            return None, f"closed: {_reason(e)}"


def _lines(message: str | bytes) -> memoryview:
    return memoryview(message if isinstance(message, bytes) else f"{message}\n".encode())


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return refusal(error)
    return str(getattr(error, "strerror", None) or error).lower()
