"""The hosts that live streams may come from: those that were named, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from mmworld.errors import SourceError, UsageError

PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "https": 443, "ws": 80, "wss": 443}
"""The ports where an address names none."""
_PLACE = re.compile(r"(?P<host>[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:(?P<port>\d{1,5}))?")


def place(text: str) -> tuple[str, int | None]:
    """Host and port (None: any) of "HOST[:PORT]".

    Raises:
        UsageError: it is not of that form.
    """
    match = _PLACE.fullmatch(text.lower())
    if match is None:
        raise UsageError(f"{text[:80]!r} is no host", hint="HOST, HOST:PORT or [IPv6]:PORT")
    return match["host"], int(match["port"]) if match["port"] else None


def endpoint(address: str) -> tuple[str, int]:
    """Host and port of an address that `require_host` has passed."""
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or PORTS[parts.scheme]


def require_host(address: str, hosts: Iterable[str]) -> str:
    """What to call `address` in messages: without user, password and query. It must be at one of `hosts`.

    Raises:
        SourceError: "url" where parsers could disagree about it, "forbidden" where its host is not allowed.
    """
    parts = (
        urlsplit(address) if address.isascii() and address.isprintable() and not re.search(r"[\s\\]", address) else None
    )
    match = _PLACE.fullmatch(parts.netloc.lower().rpartition("@")[2]) if parts else None
    if parts is None or match is None:
        shown = re.sub(r"//[^/]*@", "//", address)[:80]
        raise SourceError("url", f"{shown!r}: an address is plain ASCII, scheme://host[:port]/path")
    host, port = match["host"], int(match["port"] or PORTS.get(parts.scheme, 0))
    if not any(host == known and where in (None, port) for known, where in map(place, hosts)):
        name = f"{parts.scheme}://{host}"
        raise SourceError("forbidden", f"{name}: streams from this host are not allowed", hint=f"--allow-host {host}")
    return f"{parts.scheme}://{host}{parts.path}"
