"""Live sources, as a `Media` that is read once, as it comes: webcam, microphone, screen, or a stream from a host that
is allowed.
"""

from __future__ import annotations

import math
import os
import re
import sys
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

import av

from mmworld.errors import SourceError
from mmworld.media import probe
from mmworld.media.budget import Budget
from mmworld.media.gate import Media
from mmworld.media.hls import open_hls
from mmworld.media.hosts import endpoint, require_host
from mmworld.media.sniff import Format
from mmworld.media.source import printable
from mmworld.media.tls import checked, distrust
from mmworld.media.websocket import open_websocket

_LOCAL = re.compile(r"/dev/video\d+|(?P<kind>mic|screen):(?P<name>[^\0\n]*)")
_REMOTE = re.compile(r"(?P<scheme>rtsps?|rtmps?|wss?)://.*|https://[^?#]*\.m3u8(\?.*)?", re.DOTALL)
_RTSP = {"rtsp_transport": "tcp", "max_delay": "500000"}
_NETWORK = {
    # without "rtsp" among the protocols FFmpeg follows no redirect
    "rtsp": ("rtsp", {"protocol_whitelist": "tcp", **_RTSP}),
    "rtsps": ("rtsp", {"protocol_whitelist": "tls,tcp", **_RTSP}),
    "rtmp": ("flv", {"protocol_whitelist": "rtmp,tcp", "format_whitelist": "flv"}),
    "rtmps": ("flv", {"protocol_whitelist": "rtmps,tls,tcp", "format_whitelist": "flv"}),
}
_ALSA = r"default|pulse|pipewire|(plughw|hw|sysdefault|dsnoop):[\w=,]+"
"""ALSA's other names can write files and run commands."""
_X11 = r":\d+(\.\d+)?"
"""A display of this machine: with a host before it X opens a socket."""
_INPUTS = {
    ("linux", "mic"): ("alsa", "{}", "default", _ALSA),
    ("linux", "screen"): ("x11grab", "{}", "", _X11),
    ("darwin", "mic"): ("avfoundation", ":{}", "default", r"[^:]+"),
    ("darwin", "screen"): ("avfoundation", "Capture screen {}:none", "0", r"\d+"),
    ("win32", "mic"): ("dshow", "audio={}", "", r"[^:]+"),
    ("win32", "screen"): ("gdigrab", "{}", "desktop", r"desktop|title=.+"),
}
"""By platform: FFmpeg's input, what it is told of a name, the name where none is given, and the names it may have."""


class _Input(NamedTuple):
    """What FFmpeg is told: a name for messages, the address, the input format and its options."""

    name: str
    address: str
    format: str
    options: dict[str, str]

    @property
    def encrypted(self) -> bool:
        return self.address.startswith(("rtsps:", "rtmps:"))


def is_device(address: str) -> bool:
    """Whether this names a live source rather than a file."""
    return bool(_LOCAL.fullmatch(address) or _REMOTE.fullmatch(address))


def open_device(
    address: str, *, allow_hosts: Sequence[str] = (), timeout: float = 10.0, budget: Budget | None = None
) -> Media:
    """A webcam "/dev/video0", a microphone "mic:" or "mic:NAME", the screen "screen:", a stream "rtsp://…", "rtsps://…",
    "rtmp://…", "rtmps://…", "ws://…", "wss://…" or a playlist "https://….m3u8".

    What it sends is bounded by nothing but the reader's own stops.

    Args:
        allow_hosts: "HOST[:PORT]" from which streams may come.
        timeout: seconds without an answer, or without a packet, after which it counts as gone.

    Raises:
        SourceError: "device" (not such an address), "missing", "forbidden" (its host is not allowed), or "network" when
            it does not answer.
        MediaError: its codec is not allowed, or it sends neither pictures nor sound.
    """
    budget = replace(budget or Budget(), frames=1 << 62, seconds=math.inf)
    remote = _REMOTE.fullmatch(address)
    if remote and remote["scheme"] in ("ws", "wss"):
        return open_websocket(address, require_host(address, allow_hosts), budget, timeout)
    how = _network(address, remote["scheme"], allow_hosts) if remote else _device(address)
    try:
        if how.format == "hls":
            opened = open_hls(address, allow_hosts, budget, timeout)
        else:
            safe = checked() if how.encrypted else {}
            options = how.options | safe | {"max_pixels": str(budget.pixels)}
            opened = av.open(how.address, format=how.format, options=options, timeout=(timeout, timeout))
    except (av.error.FFmpegError, OSError) as e:
        distrusted = distrust(*endpoint(address), timeout) if how.encrypted else ""
        reason = distrusted or str(getattr(e, "strerror", None) or e).lower()
        raise SourceError("network" if remote else "missing", f"{how.name}: {reason}") from None
    except ValueError:
        raise SourceError("missing", f"{how.name}: this FFmpeg has no input {how.format!r}") from None
    return live(opened, how.name, how.format, budget)


def _network(address: str, scheme: str | None, hosts: Sequence[str]) -> _Input:
    form, options = _NETWORK[scheme] if scheme else ("hls", {})
    return _Input(require_host(address, hosts), address, form, options)


def _device(address: str) -> _Input:
    match = _LOCAL.fullmatch(address)
    if match is None:
        hint = "/dev/video0, mic:, screen:, rtsp://, rtmp:// or ws://host/path, https://host/path.m3u8"
        raise SourceError("device", f"{printable(address, 80)!r} is no live source", hint=hint)
    options = {"protocol_whitelist": "file"}
    if match["kind"] is None:
        return _Input(address, address, "video4linux2", options)
    if (sys.platform, match["kind"]) not in _INPUTS:
        raise SourceError("missing", f"{match['kind']}: cannot be read on {sys.platform}")
    form, pattern, default, names = _INPUTS[sys.platform, match["kind"]]
    name = match["name"] or (os.environ.get("DISPLAY", "") if form == "x11grab" else default)
    if not re.fullmatch(names, name):
        said = f"{printable(name, 80)!r} names none" if name else "none is named, and there is no default"
        raise SourceError("device", f"{match['kind']}: {said}", hint=f"{match['kind']}:NAME, NAME as {form} has it")
    return _Input(address, pattern.format(name), form, options)


def live(opened: Any, name: str, words: str, budget: Budget) -> Media:
    """An av container that cannot be opened again, as a `Media`. It is closed at the latest with the media."""
    with ExitStack() as scope:
        scope.enter_context(opened)
        video, audio = probe.check(opened, name, budget)
        kind = "video" if video else "audio"
        media = Media(name, kind, Format(words, "video", words), None, False, budget, video=video, audio=audio)  # type: ignore[arg-type]
        kept = scope.pop_all()
        media.duration = opened.duration / av.time_base if (opened.duration or 0) > 0 else None
        weakref.finalize(media, kept.close)
        media._live = opened, kept
    return media
