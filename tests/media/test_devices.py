"""Live sources: what can be said of them without one. Files stand in for cameras, loopback servers for hosts."""

from __future__ import annotations

import io
import socket
import sys
import time

import av
import pytest
from clips import clip, tone

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
            open_device(
                f"rtsp://me:secret@127.0.0.1:{server.getsockname()[1]}/x", allow_hosts=["127.0.0.1"], timeout=0.5
            )
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


@pytest.fixture
def ffmpeg(monkeypatch) -> list[tuple[str, str]]:
    """What FFmpeg is asked for (address, format); a clip stands in for it."""
    asked: list[tuple[str, str]] = []
    opener, file = av.open, clip(30, container="mpegts", sound=tone(1.0))

    def stand_in(address, *, format, options, timeout):
        asked.append((address, format))
        return opener(io.BytesIO(file))

    monkeypatch.setattr(av, "open", stand_in)
    return asked


@pytest.mark.parametrize(
    ("platform", "address", "told"),
    [
        ("linux", "mic:", ("default", "alsa")),
        ("linux", "mic:hw:1,0", ("hw:1,0", "alsa")),
        ("linux", "screen:", (":7", "x11grab")),
        ("linux", "screen::1.0", (":1.0", "x11grab")),
        ("darwin", "mic:", (":default", "avfoundation")),
        ("darwin", "mic:Built-in Microphone", (":Built-in Microphone", "avfoundation")),
        ("darwin", "screen:1", ("Capture screen 1:none", "avfoundation")),
        ("win32", "mic:Stereo Mix", ("audio=Stereo Mix", "dshow")),
        ("win32", "screen:", ("desktop", "gdigrab")),
        ("win32", "screen:title=Notes", ("title=Notes", "gdigrab")),
    ],
)
def test_what_ffmpeg_is_told_of_microphones_and_screens(platform, address, told, ffmpeg, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("DISPLAY", ":7")
    assert open_device(address).has_audio
    assert ffmpeg == [told]


@pytest.mark.parametrize(
    ("platform", "address", "message"),
    [
        ("linux", "mic:file:'/tmp/x',raw", "mic: \"file:'/tmp/x',raw\" names none (mic:NAME, NAME as alsa has it)"),
        ("linux", "mic:tee:default", "mic: 'tee:default' names none (mic:NAME, NAME as alsa has it)"),
        ("linux", "screen:far.example:0", "screen: 'far.example:0' names none (screen:NAME, NAME as x11grab has it)"),
        ("linux", "screen:", "screen: none is named, and there is no default (screen:NAME, NAME as x11grab has it)"),
        ("win32", "mic:", "mic: none is named, and there is no default (mic:NAME, NAME as dshow has it)"),
        ("win32", "mic:a:video=b", "mic: 'a:video=b' names none (mic:NAME, NAME as dshow has it)"),
        ("sunos5", "mic:", "mic: cannot be read on sunos5"),
    ],
)
def test_names_that_are_no_microphone_or_screen(platform, address, message, ffmpeg, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(SourceError) as caught:
        open_device(address)
    assert str(caught.value) == message
    assert not ffmpeg


def test_an_input_that_this_ffmpeg_lacks(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32" if sys.platform != "win32" else "darwin")
    with pytest.raises(SourceError, match=r"screen:0?: this FFmpeg has no input '(gdigrab|avfoundation)'"):
        open_device("screen:")


def test_a_screen_that_is_not_there(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SourceError) as caught:
        open_device("screen::987")
    assert caught.value.code == "missing"
    assert "\n" not in str(caught.value)
