"""Downloads over https, behind the rules that keep a server's own network out of reach.

The host is resolved once, every answer must be a public address, and that address is the one connected to; each
redirect is checked anew. Nothing is sent but the path: no credentials, no cookies, no proxy. The body goes to a
temporary file.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import IO
from urllib.parse import urljoin, urlsplit

from mmworld.errors import LimitError, SourceError
from mmworld.media.budget import Budget
from mmworld.media.hosts import require_host

CONNECT_SECONDS = 10.0
MAX_REDIRECTS = 3
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\]")
_TRANSLATED = [ipaddress.ip_network(n) for n in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")]
"""IPv6 ranges that carry an IPv4 address inside (NAT64, 6to4, Teredo)."""


def fetch(url: str, budget: Budget, hosts: Sequence[str] | None = None) -> IO[bytes]:
    """The body at an https address, in a temporary file at its start.

    Args:
        hosts: those from which it may come, "HOST[:PORT]", and to which it may be redirected; None: any.

    Raises:
        SourceError: the address is malformed or not public, the server cannot be reached, answers with an error,
            compresses the body, breaks off, or redirects more than three times.
        LimitError: the body is larger, or takes longer, than the budget allows.
    """
    for _ in range(MAX_REDIRECTS + 1):
        host, path = _checked(url)
        if hosts is not None:
            require_host(url, hosts)
        target = _get(host, _public_address(host), path, budget)
        if not isinstance(target, str):
            return target
        url = urljoin(url, target)
    raise SourceError("redirects", f"https://{host}: more than {MAX_REDIRECTS} redirects")


def _checked(url: str) -> tuple[str, str]:
    """Host and path of an address with nothing odd about it: plain ASCII, no user, no port but 443, no trailing dot."""
    shown = url.split("?")[0][:100]
    if not url.isascii() or not url.isprintable() or re.search(r"[\s\\]", url):
        raise SourceError("url", f"{shown!r}: an address may hold plain ASCII only, without spaces or backslashes")
    try:
        parts = urlsplit(url)
        host, port = parts.netloc.lower(), parts.port
    except ValueError:
        raise SourceError("url", f"{shown}: not a valid address") from None
    if parts.scheme != "https":
        raise SourceError("scheme", f"{shown}: only https: addresses are fetched")
    host = host.removesuffix(":443")
    if not _HOST.fullmatch(host) or port not in (None, 443):
        raise SourceError("url", f"{shown}: the host must be a plain name, without user, port or trailing dot")
    return host.strip("[]"), (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _public_address(host: str) -> str:
    """The address of `host`, provided all it has are public."""
    try:
        answers = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except OSError:
        raise SourceError("host", f"https://{host}: no such host, or no network") from None
    addresses = [str(answer[4][0]).split("%")[0] for answer in answers]
    if not addresses or not all(map(is_public, addresses)):
        raise SourceError("forbidden", f"https://{host}: is not a public address")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is out on the internet: not private, local, reserved, multicast, nor a wrapping of such a
    one.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not ip.is_multicast


def _connect(host: str, address: str) -> socket.socket:
    raw = socket.create_connection((address, 443), timeout=CONNECT_SECONDS)
    return ssl.create_default_context().wrap_socket(raw, server_hostname=host)


def _get(host: str, address: str, path: str, budget: Budget) -> IO[bytes] | str:
    """The body, or where it has moved to. A timer closes the connection at the deadline, however slowly bytes drip."""
    shown = f"https://{host}{path.split('?')[0]}"
    connection = http.client.HTTPConnection(host, timeout=CONNECT_SECONDS)
    try:
        connection.sock = _connect(host, address)
        expired = threading.Event()
        deadline = threading.Timer(budget.fetch_seconds, _hang_up, [connection.sock, expired])
        deadline.daemon = True
        deadline.start()
        with closing(connection):
            try:
                connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "mmworld"})
                return _body(connection.getresponse(), shown, budget)
            finally:
                deadline.cancel()
                if expired.is_set():
                    raise LimitError("seconds", f"{shown}: took longer than {budget.fetch_seconds:.0f} s") from None
    except (OSError, http.client.HTTPException) as e:
        reason = str(getattr(e, "strerror", None) or e or type(e).__name__).lower()
        raise SourceError("network", f"{shown}: {reason}") from None


def _hang_up(sock: socket.socket, expired: threading.Event) -> None:
    expired.set()  # first: the reader wakes before this thread ends
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _body(response: http.client.HTTPResponse, shown: str, budget: Budget) -> IO[bytes] | str:
    if response.status in (301, 302, 303, 307, 308):
        return response.headers.get("Location") or ""
    if response.status != 200:
        raise SourceError("http", f"{shown}: the server answers {response.status}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise SourceError("encoding", f"{shown}: the server sends a compressed body, which is not read")
    length = response.headers.get("Content-Length", "")
    expected = int(length) if length.isdecimal() else None
    file, size = tempfile.TemporaryFile(), 0  # noqa: SIM115 - handed to the caller
    while (expected or 0) <= budget.fetch_bytes and (data := response.read(1 << 16)):
        size += len(data)
        if size > budget.fetch_bytes:
            break
        file.write(data)
    if max(size, expected or 0) > budget.fetch_bytes:
        raise LimitError("bytes", f"{shown}: larger than the limit of {budget.fetch_bytes} bytes")
    if expected is not None and size < expected:
        raise SourceError("truncated", f"{shown}: broke off after {size} of {expected} bytes")
    file.seek(0)
    return file
