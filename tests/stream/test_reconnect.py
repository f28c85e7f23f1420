"""A server on the loopback that drops its connections, connected again and again: nothing is lost, nothing grows."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import pytest
from clips import clip

from mmworld.errors import SourceError
from mmworld.media.budget import Budget
from mmworld.media.devices import live
from mmworld.media.video import frames
from mmworld.stream.again import Backoff, again
from mmworld.types import Chunk, Gap

STREAM = clip(20, fps=10, container="mpegts")


@pytest.fixture
def port() -> Iterator[int]:
    """Sends a transport stream of two seconds, and drops the connection before its first byte, within, or after it."""
    listener, rng = socket.create_server(("127.0.0.1", 0)), random.Random(3)

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer, suppress(OSError):
                    peer.sendall(STREAM[: rng.choice([0, rng.randrange(len(STREAM)), len(STREAM)])])

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def connect(port: int) -> Iterator[Chunk]:
    """One connection, as `open_device` makes it, but that no `--allow-host` allows plain TCP."""
    try:
        opened = av.open(f"tcp://127.0.0.1:{port}", format="mpegts", timeout=(10.0, 10.0))
        media = live(opened, "cam", "mpegts", Budget())
    except av.error.FFmpegError as e:
        raise SourceError("network", f"cam: {e}") from None
    for frame in frames(media, size=32):
        yield Chunk(frame.data[None], frame.time, frame.time + 0.1, "video")


def held() -> tuple[int, int]:
    """Bytes in memory, and open files, of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("cycles", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_lost_and_found_again(port: int, cycles: int) -> None:
    now, connections = 0.0, 0
    at: list[tuple[int, int]] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def counted() -> Iterator[Chunk]:
        nonlocal connections
        connections += 1
        at.append(held())
        return connect(port)

    items = again(counted, "cam", ("video",), backoff=Backoff(), clock=lambda: now, sleep=sleep, seed=1)
    seen, last = 0, None
    for item in items:
        if last is not None:
            assert item.start >= last.end - 1e-6, "one clock, never back"
        if isinstance(item, Gap):
            assert item.reason == "outage"
        else:
            seen += 1
        last = item
        if connections > cycles:
            break
    assert seen > cycles, "most connections gave pictures"
    (early, files), (late, files_late) = at[cycles // 4], at[-1]
    assert files_late <= files
    assert late - early < (16 << 20)
