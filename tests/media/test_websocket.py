"""A WebSocket is a stream like any other: what comes over it is what is in the file, and it ends with one line."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from certificates import certificate
from clips import clip, tone

import mmworld
from mmworld.errors import MediaError, SourceError
from mmworld.media import websocket
from mmworld.media.audio import samples
from mmworld.media.devices import open_device
from mmworld.media.gate import Media, open_media
from mmworld.media.video import frames
from mmworld.modalities.sensor.readers import read_series
from mmworld.stream.again import again
from mmworld.types import Chunk, Gap

pytest.importorskip("websockets", reason="the extra 'websocket' is not installed")
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

Talk = Callable[[ServerConnection], None]
STREAM = clip(20, fps=10, container="mpegts", sound=tone(2.0))


@pytest.fixture
def server() -> Iterator[Callable[..., str]]:
    """Serves connections by a function of the test; gives HOST:PORT."""
    with ExitStack() as scope:

        def start(talk: Talk, **options: Any) -> str:
            def handle(peer: ServerConnection) -> None:
                with suppress(ConnectionClosed):
                    talk(peer)

            made = serve(handle, "127.0.0.1", 0, **options)
            scope.callback(made.shutdown)
            threading.Thread(target=made.serve_forever, daemon=True).start()
            return f"127.0.0.1:{made.socket.getsockname()[1]}"

        yield start


def sender(messages: Sequence[str | bytes], code: int = 1000) -> Talk:
    def talk(peer: ServerConnection) -> None:
        for message in messages:
            peer.send(message)
        peer.close(code, "" if code == 1000 else "why")

    return talk


def opened(place: str, timeout: float = 5.0) -> Media:
    return open_device(f"ws://me:secret@{place}/feed?key=1", allow_hosts=[place], timeout=timeout)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("size", [188, 1000, 1 << 20])
def test_a_transport_stream_is_what_it_is_in_a_file(server, size):
    """However it is cut into messages."""
    place = server(sender(cut(STREAM, size)))
    media, file = opened(place), open_media(STREAM)
    assert media.name == "ws://127.0.0.1/feed"
    assert (media.kind, media.duration) == ("video", None)
    found, want = list(frames(media)), list(frames(file))
    assert [f.time for f in found] == [f.time for f in want]
    assert all(torch.equal(a.data, b.data) for a, b in zip(found, want, strict=True))
    heard = torch.cat([s.data for s in samples(opened(place))])
    assert torch.equal(heard, torch.cat([s.data for s in samples(file)]))


def fragmented(tmp_path: Path, container: str) -> bytes:
    """What a browser's MediaRecorder sends: no index, no length, fragments as they are recorded."""
    flags = {"mp4": "-movflags frag_keyframe+empty_moov+default_base_moof -f mp4", "webm": "-live 1 -f webm"}
    codec = {"mp4": "libx264", "webm": "libvpx"}
    (tmp_path / "in.mkv").write_bytes(clip(20, fps=10, container="matroska"))
    made = f"ffmpeg -v error -i {tmp_path / 'in.mkv'} -c:v {codec[container]} {flags[container]} -"
    return subprocess.run(made.split(), capture_output=True, check=True).stdout


@pytest.mark.skipif(not Path("/usr/bin/ffmpeg").exists(), reason="records with ffmpeg")
@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_what_a_browser_records(server, container, tmp_path):
    data = fragmented(tmp_path, container)
    want = list(frames(open_media(data)))
    found = list(frames(opened(server(sender(cut(data, 5000))))))
    assert len(want) == 20
    assert all(torch.equal(a.data, b.data) for a, b in zip(found, want, strict=True))


def test_a_wave_whose_length_nobody_knew(server):
    """A header that claims as much as it can, as a recorder's that cannot go back to it."""
    sound = (torch.arange(16_000) % 200 - 100).to(torch.int16)
    head = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    data = head + b"data\xff\xff\xff\xff" + sound.numpy().tobytes()
    media = opened(server(sender(cut(data, 999))))
    assert (media.kind, media.duration) == ("audio", None)
    heard = torch.cat([s.data for s in samples(media)])[:, 0]
    assert torch.equal(heard * 32768, sound.float())


def test_lines_of_a_sensor(server, caplog):
    """Several in a message, one that is broken, and a message of the other kind, which is left out."""
    rows = [{"time": 5 + i / 4, "values": [i, -i]} for i in range(12)]
    said = [json.dumps(r) for r in rows]
    messages = [said[0], b"\0\1", b"", "\n".join(said[1:5]), "{broken", *said[5:]]
    media = opened(server(sender(messages)))
    assert media.kind == "sensor"
    pieces = list(read_series(media))
    assert torch.equal(torch.cat([p for _, _, p in pieces]), torch.tensor([r["values"] for r in rows]).float())
    assert pieces[0][0] == 5.0
    assert media.counts == {"bad lines": 1}
    assert [r.getMessage() for r in caplog.records] == [
        "ws://127.0.0.1/feed: binary messages among the others are left out",
        "ws://127.0.0.1/feed: closed: received 1000 (ok); then sent 1000 (ok)",
    ]


def test_lines_come_when_they_are_sent(server):
    """A reading is not kept waiting for the next."""
    go = threading.Event()

    def talk(peer: ServerConnection) -> None:
        for i in range(20):
            peer.send(json.dumps({"time": i / 4, "values": [i]}))
        go.wait(10)
        peer.send(json.dumps({"time": 5.0, "values": [1]}))

    pieces = iter(read_series(opened(server(talk), timeout=0.3)))
    first = next(pieces)
    time.sleep(0.5)  # longer than a message of an encoded stream is waited for
    go.set()
    assert first[0] == 0.0
    assert sum(len(p) for _, _, p in [first, *pieces]) == 21


@pytest.mark.parametrize(
    ("messages", "code", "said"),
    [
        ([], 1011, "closed: received 1011 (internal error) why"),
        ([], 1000, "closed: received 1000 (ok)"),
        ([b"\0" * 1001], 1000, "closed: sent 1009 (message too big)"),
    ],
)
def test_a_connection_that_gives_nothing(server, messages, code, said, monkeypatch):
    monkeypatch.setattr(websocket, "MESSAGE_BYTES", 1000)
    with pytest.raises(SourceError, match=r"^ws://127.0.0.1/feed: ") as caught:
        opened(server(sender(messages, code)))
    assert caught.value.code == "network"
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_length_of_a_message_is_bounded(server, caplog, monkeypatch):
    """What came before is read; the log says why it ended."""
    monkeypatch.setattr(websocket, "MESSAGE_BYTES", 10_000)
    place = server(sender([*cut(STREAM, 10_000), b"\0" * 10_001]))
    assert len(list(frames(opened(place)))) == len(list(frames(open_media(STREAM))))
    assert "closed: sent 1009 (message too big)" in caplog.text


def test_a_server_that_falls_silent(server, caplog):
    """Before its first message it is refused, later the stream has ended."""
    release = threading.Event()

    def talk(peer: ServerConnection) -> None:
        if peer.request is not None and "full" in peer.request.path:
            for part in cut(STREAM, 4096):
                peer.send(part)
        release.wait(20)

    place = server(talk)
    with pytest.raises(SourceError, match=r"ws://127.0.0.1/: sent nothing for 0.2 s"):
        open_device(f"ws://{place}/", allow_hosts=[place], timeout=0.2)
    media = open_device(f"ws://{place}/full", allow_hosts=[place], timeout=0.5)
    assert len(list(frames(media))) == 20
    assert "ws://127.0.0.1/full: sent nothing for 0.5 s" in caplog.text
    release.set()


def test_a_host_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(SourceError, match="timed out") as caught:
            opened(place, timeout=0.3)
    assert caught.value.code == "network"
    with pytest.raises(SourceError, match="connection refused"):
        opened(place)


def test_a_page_that_is_no_websocket_and_a_redirect(server):
    """Neither to the same host nor to another."""
    asked: list[str] = []

    def elsewhere(peer: ServerConnection) -> None:
        asked.append("came")

    target = server(elsewhere)

    def redirect(peer: ServerConnection, request: Any) -> Any:
        response = peer.respond(302, "")
        response.headers["Location"] = f"ws://{target}/x"
        return response

    with pytest.raises(SourceError) as caught:
        opened(server(elsewhere, process_request=redirect))
    assert caught.value.code == "network"
    with pytest.raises(SourceError, match="404"):
        opened(server(elsewhere, process_request=lambda peer, _: peer.respond(404, "")))
    assert not asked


def test_an_address_that_is_none_keeps_its_password(server):
    place = server(sender([STREAM]))
    with pytest.raises(SourceError, match="without a # in it") as caught:
        open_device(f"ws://me:secret@{place}/feed#part", allow_hosts=[place])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_only_hosts_that_were_named(scheme, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(SourceError, match=r"not allowed \(--allow-host cam\)") as caught:
        open_device(f"{scheme}://cam/x", allow_hosts=["cam:1", "other"])
    assert caught.value.code == "forbidden"


@pytest.mark.parametrize("message", [b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b"ply\n" * 50, b"nothing known" * 50])
def test_what_is_no_stream(server, message):
    with pytest.raises(MediaError, match=r"ws://127.0.0.1/feed: ") as caught:
        opened(server(sender([message])))
    assert caught.value.code == "format"


def test_the_certificate_is_checked(server, tmp_path, monkeypatch):
    place = server(sender(cut(STREAM, 4096)), ssl=certificate(tmp_path / "own.pem"))
    with pytest.raises(SourceError, match=r"wss://127.0.0.1/: its certificate is not trusted: self-signed cert"):
        open_device(f"wss://{place}/", allow_hosts=[place])
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    assert len(list(frames(open_device(f"wss://{place}/", allow_hosts=[place])))) == 20


def test_while_nobody_reads_the_server_waits(server, monkeypatch):
    """Of an endless stream no more is taken than may wait, and the buffers of the sockets."""
    monkeypatch.setattr(websocket, "MESSAGE_BYTES", 1 << 16)
    sent, stalled = [0], threading.Event()

    def talk(peer: ServerConnection) -> None:
        with suppress(OSError):
            while True:
                peer.send(bytes(1 << 16))
                sent[0] += 1

    place = server(talk)
    stream = websocket.Messages(f"ws://{place}/", "cam", 5.0)
    before = -1
    while sent[0] != before:
        before = sent[0]
        stalled.wait(0.5)
    threads = threading.active_count()
    taken = sum(len(stream.read(1 << 20)) for _ in range(500))
    assert taken == 500 << 16, "it goes on"
    assert before < 400, "in the kernel, and some in ours"
    stream.close()
    assert threading.active_count() < threads
    assert stream.read(1) == b""


def test_it_is_watched(server):
    """With a model of ours: what is sent twice, with the outage between them."""

    def talk(peer: ServerConnection) -> None:
        for part in cut(STREAM, 4096):
            peer.send(part)
        time.sleep(2.0)  # for as long as it lasts

    place, gaps, said = server(talk), [], 0
    with mmworld.watch(f"ws://{place}/", allow_hosts=[place], policy=mmworld.Every(1.0)) as live:
        for event in live:
            gaps += [event] if isinstance(event, Gap) else []
            said += isinstance(event, mmworld.Caption)
            if len(gaps) >= 2:
                break
    assert {(g.modality, g.reason) for g in gaps} == {("video", "outage"), ("audio", "outage")}
    assert said >= 2


def test_a_sensor_is_watched(server, caplog):
    """What was left out is told when the connection ends."""
    lines = [json.dumps({"time": 1e9 + i / 16, "values": [i % 5, 0.5]}) for i in range(80)]
    place = server(sender([*lines[:40], "{", *lines[40:]]))
    with mmworld.watch(sensor=f"ws://{place}/imu", allow_hosts=[place], policy=mmworld.Every(2.0)) as live:
        event = next(iter(live))
        while "bad lines" not in caplog.text:
            time.sleep(0.01)
    assert isinstance(event, mmworld.Caption)
    assert event.end == 2.0, "whatever year its clock counts from"
    assert "ws://127.0.0.1/imu: bad lines" in caplog.text


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
@pytest.mark.parametrize("cycles", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_lost_and_found_again(server, cycles):
    """Each connection is dropped, many in the middle: a gap between any two, and nothing that grows."""
    count, at = [0], []

    def talk(peer: ServerConnection) -> None:
        count[0] += 1
        for part in cut(STREAM, 4096)[: None if count[0] % 2 else 20]:
            peer.send(part)
        peer.socket.shutdown(socket.SHUT_RDWR) if count[0] % 3 else peer.close(1012)

    place, now = server(talk), [0.0]

    def connect() -> Iterator[Chunk]:
        at.append((len(os.listdir("/proc/self/fd")), threading.active_count()))
        media = opened(place)
        return (Chunk(f.data[None], f.time, f.time + 0.1, "video") for f in frames(media, size=32))

    def sleep(seconds: float) -> None:
        now[0] += 3.0 + seconds  # as long as the stream that was sent, or longer

    shown, gaps, last = 0, 0, 0.0
    for item in again(connect, "cam", ("video",), clock=lambda: now[0], sleep=sleep, seed=1):
        assert item.start >= last - 1e-6, "one clock, never back"
        last = item.end
        gaps, shown = gaps + isinstance(item, Gap), shown + isinstance(item, Chunk)
        if count[0] > cycles:
            break
    assert gaps >= cycles - 2
    assert shown > cycles * 10
    assert max(n for n, _ in at[6:]) <= max(n for n, _ in at[:6]) + 2  # the server's side closes in its own time
    assert max(n for _, n in at[6:]) <= max(n for _, n in at[:6]) + 2
