"""Live sources: a webcam (Linux: /dev/videoN) or an RTSP camera, as a `Media` that is read once, as it comes."""

from __future__ import annotations

import math
import re
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import av

from mmworld.errors import SourceError
from mmworld.media import probe
from mmworld.media.budget import Budget
from mmworld.media.gate import Media
from mmworld.media.sniff import Format

_WEBCAM = re.compile(r"/dev/video\d+")
_RTSP = {"protocol_whitelist": "rtsp,rtp,tcp,udp", "rtsp_transport": "tcp", "max_delay": "500000"}


def is_device(address: str) -> bool:
    """Whether this names a camera rather than a file."""
    return bool(_WEBCAM.fullmatch(address)) or address.startswith("rtsp://")


def open_device(address: str, *, timeout: float = 10.0, budget: Budget | None = None) -> Media:
    """A camera at "/dev/video0" or "rtsp://…"; what it sends is bounded by nothing but the reader's own stops.

    Args:
        timeout: seconds without an answer, or without a packet, after which it counts as gone.

    Raises:
        SourceError: "device" (not such an address), "missing", or "network" when it does not answer.
        MediaError: its codec is not allowed, or it sends neither pictures nor sound.
    """
    budget = replace(budget or Budget(), frames=1 << 62, seconds=math.inf)
    if _WEBCAM.fullmatch(address):
        name, form, options = address, "video4linux2", {"protocol_whitelist": "file"}
    elif address.startswith("rtsp://"):
        name, form, options = f"rtsp://{urlsplit(address).hostname}", "rtsp", _RTSP
    else:
        raise SourceError("device", f"{address[:80]!r} is no camera", hint="/dev/video0 or rtsp://host/path")
    options = options | {"max_pixels": str(budget.pixels)}
    try:
        opened = av.open(address, format=form, options=options, timeout=(timeout, timeout))
    except (av.error.FFmpegError, OSError) as e:
        code = "network" if form == "rtsp" else "missing"
        raise SourceError(code, f"{name}: {str(e.strerror or e).lower()}") from None
    return live(opened, name, form, budget)


def live(opened: Any, name: str, words: str, budget: Budget) -> Media:
    """An av container that cannot be opened again, as a `Media`."""
    with ExitStack() as scope:
        scope.enter_context(opened)
        video, audio = probe.check(opened, name, budget)
        kind = "video" if video else "audio"
        media = Media(name, kind, Format(words, "video", words), None, False, budget, video=video, audio=audio)  # type: ignore[arg-type]
        media._live = opened, scope.pop_all()
    return media
