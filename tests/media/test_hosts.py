"""Streams from hosts: from those that were named, and from no other, whatever a server or a playlist says."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from clips import clip, number
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import SourceError, UsageError
from mmworld.media import fetch as module
from mmworld.media import hls
from mmworld.media.audio import samples
from mmworld.media.budget import Budget
from mmworld.media.devices import open_device
from mmworld.media.fetch import fetch
from mmworld.media.hosts import place, require_host
from mmworld.media.video import frames

Talk = Callable[[socket.socket, list[str]], None]


@pytest.mark.parametrize(
    ("address", "hosts", "allowed"),
    [
        ("rtsp://cam/x", ["cam"], True),
        ("rtsp://cam:8554/x", ["cam"], True),
        ("rtsp://cam/x", ["cam:554"], True),
        ("rtsp://CAM/x", ["cam:554"], True),
        ("rtsp://cam:555/x", ["cam:554"], False),
        ("rtmp://cam/x", ["cam:554"], False),
        ("rtmp://cam/x", ["cam:1935"], True),
        ("rtsp://cam.evil/x", ["cam"], False),
        ("rtsp://evil/cam", ["cam"], False),
        ("rtsp://cam@evil/x", ["cam"], False),
        ("rtsp://cam:554@evil/x", ["cam"], False),
        ("rtsp://me:pass@cam/x", ["cam"], True),
        ("rtsp://[::1]:554/x", ["[::1]"], True),
        ("rtsp://cam/x", [], False),
    ],
)
def test_only_what_was_named_is_allowed(address, hosts, allowed):
    if allowed:
        assert "pass" not in require_host(address, hosts)
        return
    with pytest.raises(SourceError, match=r"not allowed \(--allow-host ") as caught:
        require_host(address, hosts)
    assert caught.value.code == "forbidden"


@pytest.mark.parametrize(
    "address", ["rtsp://cam\\@evil/x", "rtsp://cam /x", "rtsp://c\u00e4m/x", "rtsp:///x", "rtsp://a\n/x"]
)
def test_what_parsers_could_disagree_about_is_refused(address):
    with pytest.raises(SourceError) as caught:
        require_host(address, ["cam", "evil"])
    assert caught.value.code == "url"


@pytest.mark.parametrize("text", ["", "a b", "rtsp://cam", "cam/x", "cam:port", "*", "cam:123456"])
def test_what_is_no_host(text):
    with pytest.raises(UsageError):
        place(text)


@given(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,2}", fullmatch=True), st.integers(1, 65535), st.integers(1, 65535))
def test_a_port_is_the_port(host: str, port: int, other: int) -> None:
    address = f"rtsp://{host}:{other}/x"
    with suppress(SourceError):
        require_host(address, [f"{host}:{port}"])
        assert port == other
    require_host(address, [host])


@pytest.mark.parametrize("address", ["rtsp://h/x", "rtsps://h/x", "rtmp://h/x", "rtmps://h/x", "https://h/a.m3u8"])
def test_no_socket_is_opened_unless_allowed(address, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(SourceError, match="not allowed") as caught:
        open_device(address)
    assert caught.value.code == "forbidden"


@pytest.fixture
def server() -> Iterator[Callable[[Talk], str]]:
    """Answer requests (lines up to a blank one) by a function of the test; gives HOST:PORT."""
    listeners: list[socket.socket] = []

    def start(talk: Talk) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def loop() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer, peer.makefile() as lines, suppress(OSError):
                        while request := list(iter(lambda lines=lines: lines.readline().strip(), "")):
                            talk(peer, request)

        threading.Thread(target=loop, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()


SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\na=control:t\r\n"


def reply(peer: socket.socket, request: list[str], headers: str = "", body: str = "", status: str = "200 OK") -> None:
    count = next(line for line in request if line.startswith("CSeq"))
    peer.sendall(f"RTSP/1.0 {status}\r\n{count}\r\n{headers}\r\n{body}".encode())


def camera(peer: socket.socket, request: list[str]) -> None:
    """One second of mu-law silence over RTSP, interleaved."""
    verb = request[0].split()[0]
    if verb == "DESCRIBE":
        reply(peer, request, f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n", SDP)
    elif verb == "SETUP":
        reply(peer, request, "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
    else:
        reply(peer, request, "Session: 1\r\n")
    if verb == "PLAY":
        for i in range(50):
            packet = struct.pack(">BBHII", 0x80, 0, i, 160 * i, 7) + b"\xff" * 160
            peer.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
        peer.shutdown(socket.SHUT_RDWR)


def test_rtsp_from_an_allowed_host(server):
    place = server(camera)
    media = open_device(f"rtsp://me:secret@{place}/x", allow_hosts=[place], timeout=5.0)
    assert "secret" not in media.name
    assert sum(len(s.data) for s in samples(media)) == 50 * 160


def test_a_redirect_of_rtsp_is_not_followed(server):
    asked: list[str] = []

    def elsewhere(peer: socket.socket, request: list[str]) -> None:
        asked.extend(request)
        camera(peer, request)

    target = server(elsewhere)
    place = server(lambda peer, request: reply(peer, request, f"Location: rtsp://{target}/x\r\n", "", "302 Found"))
    with pytest.raises(SourceError) as caught:
        open_device(f"rtsp://{place}/x", allow_hosts=["127.0.0.1"], timeout=5.0)
    assert caught.value.code == "network"
    assert not asked


def playlist(*segments: str, end: bool = True) -> bytes:
    pieces = "".join(f"#EXT-X-DISCONTINUITY\n#EXTINF:1.0,\n{s}\n" for s in segments)
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{pieces}{'#EXT-X-ENDLIST' if end else ''}\n".encode()


@pytest.fixture
def web(monkeypatch, tmp_path) -> tuple[dict[str, bytes], list[str]]:
    """What is at which address, and what was asked for. The host is checked as `fetch` does."""
    pages: dict[str, bytes] = {}
    asked: list[str] = []

    def get(url, budget, hosts):
        require_host(url, hosts)
        asked.append(url)
        if url not in pages:
            raise SourceError("http", f"{url}: the server answers 404")
        (tmp_path / "body").write_bytes(pages[url])
        return (tmp_path / "body").open("rb")

    monkeypatch.setattr(hls, "fetch", get)
    return pages, asked


def test_hls_is_fetched_by_the_gate(web):
    pages, _ = web
    pages["https://cam/live/a.m3u8?key=1"] = playlist("0.ts", "https://cdn/1.ts")
    pages["https://cam/live/0.ts"] = pages["https://cdn/1.ts"] = clip(30, container="mpegts")
    media = open_device("https://cam/live/a.m3u8?key=1", allow_hosts=["cam", "cdn"])
    assert media.name == "https://cam/live/a.m3u8"
    assert media.duration == 2.0
    found = list(frames(media))
    assert [number(f.data) for f in found] == [*range(30), *range(30)]
    assert [f.time for f in found] == pytest.approx([i / 30 for i in range(60)], abs=0.002)


def test_of_several_qualities_one_is_read_on(web):
    pages, asked = web
    head = "#EXT-X-STREAM-INF:BANDWIDTH={},RESOLUTION={}x{}\n{}.m3u8\n"
    pages["https://cam/a.m3u8"] = f"#EXTM3U\n{head.format(9, 64, 64, 'big')}{head.format(1, 32, 32, 'small')}".encode()
    for name, size in (("big", 64), ("small", 32)):
        pages[f"https://cam/{name}.m3u8"] = playlist(*(f"{name}{i}.ts" for i in range(6)))
        pages |= {f"https://cam/{name}{i}.ts": clip(30, width=size, height=size, container="mpegts") for i in range(6)}
    found = list(frames(open_device("https://cam/a.m3u8", allow_hosts=["cam"])))
    assert len(found) == 180
    assert {f.data.shape for f in found} == {(3, 64, 64)}
    assert "https://cam/big5.ts" in asked
    assert "https://cam/small5.ts" not in asked


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        ("https://evil/0.ts", "forbidden"),
        ("http://evil/0.ts", "forbidden"),
        ("//evil/0.ts", "forbidden"),
        ("data:text/plain,x.ts", "url"),
        ("/etc/passwd.ts", "http"),  # of the same host
        ("file:///etc/passwd", "network"),  # not a playlist, says FFmpeg
        ("tcp://cam:1", "network"),
        ("crypto+https://cam/0.ts", "http"),
    ],
)
def test_a_playlist_cannot_lead_elsewhere(inside, code, web):
    web[0]["https://cam/a.m3u8"] = playlist(inside)
    with pytest.raises(SourceError) as caught:
        open_device("https://cam/a.m3u8", allow_hosts=["cam"])
    assert caught.value.code == code


def test_a_redirect_of_https_is_not_followed_to_another_host(monkeypatch):
    monkeypatch.setattr(module, "_public_address", lambda host: host)
    monkeypatch.setattr(module, "_get", lambda host, *_: "https://evil/x" if host == "cam" else pytest.fail(host))
    with pytest.raises(SourceError, match="https://evil: streams from this host are not allowed"):
        fetch("https://cam/x", Budget(), ["cam"])
