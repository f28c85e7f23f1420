"""Downloads, rows S8 to S10 of the contract: against a server on this machine that misbehaves in every way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from clips import clip, number

from mmworld.errors import LimitError, MediaError, SourceError
from mmworld.media import fetch as module
from mmworld.media.budget import Budget
from mmworld.media.fetch import fetch, is_public
from mmworld.media.gate import open_media
from mmworld.media.video import frames

Reply = Callable[[socket.socket, str], None]


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[[Reply], list[str]]]:
    """Answer every connection by a function of the test; the addresses are taken as public and TLS as done."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[str] = []

    def start(reply: Reply) -> list[str]:
        def loop() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer, suppress(OSError):
                        request = peer.recv(65536).decode()
                        requests.append(request)
                        reply(peer, request.split()[1])

        threading.Thread(target=loop, daemon=True).start()
        return requests

    monkeypatch.setattr(module, "_public_address", lambda host: "127.0.0.1")
    monkeypatch.setattr(module, "_connect", lambda host, address: socket.create_connection(listener.getsockname(), 5))
    yield start
    listener.close()


def answer(body: bytes, status: str = "200 OK", **headers: object) -> Reply:
    lines = {"Content-Length": len(body), "Connection": "close"} | {k.replace("_", "-"): v for k, v in headers.items()}
    head = "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return lambda peer, _: peer.sendall(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fd00:ec2::254", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("ff02::1", False),
    ],
)
def test_s8_which_addresses_are_public(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "localhost",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "user@example.com",
        "example.com@127.0.0.1",
        "example.com.",
        "example.com:8443",
        "example.com:443:1",
        "exa\\mple.com",
        "exämple.com",
        "example.com\n",
        "exam ple.com",
        "",
        "-x.com",
    ],
)
def test_s8_hosts_that_are_refused_before_anything_is_sent(monkeypatch, host):
    monkeypatch.setattr(module, "_connect", lambda *_: pytest.fail("connected"))
    with pytest.raises(SourceError) as caught:
        fetch(f"https://{host}/a.mp4", Budget())
    assert caught.value.exit_code == 4
    assert caught.value.code in ("url", "forbidden", "host")


def test_s9_one_private_answer_spoils_them_all(monkeypatch):
    public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))
    private = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 443))
    monkeypatch.setattr(module, "_connect", lambda *_: pytest.fail("connected"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [public, private])
    with pytest.raises(SourceError, match="not a public address"):
        fetch("https://example.com/", Budget())


def test_s9_the_name_is_resolved_once_and_that_address_is_used(monkeypatch):
    answers = iter(["93.184.216.34", "127.0.0.1"])
    used = []

    def resolve(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 443))]

    def connect(host: str, address: str) -> socket.socket:
        used.append(address)
        raise OSError("far away")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(module, "_connect", connect)
    with pytest.raises(SourceError, match="far away"):
        fetch("https://example.com/", Budget())
    assert used == ["93.184.216.34"]


def test_a_body_is_fetched_and_read(serve):
    data = clip(5)
    requests = serve(answer(data))
    media = open_media("https://example.com/v.mp4?a=b", allow_url=True)
    for _ in range(2):
        assert [number(f.data) for f in frames(media)] == list(range(5))
    assert len(requests) == 1
    assert requests[0].startswith("GET /v.mp4?a=b HTTP/1.1\r\nHost: example.com\r\n")
    assert not any(word in requests[0].lower() for word in ("authorization", "cookie"))


@pytest.mark.parametrize(
    "target", ["http://example.com/", "https://example.com:8080/", "https://u:p@example.com/", "file:///etc/passwd", ""]
)
def test_s9_redirects_are_checked_anew(serve, target):
    serve(answer(b"", "302 Found", Location=target))
    with pytest.raises(SourceError):
        fetch("https://example.com/", Budget())


def test_s9_redirects_to_private_hosts(serve, monkeypatch):
    monkeypatch.setattr(module, "_public_address", lambda h: {"a.example": "1.1.1.1"}.get(h) or private(h))

    def private(host: str) -> str:
        raise SourceError("forbidden", f"{host} is private")

    requests = serve(answer(b"", "302 Found", Location="https://internal.example/"))
    with pytest.raises(SourceError, match="private"):
        fetch("https://a.example/", Budget())
    assert len(requests) == 1


def test_s9_redirects_end(serve):
    requests = serve(answer(b"", "302 Found", Location="/again"))
    with pytest.raises(SourceError, match="more than 3 redirects"):
        fetch("https://example.com/", Budget())
    assert len(requests) == 4


def endless(peer: socket.socket, _: str) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        peer.sendall(bytes(65536))


def drip(peer: socket.socket, _: str) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        peer.sendall(b"x")
        time.sleep(0.05)


def drip_headers(peer: socket.socket, _: str) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (endless, LimitError),
        (answer(b"x", Content_Length=10 << 30), LimitError),
        (answer(bytes(10), Content_Length=1000), SourceError),
        (answer(b"\x1f\x8b\x08", Content_Encoding="gzip"), SourceError),
        (answer(b"", "404 Not Found"), SourceError),
        (answer(b"", "500 Oops"), SourceError),
        (lambda peer, _: None, SourceError),
        (lambda peer, _: peer.sendall(b"SSH-2.0-x\r\n"), SourceError),
        (lambda peer, _: peer.sendall(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000), SourceError),
    ],
)
def test_s10_bodies_that_do_not_end_well(serve, reply, error):
    serve(reply)
    with pytest.raises(error) as caught:
        fetch("https://example.com/x", Budget(fetch_bytes=1 << 20))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("reply", [drip, drip_headers])
def test_s10_a_slow_server_is_cut_at_the_deadline(serve, reply):
    serve(reply)
    start = time.monotonic()
    with pytest.raises(MediaError, match="took longer"):
        fetch("https://example.com/x", Budget(fetch_seconds=0.5))
    assert time.monotonic() - start < 3


def test_the_whole_way_is_https():
    with pytest.raises(SourceError, match="only https"):
        fetch("http://example.com/", Budget())
