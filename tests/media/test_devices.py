"""Cameras: what can be said of them without one. A transport stream stands in for the picture."""

from __future__ import annotations

import io
import socket
import time

import av
import pytest
from clips import clip

from mmworld.errors import SourceError
from mmworld.media.budget import Budget
from mmworld.media.devices import live, open_device
from mmworld.media.video import frames


@pytest.mark.parametrize(
    "address", ["http://h/x", "/etc/passwd", "/dev/../etc/passwd", "/dev/video0;x", "hls+http://h", ""]
)
def test_only_cameras_are_opened(address):
    with pytest.raises(SourceError) as caught:
        open_device(address)
    assert caught.value.code == "device"


def test_a_camera_that_is_not_there():
    with pytest.raises(SourceError) as caught:
        open_device("/dev/video987")
    assert caught.value.code == "missing"


def test_a_camera_that_says_nothing_is_given_up_and_its_password_kept():
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(SourceError) as caught:
            open_device(f"rtsp://me:secret@127.0.0.1:{server.getsockname()[1]}/x", timeout=0.5)
        assert time.monotonic() - start < 5
    assert caught.value.code == "network"
    assert "secret" not in str(caught.value)


def test_a_live_source_is_read_as_it_comes_and_once():
    media = live(av.open(io.BytesIO(clip(60, container="mpegts"))), "camera", "mpegts", Budget())
    assert media.kind == "video"
    reader = frames(media, fps=10, size=32)
    found = [next(reader) for _ in range(5)]
    assert [round(f.time, 6) for f in found] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert found[0].data.shape == (3, 32, 32)
    reader.close()
    with pytest.raises(SourceError, match="only once"):
        next(frames(media))
